//! What unit tests say in ipvsadm's words.

use super::{Command, Grammar, NoNames, parse, split};
use patchbay_types::ipvs::{Change, Forward};

/// The change that a line asks for.
pub(crate) fn change(line: &str) -> Change {
    let grammar = Grammar {
        names: &NoNames,
        forward: Forward::Route,
    };
    let words = split(line).unwrap();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    match parse(&grammar, &words) {
        Ok(Command::Change(change)) => change,
        other => panic!("{line}: {other:?}"),
    }
}
