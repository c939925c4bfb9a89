//! `metrics` and `exporter`.

use patchbay_host::{ops, sandbox};
use patchbay_types::failure::{Failure, Kind};

use crate::args::{ExporterArgs, GlobalArgs, MetricsArgs, ScopeArgs};
use crate::output::metrics::{MetricsFormat, Scraped, metrics};
use crate::{durations, exporter};

/// Prints the metrics once.
pub(super) fn print(global: &GlobalArgs, args: &MetricsArgs) -> Result<String, Failure> {
    global.await_each(&args.scope.ids)?;
    check_known(global, &args.scope)?;
    scrape(global, &args.scope, args.format)
}

/// Serves the metrics until a signal ends the process.
pub(super) fn serve(global: &GlobalArgs, args: &ExporterArgs) -> Result<String, Failure> {
    global.await_each(&args.scope.ids)?;
    let address = args.listen;
    if !(address.ip().is_loopback() || args.public) {
        let rule = format!(
            "listen '{address}' is not allowed: other machines could reach it, give --public or a loopback address"
        );
        return Err(Failure::new(Kind::Invalid, rule).with_field("--listen"));
    }
    if let Err(unknown) = check_known(global, &args.scope) {
        tracing::warn!("{}", unknown.line());
    }
    exporter::serve(address, |format| scrape(global, &args.scope, format))
}

/// Checks that each ID is that of a sandbox, or a prefix. Later they can be gone.
fn check_known(global: &GlobalArgs, scope: &ScopeArgs) -> Result<(), Failure> {
    if scope.ids.is_empty() {
        return sandbox::warn_of_left_out(&global.lookup());
    }
    let sandboxes = sandbox::all(&global.lookup())?;
    let is_unknown = |id: &&String| {
        let mut known = sandboxes.iter().map(|sandbox| sandbox.id.as_str());
        !known.any(|known| known.starts_with(id.as_str()))
    };
    let Some(unknown) = scope.ids.iter().find(is_unknown) else {
        return Ok(());
    };
    let message = format!("no sandbox has the ID '{unknown}', or one that begins with it");
    Err(Failure::new(Kind::NotFound, message).with_field("id"))
}

fn scrape(
    global: &GlobalArgs,
    scope: &ScopeArgs,
    format: MetricsFormat,
) -> Result<String, Failure> {
    let values = Scraped {
        scrapes: ops::scrape(&global.lookup(), &scope.ids)?,
        durations: durations::read(global.run_dir()),
        top: usize::try_from(scope.top).unwrap_or(usize::MAX),
    };
    metrics(values, format).map_err(|error| Failure::of(Kind::Other, &error))
}
