//! `patchbay-cni`: a CNI plugin that gives a machine a card for a link which an earlier plugin of the
//! list has made in the network namespace of the pod.
//!
//! Without a machine it does nothing: when a pod starts, Kata takes the links over by itself, and a pod
//! of another runtime needs none.

mod config;
mod env;
mod error;
pub(crate) mod install;
mod machine;
mod operations;
mod result;
mod status;
mod version;

use std::io::{self, Read, Write};
use std::process::ExitCode;

use patchbay_types::failure::{Failure, Kind};
use serde_json::value::RawValue;

use crate::durations::{Clock, CommandResult};
use crate::events;
use crate::host_file::HostFile;
use crate::output::print_error;
use crate::signals::Signals;
use config::{Network, Options};
use env::{Command, Operation, Target};
use error::{CniError, Code};
use version::Version;

/// File name that selects the plugin.
pub(crate) const NAME: &str = "patchbay-cni";

/// Limit for standard input.
const MAX_INPUT_BYTES: u64 = 1 << 20;

/// Executes the operation of the environment, with the configuration of standard input.
pub(crate) fn run() -> ExitCode {
    let clock = Clock::start();
    events::collect(events::LogLevel::Warn, None);
    let mut version = Version::LATEST;
    let variable = |name: &str| std::env::var_os(name);
    let host = HostFile::read();
    let run_dir = host.as_ref().ok().map(HostFile::run_dir);
    let signals = Signals::default();
    let outcome = signals.watch().map_err(|error| {
        let failure = Failure::of_io("could not receive signals", &error);
        CniError::new(Code::Other, failure)
    });
    let outcome = outcome.and_then(|()| {
        execute(
            &variable,
            &mut io::stdin().lock(),
            host,
            &mut version,
            &signals,
        )
    });
    let (text, code, result) = match outcome {
        Ok(reply) => (reply, ExitCode::SUCCESS, CommandResult::Success),
        Err(error) => {
            // The runtime may log only this one.
            print_error(&format!("{NAME}: {}\n", error.line()));
            let document = error.document(version);
            (document, ExitCode::FAILURE, CommandResult::Failure)
        }
    };
    let printed = io::stdout().write_all(text.as_bytes());
    if let (Ok(Command::Run(operation)), Some(run_dir)) = (Command::read(&variable), run_dir) {
        clock.stop(&run_dir, operation.name(), result);
    }
    if printed.is_err() {
        ExitCode::FAILURE
    } else {
        code
    }
}

/// Returns the reply, and stores the version of the configuration.
fn execute(
    variable: env::Lookup<'_>,
    input: &mut dyn Read,
    host: Result<HostFile, Failure>,
    version: &mut Version,
    signals: &Signals,
) -> Result<String, CniError> {
    let operation = match Command::read(variable)? {
        Command::Version => return Ok(Version::reply()),
        Command::Run(operation) => operation,
    };
    let text = read(input)?;
    let network = Network::parse(&text)?;
    *version = network.version;
    // Not a fault of the configuration.
    let host = host.map_err(|failure| CniError::new(Code::Other, failure))?;
    let lookup = host.lookup(signals.interrupt.clone());
    let interrupted = Failure::new(Kind::NotYet, "interrupted by a signal: nothing was changed");
    signals.print_at_end(CniError::from(interrupted).document(network.version));
    match operation {
        Operation::Add => {
            let target = Target::read(variable)?;
            let options = Options::parse(&text, host.max_queues)?;
            result::check(&text, &target.ifname)?;
            operations::add(&lookup, &network, &options, &target)?;
            // Exactly as the plugin before printed it. Programs take an interface that is added to it for the
            // attachment's.
            return Ok(network.prev_result.map_or("", RawValue::get).to_owned());
        }
        Operation::Del => operations::del(&lookup, &network, &Target::read(variable)?)?,
        Operation::Check => operations::check(&lookup, &network, &Target::read(variable)?)?,
        Operation::Gc => {
            let valid = config::valid_attachments(&text)?;
            operations::gc(&lookup, &network, valid.as_deref())?;
        }
        Operation::Status => status::check(&lookup.run_dir)?,
    }
    Ok(String::new())
}

fn read(input: &mut dyn Read) -> Result<Vec<u8>, CniError> {
    let mut text = Vec::new();
    let message = "could not read standard input";
    let not_read = |failure| CniError::new(Code::InputNotRead, failure);
    input
        .take(MAX_INPUT_BYTES + 1)
        .read_to_end(&mut text)
        .map_err(|error| not_read(Failure::of_io(message, &error)))?;
    if text.len() as u64 > MAX_INPUT_BYTES {
        let failure = Failure::new(Kind::Invalid, message).with_cause("it has more than 1 MiB");
        return Err(not_read(failure));
    }
    Ok(text)
}

/// Parses everything that a runtime passes. Returns the result of ADD, or the document of the error.
#[cfg(feature = "fuzzing")]
pub(crate) fn parse(variable: env::Lookup<'_>, text: &[u8]) -> Result<String, String> {
    let mut version = Version::LATEST;
    let mut parsed = || -> Result<String, CniError> {
        Command::read(variable)?;
        let target = Target::read(variable)?;
        let network = Network::parse(text)?;
        version = network.version;
        config::valid_attachments(text)?;
        Options::parse(text, None)?;
        result::check(text, &target.ifname)?;
        Ok(network.prev_result.map_or("", RawValue::get).to_owned())
    };
    parsed().map_err(|error| error.document(version))
}
