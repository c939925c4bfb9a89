//! `watch`.

mod service;

use patchbay_host::sandbox::Sandbox;
use patchbay_host::watch::{self, Policy, Report, Stop, Watched};
use patchbay_types::failure::{Failure, Kind};

use crate::args::{GlobalArgs, SandboxArg, WatchArgs};
use crate::output::Outcome;
use crate::output::watch::{COLUMNS, ChangeRow};
use crate::signals::Redirection;

/// Runs the command.
pub(super) fn run(global: &GlobalArgs, args: &WatchArgs) -> Outcome {
    if args.ids.is_empty()
        && let Err(failure) = global.lookup_to_follow("messages")
    {
        return Outcome::silent_or(Err(failure));
    }
    if !args.once {
        return Outcome::silent_or(service::run(global, args).map(|()| String::new()));
    }
    let stop = Stop::default();
    let requested = stop.clone();
    global.signals.redirect(Redirection {
        stop: Box::new(move || requested.request()),
        reload: None,
    });
    once(global, args, &stop).unwrap_or_else(|failure| Outcome::silent_or(Err(failure)))
}

/// Makes, or previews, the changes of each sandbox; goes on after a failure.
fn once(global: &GlobalArgs, args: &WatchArgs, stop: &Stop) -> Result<Outcome, Failure> {
    let selected = selected(global, args)?;
    let found = watch::discover(&global.lookup(), selected.as_deref())?;
    let policy = policy(global, args);
    let (mut rows, mut failures) = (Vec::new(), found.failures);
    for watched in &found.watched {
        let report = if args.dry_run {
            watch::preview(watched, &policy)
        } else {
            watch::reconcile(watched, &policy, stop)
        };
        let Report {
            changes,
            failures: failed,
            ..
        } = report;
        let id = &watched.sandbox.id;
        rows.extend(changes.iter().map(|change| ChangeRow::new(id, change)));
        failures.extend(
            failed
                .into_iter()
                .map(|failure| in_sandbox(watched, failure)),
        );
    }
    if stop.is_requested() {
        failures.push(Failure::new(Kind::Other, "the command was stopped"));
    }
    let text = args.format.format().render(COLUMNS, &rows)?;
    let Some(last) = failures.pop() else {
        return Ok(Outcome::succeeded(text));
    };
    for failure in failures {
        tracing::warn!("{}", failure.line());
    }
    Ok(Outcome::failed(text, last))
}

fn in_sandbox(watched: &Watched, failure: Failure) -> Failure {
    failure.context(format!("sandbox {}", watched.sandbox.id))
}

fn policy(global: &GlobalArgs, args: &WatchArgs) -> Policy {
    Policy {
        exclude: args.exclude.clone(),
        wait: global.timeout,
    }
}

/// Finds the sandboxes of the command line; `None` without any.
fn selected(global: &GlobalArgs, args: &WatchArgs) -> Result<Option<Vec<Sandbox>>, Failure> {
    if args.ids.is_empty() {
        return Ok(None);
    }
    let found = args.ids.iter().map(|id| find(global, id));
    found.collect::<Result<_, _>>().map(Some)
}

fn find(global: &GlobalArgs, id: &str) -> Result<Sandbox, Failure> {
    global.find(&SandboxArg { id: id.to_owned() })
}
