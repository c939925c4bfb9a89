//! `patchbay-agent`: reads its command line, drops privileges, undoes an interrupted change of IPVS, serves.

use std::error::Error;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use patchbay_agent::config::{Config, HELP, Invocation};
use patchbay_agent::listeners::Listeners;
use patchbay_agent::loader;
use patchbay_agent::log::{self, LogLevel};
use patchbay_agent::namespaces::{self, Namespaces};
use patchbay_agent::privileges::{self, Profile};
use patchbay_agent::readiness::Readiness;
use patchbay_agent::server::{AgentServer, Lifetime};
use patchbay_netcfg::device::Sysfs;
use patchbay_netcfg::managers::CardMarks;
use patchbay_netcfg::modules::Loader;
use patchbay_netcfg::ops::Netcfg;
use slog::{Logger, crit, o, warn};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let log = log::on_standard_output(LogLevel::default());
            crit!(log, "the agent ends"; "error" => error.to_string(), "cause" => cause(&*error));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    let first = args.first().map(String::as_str);
    if first == Some(loader::OPTION) {
        return Ok(loader::run()?);
    }
    let supervises = first == Some(namespaces::OPTION);
    if supervises {
        args.remove(0);
    }
    let config = match Invocation::parse(args.iter().cloned())? {
        Invocation::Help => return Ok(std::io::stdout().write_all(HELP.as_bytes())?),
        Invocation::Version => return Ok(writeln!(std::io::stdout(), "{VERSION}")?),
        Invocation::Serve(config) => config,
    };
    if supervises {
        // The agent reports the limits that the kernel lacks.
        privileges::confine(Profile::Supervisor, &config.folders(), |_| {})?;
        return Ok(namespaces::supervise(config.into())?);
    }
    let log = log::on_standard_output(config.log_level);
    serve(config, &args, &log)
}

/// Text of `--version`.
const VERSION: &str = concat!("patchbay-agent ", env!("CARGO_PKG_VERSION"));

fn serve(config: Config, args: &[String], log: &Logger) -> Result<(), Box<dyn Error>> {
    privileges::raise_priority();
    if let Err(error) = privileges::exempt_from_oom_killer() {
        warn!(log, "the agent can be killed when memory runs out"; "error" => error.to_string());
    }
    // Needs CAP_NET_BIND_SERVICE.
    let listeners = Listeners::open(config.listen.as_ref())?;
    let lacking = |error: &privileges::Error| report_lacking(log, error);
    privileges::give_files(&config.folders()).unwrap_or_else(|error| lacking(&error));
    let namespaces = match &config.netns {
        Some(netns) => {
            namespaces::enter(netns, listeners.port())?;
            None
        }
        None => other_namespaces(args, config.helpers.as_deref(), log),
    };
    let modules = module_loader(config.helpers.as_deref(), log);
    let readiness = readiness(&config, log);
    privileges::confine(Profile::Agent, &config.folders(), lacking)?;
    let lifetime = match config.netns {
        Some(_) => {
            namespaces::end_with_supervisor()?;
            Lifetime::UntilIdle
        }
        None => Lifetime::Unlimited,
    };
    let sysfs = Sysfs::at(&config.sysfs);
    let netcfg = Netcfg::open(sysfs, config.ethtool, config.undo_log, modules)?;
    let netcfg = netcfg.with_marks(config.card_marks.map(CardMarks::at));
    match netcfg.ipvs.recover() {
        Ok(false) => {}
        Ok(true) => warn!(log, "an interrupted change of IPVS was undone"),
        Err(error) => crit!(log, "could not undo an interrupted change of IPVS";
            "error" => error.to_string(), "cause" => cause(&error)),
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let server = AgentServer {
        netcfg,
        namespaces,
        lifetime,
        readiness,
        log: log.new(o!()),
    };
    runtime.block_on(server.serve(listeners))?;
    Ok(())
}

/// Reports a limit that the kernel or the service manager does not let the agent set.
fn report_lacking(log: &Logger, error: &privileges::Error) {
    warn!(log, "the agent runs with fewer limits"; "error" => error.to_string(), "cause" => cause(error));
}

/// Starts the supervisor of agents in other namespaces. Without it, the rest works.
fn other_namespaces(args: &[String], helpers: Option<&Path>, log: &Logger) -> Option<Namespaces> {
    let started = match helpers {
        Some(folder) => Namespaces::connect(folder),
        None => Namespaces::start(args),
    };
    let failed = |error: &std::io::Error| {
        warn!(log, "other network namespaces can't be served"; "error" => error.to_string());
    };
    started.inspect_err(failed).ok()
}

/// Starts the process that loads modules. Without it, those that are loaded or built in can be used.
fn module_loader(helpers: Option<&Path>, log: &Logger) -> Loader {
    loader::start(helpers).unwrap_or_else(|error| {
        warn!(log, "kernel modules can't be loaded"; "error" => error.to_string());
        Loader::default()
    })
}

/// Connects to the service manager of the first agent. Without it, a manager that waits ends the agent.
fn readiness(config: &Config, log: &Logger) -> Option<Readiness> {
    if config.netns.is_some() {
        return None;
    }
    let connected = Readiness::of_environment();
    let failed = |error: &std::io::Error| {
        warn!(log, "the service manager can't be notified"; "error" => error.to_string());
    };
    connected.inspect_err(failed).ok().flatten()
}

fn cause(error: &dyn Error) -> String {
    error.source().map(ToString::to_string).unwrap_or_default()
}
