//! `kata-runtime`: a link to this program that replaces the command in scripts.
//!
//! `kata-network` and `kata-ipvs` are patchbay's; every other command line is that of the program which
//! the configuration names, unchanged.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use patchbay_types::failure::{Failure, Kind};

use crate::args::trailing::{NextWord, OwnOption, own_options};
use crate::config::Config;
use crate::output::print_error;

/// File name that selects this program.
pub(crate) const NAME: &str = "kata-runtime";

/// Commands of patchbay.
pub(crate) const OWN: [&str; 2] = ["kata-network", "kata-ipvs"];

/// Options of Kata's and openEuler's program that have a value. They can precede patchbay's commands, for
/// which they mean nothing.
const WITH_VALUE: [&str; 6] = [
    "config",
    "kata-config",
    "log",
    "log-format",
    "root",
    "rootless",
];
/// Those without.
const FLAGS: [&str; 2] = ["debug", "systemd-cgroup"];

/// Command line behind a link.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Words<'a> {
    /// A command of patchbay, without the other program's options.
    Own(Vec<OsString>),
    /// Words for the other program.
    Other(&'a [OsString]),
}

/// Decides which program a command line is for.
pub(crate) fn split(line: &[OsString]) -> Words<'_> {
    let (program, words) = line.split_at(line.len().min(1));
    let known = own_options(&[], &["help", "version"]);
    let mut own = program.to_vec();
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        let text = word.to_str().unwrap_or_default();
        if OWN.contains(&text) {
            own.push(word.clone());
            own.extend(rest.cloned());
            return Words::Own(own);
        }
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        let Some((origin, next)) = option(name, &known) else {
            break;
        };
        let value = rest
            .by_ref()
            .take(usize::from(next == NextWord::IsValue && value.is_none()));
        match origin {
            Origin::Patchbay => own.extend([word].into_iter().chain(value).cloned()),
            Origin::Kata => value.for_each(drop),
        }
    }
    Words::Other(words)
}

/// Program that has an option.
#[derive(Debug, Clone, Copy)]
enum Origin {
    Patchbay,
    Kata,
}

/// Classifies an option in front of a command. Go's programs accept a single dash too.
fn option(name: &str, known: &[OwnOption]) -> Option<(Origin, NextWord)> {
    let long = name.strip_prefix("--");
    let single = long.or(name.strip_prefix('-'))?;
    let own = known.iter().find(|(own, _)| Some(own.as_str()) == long);
    if let Some((_, next)) = own {
        return Some((Origin::Patchbay, *next));
    }
    if WITH_VALUE.contains(&single) {
        return Some((Origin::Kata, NextWord::IsValue));
    }
    FLAGS
        .contains(&single)
        .then_some((Origin::Kata, NextWord::IsOther))
}

/// Becomes the other program; returns if it can't.
pub(crate) fn run(words: &[OsString]) -> ExitCode {
    let failure = match Config::read() {
        Ok(config) => become_other(config.kata_runtime.path.as_deref(), words),
        Err(failure) => failure,
    };
    print_error(&format!("{NAME}: {}\n", failure.line()));
    ExitCode::from(failure.kind().exit_code())
}

fn become_other(path: Option<&Path>, words: &[OsString]) -> Failure {
    let Some(path) = path else {
        let shown = words
            .first()
            .map_or("no command".into(), |word| word.to_string_lossy());
        let message = format!(
            "{shown}: patchbay has kata-network and kata-ipvs only: name the program for other commands as path \
             of [kata-runtime] in /etc/patchbay/config.toml"
        );
        return Failure::new(Kind::NotFound, message);
    };
    match is_this_program(path) {
        Ok(false) => {}
        Ok(true) => {
            let message = format!(
                "path '{}' of [kata-runtime] is not allowed: it is patchbay itself, and must be the other program",
                path.display()
            );
            return Failure::new(Kind::Invalid, message);
        }
        Err(error) => return unusable(path, &error),
    }
    unusable(path, &Command::new(path).args(words).exec())
}

fn unusable(path: &Path, error: &io::Error) -> Failure {
    Failure::of_io(format!("could not run {}", path.display()), error)
}

fn is_this_program(path: &Path) -> io::Result<bool> {
    let identity = |path: &Path| fs::metadata(path).map(|file| (file.dev(), file.ino()));
    Ok(identity(path)? == identity(Path::new("/proc/self/exe"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Vec<OsString> {
        text.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn split_takes_own_commands_behind_options_of_both() {
        for (given, own) in [
            (
                "k kata-network list-ifaces a",
                "k kata-network list-ifaces a",
            ),
            (
                "k --log /x -debug kata-ipvs cleanup a",
                "k kata-ipvs cleanup a",
            ),
            (
                "k --log=/x --timeout 5 --timings kata-network x --log",
                "k --timeout 5 --timings kata-network x --log",
            ),
            (
                "k --run-dir=/r --root kata-ipvs kata-network a",
                "k --run-dir=/r kata-network a",
            ),
        ] {
            assert_eq!(split(&line(given)), Words::Own(line(own)), "{given}");
        }
    }

    #[test]
    fn split_leaves_other_lines_unchanged() {
        for given in [
            "k kata-env",
            "k list kata-network",
            "k --log /x list",
            "k --version",
            "k --unknown kata-network kata-network",
            "k --log kata-network",
            "k -- kata-network",
            "k",
        ] {
            let line = line(given);
            assert_eq!(split(&line), Words::Other(&line[1..]), "{given}");
        }
    }
}
