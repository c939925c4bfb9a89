//! `monitor`.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::time::Duration;
use std::{process, thread};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use patchbay_host::events::{self, Event, Scope};
use patchbay_types::failure::Failure;

use crate::args::{GlobalArgs, MonitorArgs, SandboxArg};
use crate::output::events::{EventRow, line};
use crate::output::{DocumentFormat, OutputFormat, json_line, print_error, unprinted};

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
        ipvs_interval: args.ipvs.map(|seconds| Duration::from_secs(seconds.into())),
    };
    let format = args.format.format();
    end_without_reader()?;
    events::follow(scope, &mut |event| print(event, args, format))?;
    Ok(String::new())
}

/// Ends the process when nobody reads its output any more, also while no event comes.
fn end_without_reader() -> Result<(), Failure> {
    let wait = || {
        let out = io::stdout();
        // Reports POLLERR and POLLHUP only, which regular files never have.
        let mut fds = [PollFd::new(out.as_fd(), PollFlags::empty())];
        while poll(&mut fds, PollTimeout::NONE) == Err(Errno::EINTR) {}
        let failure = unprinted(&Errno::EPIPE.into());
        print_error(&format!("patchbay: {}\n", failure.line()));
        process::exit(failure.kind().exit_code().into());
    };
    let started = thread::Builder::new().spawn(wait);
    let started = started.map_err(|error| Failure::of_io("could not start a thread", &error));
    started.map(drop)
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
