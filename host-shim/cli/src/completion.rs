//! Completion in shells: the script that `completions` prints asks this program for each word.

use std::ffi::OsString;

use clap::{Arg, Command, CommandFactory, Parser};
use clap_complete::env::{CompleteEnv, Shells};
use clap_complete::{ArgValueCandidates, CompletionCandidate};
use patchbay_host::ops;
use patchbay_host::sandbox::{self, Sandbox};
use patchbay_types::failure::{Failure, Kind};
use patchbay_types::ipvs::Sysctl;

use crate::args::{CommandLine, CompletionsArgs, Program};
use crate::config::Config;
use crate::kata_link;

/// Variable by which the script asks.
const VARIABLE: &str = "PATCHBAY_COMPLETE";

/// Schedulers of Linux (`net/netfilter/ipvs/ip_vs_*.c`).
const SCHEDULERS: [&str; 13] = [
    "rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh",
];

/// Returns the script for a shell.
pub(crate) fn script(args: &CompletionsArgs) -> Result<String, Failure> {
    let shells = Shells::builtins();
    let known = shells.completer(&args.shell);
    let shell = known.ok_or_else(|| Failure::new(Kind::Invalid, "unknown shell"))?;
    let (name, mut script) = (name(args.program), Vec::new());
    let written = shell.write_registration(VARIABLE, name, name, name, &mut script);
    written.map_err(|error| Failure::of_io("could not write the script", &error))?;
    Ok(String::from_utf8_lossy(&script).into_owned())
}

/// Returns the name of a program's command.
fn name(program: Program) -> &'static str {
    match program {
        Program::Patchbay => "patchbay",
        Program::KataRuntime => kata_link::NAME,
    }
}

/// Prints candidates and exits if a script asks.
pub(crate) fn complete(program: Option<&str>) {
    let command = if program == Some(kata_link::NAME) {
        || of_link(CommandLine::command())
    } else {
        CommandLine::command
    };
    CompleteEnv::with_factory(move || with_values(command()))
        .var(VARIABLE)
        .complete();
}

/// Returns the commands of the link.
fn of_link(command: Command) -> Command {
    command.mut_subcommands(|command| {
        let is_own = kata_link::OWN.contains(&command.get_name());
        command.hide(!is_own)
    })
}

/// Adds the values of this host.
fn with_values(command: Command) -> Command {
    let name = command.get_name().to_owned();
    let has_cards = command
        .get_arguments()
        .any(|arg| arg.get_id() == "mac" || arg.get_id() == "no_ip");
    let set = |arg: Arg| {
        let candidates = match (arg.get_id().as_str(), name.as_str()) {
            ("id" | "ids", _) => ArgValueCandidates::new(sandboxes),
            ("name", "set") if !has_cards => ArgValueCandidates::new(sysctls),
            ("name", "del" | "set" | "apply" | "show") | ("device" | "dev" | "card", _) => {
                ArgValueCandidates::new(cards)
            }
            ("words", "ipvs") => ArgValueCandidates::new(schedulers),
            _ => return arg,
        };
        arg.add(candidates)
    };
    command.mut_args(set).mut_subcommands(with_values)
}

/// Lists the sandboxes that the environment and the configuration lead to.
fn found() -> Vec<Sandbox> {
    let Ok(mut args) = CommandLine::try_parse_from(["patchbay", "list"]) else {
        return Vec::new();
    };
    args.global.named = Config::read().map(Config::machines).unwrap_or_default();
    sandbox::all(&args.global.lookup()).unwrap_or_default()
}

fn sandboxes() -> Vec<CompletionCandidate> {
    let found = found().into_iter();
    found
        .map(|sandbox| CompletionCandidate::new(sandbox.id.to_string()))
        .collect()
}

/// Lists the cards of the sandbox that the command line names, or of all.
fn cards() -> Vec<CompletionCandidate> {
    let words: Vec<OsString> = std::env::args_os().collect();
    let mut found = found();
    let is_named = |sandbox: &Sandbox| words.iter().any(|word| word == sandbox.id.as_str());
    if found.iter().any(is_named) {
        found.retain(is_named);
    }
    let names = found
        .iter()
        .flat_map(|sandbox| ops::card_names(sandbox).unwrap_or_default());
    names.map(CompletionCandidate::new).collect()
}

fn sysctls() -> Vec<CompletionCandidate> {
    Sysctl::all()
        .map(|sysctl| CompletionCandidate::new(sysctl.name()))
        .collect()
}

/// Lists the schedulers behind ipvsadm's option for them.
fn schedulers() -> Vec<CompletionCandidate> {
    let words: Vec<OsString> = std::env::args_os().collect();
    match words.iter().rev().nth(1) {
        Some(option) if option == "-s" || option == "--scheduler" => {
            SCHEDULERS.map(CompletionCandidate::new).into()
        }
        _ => Vec::new(),
    }
}
