//! `watch` as a service.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use patchbay_host::sandbox::Sandbox;
use patchbay_host::watch::{Change, Observer, Service};
use patchbay_types::failure::{Failure, Kind};

use super::policy;
use crate::args::{GlobalArgs, SandboxArg, WatchArgs};
use crate::output::json_line;
use crate::output::watch::ChangeRow;
use crate::output::{DocumentFormat, OutputFormat};
use crate::signals::Redirection;
use crate::systemd::ServiceManager;

/// Watches until a signal comes.
pub(super) fn run(global: &GlobalArgs, args: &WatchArgs) -> Result<(), Failure> {
    global.await_each(&args.ids)?;
    let lookup = global.lookup();
    let select = || present(global, args);
    let (service, control) = Service::new(&lookup, &select, policy(global, args))?;
    let control = Arc::new(control);
    let reload = Arc::clone(&control);
    global.signals.redirect(Redirection {
        stop: Box::new(move || control.stop()),
        reload: Some(Box::new(move || reload.reload())),
    });
    service.run(&mut Printer {
        manager: ServiceManager::of_environment(),
        format: args.format.format(),
        is_ready: false,
    })
}

/// Finds the sandboxes of the command line that exist now; `None` without any.
fn present(global: &GlobalArgs, args: &WatchArgs) -> Result<Option<Vec<Sandbox>>, Failure> {
    if args.ids.is_empty() {
        return Ok(None);
    }
    let mut found = Vec::new();
    for id in &args.ids {
        match global.find_present(&SandboxArg { id: id.clone() }) {
            Ok(sandbox) => found.push(sandbox),
            Err(absent) if absent.kind() == Kind::NotFound => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok(Some(found))
}

/// Prints changes on standard output and failures on standard error, and informs the service manager.
struct Printer {
    manager: ServiceManager,
    format: OutputFormat,
    is_ready: bool,
}

impl Observer for Printer {
    fn watching(&mut self, sandboxes: usize) {
        let ready = if self.is_ready { "" } else { "READY=1\n" };
        self.is_ready = true;
        let states = format!("{ready}STATUS=Sandboxes: {sandboxes}");
        self.manager.notify(&states);
    }

    fn alive(&mut self) {
        self.manager.notify("WATCHDOG=1");
    }

    fn interval(&self) -> Option<Duration> {
        self.manager.interval
    }

    fn changed(&mut self, sandbox: &Sandbox, changes: &[Change]) {
        for change in changes {
            let text = match self.format {
                OutputFormat::Json => json_line(&ChangeRow::new(&sandbox.id, change)),
                OutputFormat::Yaml => {
                    DocumentFormat::Yaml.render(&ChangeRow::new(&sandbox.id, change))
                }
                OutputFormat::Table => {
                    let Change { link, card, action } = change;
                    Ok(format!(
                        "{}: {action} {card} for the link {link}\n",
                        sandbox.id
                    ))
                }
            };
            // A reader that has gone must not end the service.
            let mut out = io::stdout();
            let _ = text.map(|text| out.write_all(text.as_bytes()).and_then(|()| out.flush()));
        }
    }

    fn failed(&mut self, sandbox: Option<&Sandbox>, failures: &[Failure]) {
        for failure in failures {
            let line = failure.line();
            let of = sandbox.map(|sandbox| format!("sandbox {}: ", sandbox.id));
            tracing::warn!("{}{line}", of.unwrap_or_default());
        }
    }

    fn stopping(&mut self) {
        self.manager.notify("STOPPING=1");
    }
}
