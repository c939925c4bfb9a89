//! `patchbay-agent`: reads its settings, opens its sockets, serves.

use std::error::Error as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use patchbay_agent::config::Config;
use patchbay_agent::privileges;
use patchbay_agent::server;
use patchbay_netcfg::device::Sysfs;
use patchbay_netcfg::ops::Netcfg;
use slog::{Logger, crit, o, warn};

fn main() -> ExitCode {
    let log = patchbay_agent::log::root();
    match run(&log) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let cause = error.source().map(ToString::to_string).unwrap_or_default();
            crit!(log, "the agent ends"; "error" => error.to_string(), "cause" => cause);
            ExitCode::FAILURE
        }
    }
}

fn run(log: &Logger) -> Result<(), Box<dyn std::error::Error>> {
    let config = Config::parse(std::env::args().skip(1))?;
    privileges::take_precedence();
    privileges::drop_capabilities()?;
    if let Err(error) = privileges::filter_calls() {
        // A kernel without filters is no reason to leave a sandbox without its agent.
        warn!(log, "system calls are not filtered"; "error" => error.to_string(),
            "cause" => error.source().map(ToString::to_string).unwrap_or_default());
    }
    let sysfs = Sysfs::at(&config.sysfs);
    let services = Arc::new(Netcfg::open(sysfs, config.ethtool, config.undo_log)?);
    match services.ipvs().recover() {
        Ok(None) => {}
        Ok(Some(_)) => warn!(log, "a rule file that was not carried out whole is undone"),
        Err(error) => crit!(log, "a rule file that was not carried out whole is not undone";
            "error" => error.to_string(),
            "cause" => error.source().map(ToString::to_string).unwrap_or_default()),
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(server::IN_FLIGHT)
        .thread_keep_alive(Duration::from_secs(1))
        .build()?;
    runtime.block_on(server::serve(&config.listen, services, log.new(o!())))?;
    Ok(())
}
