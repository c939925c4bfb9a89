//! `metrics` and `exporter`.

use patchbay_host::ops;
use patchbay_types::failure::{Failure, Kind};

use crate::args::{ExporterArgs, GlobalArgs, MetricsArgs, ScopeArgs};
use crate::exporter;
use crate::output::metrics::{MetricsFormat, metrics};

/// Prints the metrics once.
pub(super) fn print(global: &GlobalArgs, args: &MetricsArgs) -> Result<String, Failure> {
    global.await_each(&args.scope.ids)?;
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
    exporter::serve(address, |format| scrape(global, &args.scope, format))
}

fn scrape(
    global: &GlobalArgs,
    scope: &ScopeArgs,
    format: MetricsFormat,
) -> Result<String, Failure> {
    let scrapes = ops::scrape(&global.lookup(), &scope.ids)?;
    let top = usize::try_from(scope.top).unwrap_or(usize::MAX);
    metrics(scrapes, top, format).map_err(|error| Failure::of(Kind::Other, &error))
}
