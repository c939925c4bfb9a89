//! `monitor`.

use std::io::{self, Write};

use patchbay_host::events::{self, Event, Scope};
use patchbay_types::failure::Failure;

use crate::args::{GlobalArgs, MonitorArgs, SandboxArg};
use crate::output::events::{EventRow, line};
use crate::output::{DocumentFormat, OutputFormat, json_line, unprinted};

/// Prints events until a signal comes.
pub(super) fn run(global: &GlobalArgs, args: &MonitorArgs) -> Result<String, Failure> {
    let lookup = match args.ids[..] {
        [] => global.lookup_to_follow("events")?,
        _ => global.lookup(),
    };
    // A mistyped ID would never have an event.
    let find = |id: &String| global.find(&SandboxArg { id: id.clone() });
    let ids = args.ids.iter().map(|id| Ok(find(id)?.id.to_string()));
    let scope = Scope {
        lookup,
        ids: ids.collect::<Result<_, Failure>>()?,
    };
    let format = args.format.format();
    events::follow(scope, &mut |event| print(event, args, format))?;
    Ok(String::new())
}

fn print(event: &Event, args: &MonitorArgs, format: OutputFormat) -> Result<(), Failure> {
    let row = EventRow::new(event);
    let text = match format {
        OutputFormat::Json => json_line(&row)?,
        OutputFormat::Yaml => DocumentFormat::Yaml.render(&row)?,
        OutputFormat::Table if args.timestamp => format!("[{:.3}] {}", row.time(), line(event)),
        OutputFormat::Table => line(event),
    };
    let mut out = io::stdout();
    let printed = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    printed.map_err(|error| unprinted(&error))
}
