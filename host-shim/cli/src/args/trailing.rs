//! Options of patchbay behind the words of ipvsadm or conntrack.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::process::exit;

use clap::error::ErrorKind;
use clap::{Arg, CommandFactory};

use crate::config::Defaults;
use crate::output::{print_error, unprinted};

use super::{CommandLine, ConntrackCommand, PatchbayCommand};

/// Options that ipvsadm or conntrack has too. Behind the ID they are theirs.
const THEIRS: [&str; 3] = ["help", "timeout", "version"];

impl CommandLine {
    /// Parses a command line. Exits with a message if it is invalid.
    ///
    /// From the first word of ipvsadm or conntrack on, clap takes everything for such words, so
    /// the options of patchbay among them are moved in front of them.
    pub(crate) fn parse_with_trailing_options(line: &[OsString], defaults: &Defaults) -> Self {
        let parsed = Self::parse_or_exit(line, defaults);
        let (path, sandbox, words): (&[&str], _, _) = match &parsed.command {
            PatchbayCommand::Ipvs(args) => (&["ipvs"], &args.sandbox, &args.words),
            PatchbayCommand::Conntrack(ConntrackCommand::List(args)) => {
                (&["conntrack", "list"], &args.sandbox, &args.words)
            }
            PatchbayCommand::Conntrack(ConntrackCommand::Delete(args)) => {
                (&["conntrack", "delete"], &args.sandbox, &args.words)
            }
            _ => return parsed,
        };
        let head = &line[..line.len().saturating_sub(words.len())];
        if has_theirs(head, &sandbox.id) {
            // conntrack would take every flow for it.
            let rule = "--timeout behind the ID is an option of ipvsadm or conntrack: give patchbay's before the ID";
            Self::command()
                .error(ErrorKind::ArgumentConflict, rule)
                .exit();
        }
        if !words.iter().any(|word| word.starts_with("--")) {
            return parsed;
        }
        let (own, words) = split(words, &own_options(path, &THEIRS));
        if own.is_empty() || head.last().is_some_and(|word| word == "--") {
            return parsed;
        }
        let moved = own.into_iter().chain(words).map(OsString::from);
        Self::parse_or_exit(head.iter().cloned().chain(moved), defaults)
    }

    /// Parses a command line, or prints the error or the help and exits. clap ignores that it could not
    /// print a text.
    fn parse_or_exit(
        line: impl IntoIterator<Item = impl Into<OsString> + Clone>,
        defaults: &Defaults,
    ) -> Self {
        let line: Vec<OsString> = line.into_iter().map(Into::into).collect();
        let stop = match Self::try_parse_with(&line, defaults) {
            Ok(parsed) => return parsed,
            Err(stop) => stop,
        };
        if stop.use_stderr() && line.iter().any(|word| word == "kata-network") {
            // As of every other failure; the exit code is that of the usage error in any case.
            let _ = io::stdout().write_all(b"null\n");
        }
        match stop.print() {
            Err(error) if !stop.use_stderr() => {
                let failure = unprinted(&error);
                print_error(&format!("patchbay: {}\n", failure.line()));
                exit(failure.kind().exit_code().into())
            }
            _ => exit(stop.exit_code()),
        }
    }
}

/// Returns whether a line has an option of the other program between the ID and the first word for that program.
fn has_theirs(line: &[OsString], id: &str) -> bool {
    let behind = line.iter().rev().take_while(|word| *word != id);
    let mut options = behind.filter_map(|word| word.to_str()?.strip_prefix("--"));
    options.any(|word| THEIRS.contains(&word.split('=').next().unwrap_or_default()))
}

/// Option without `--`, and whether the word behind it is its value.
pub(crate) type OwnOption = (String, NextWord);

/// Meaning of the word behind an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NextWord {
    IsValue,
    IsOther,
}

impl NextWord {
    fn behind(option: &Arg) -> Self {
        if option.get_action().takes_values() && !option.is_require_equals_set() {
            Self::IsValue
        } else {
            Self::IsOther
        }
    }
}

/// Returns the options of a command, except those of another program.
pub(crate) fn own_options(path: &[&str], theirs: &[&str]) -> Vec<OwnOption> {
    let mut root = CommandLine::command();
    root.build();
    let command = path
        .iter()
        .try_fold(&root, |command, name| command.find_subcommand(name));
    let options = command.into_iter().flat_map(clap::Command::get_arguments);
    let own = options.filter_map(|option| {
        let long = option.get_long().filter(|long| !theirs.contains(long))?;
        Some((long.to_owned(), NextWord::behind(option)))
    });
    own.collect()
}

/// Separates own options, with their values, from other words.
fn split<'a>(words: &'a [String], known: &[OwnOption]) -> (Vec<&'a str>, Vec<&'a str>) {
    let (mut own, mut others) = (Vec::new(), Vec::new());
    let mut words = words.iter().map(String::as_str);
    while let Some(word) = words.next() {
        if word == "--" {
            others.push(word);
            others.extend(words);
            break;
        }
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word, None),
        };
        let name = name.strip_prefix("--").unwrap_or_default();
        match known.iter().find(|(long, _)| long == name) {
            Some((_, next)) => {
                own.push(word);
                if *next == NextWord::IsValue && value.is_none() {
                    own.extend(words.next());
                }
            }
            None => others.push(word),
        }
    }
    (own, others)
}

#[cfg(test)]
mod tests {
    use patchbay_grammar::{conntrack, ipvsadm};

    use super::*;

    fn parse(line: &str) -> CommandLine {
        let words = format!("patchbay {line}");
        let words: Vec<OsString> = words.split(' ').map(OsString::from).collect();
        CommandLine::parse_with_trailing_options(&words, &Defaults::default())
    }

    #[test]
    fn parse_moves_own_options_from_behind_the_words() {
        for (line, json, max_rules, words) in [
            ("ipvs a -L --json", true, 20_000, "-L"),
            ("ipvs --json a -L", true, 20_000, "-L"),
            (
                "ipvs a -L --timeout --json -n",
                true,
                20_000,
                "-L --timeout -n",
            ),
            ("ipvs a --json -L --max-rules 7", true, 7, "-L"),
            ("ipvs a -R --max-rules=9", false, 9, "-R"),
            ("ipvs a -L -- --json", false, 20_000, "-L -- --json"),
            ("ipvs a", false, 20_000, ""),
        ] {
            let PatchbayCommand::Ipvs(args) = parse(line).command else {
                panic!("{line}");
            };
            let options = &args.options;
            assert_eq!(
                (options.format.data().is_some(), options.max_rules),
                (json, max_rules),
                "{line}"
            );
            assert_eq!(args.words.join(" "), words, "{line}");
        }
        let listed = parse("conntrack list a -p tcp --json --timings --dport 80");
        assert!(listed.timings.is_some());
        let PatchbayCommand::Conntrack(ConntrackCommand::List(args)) = listed.command else {
            panic!();
        };
        assert!(args.format.data().is_some());
        assert_eq!(args.words.join(" "), "-p tcp --dport 80");
    }

    #[test]
    fn own_options_are_in_neither_grammar() {
        for (path, help) in [
            (&["ipvs"][..], ipvsadm::help()),
            (&["conntrack", "list"], conntrack::help()),
            (&["conntrack", "delete"], conntrack::help()),
        ] {
            let own = own_options(path, &THEIRS);
            assert!(own.iter().any(|(long, _)| long == "run-dir"), "{own:?}");
            for (long, _) in own {
                let same = format!("--{long}");
                assert!(
                    !help.split([' ', ',', '\n']).any(|word| word == same),
                    "{long}"
                );
            }
        }
    }
}
