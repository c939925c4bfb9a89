//! Rule files: line numbers are valid, and parsed rules are saved as a file that parses to the same
//! rules.

use patchbay_grammar::ipvsadm::{
    RuleFileError, SaveFormat, numeric, read_rules, server_line, service_line,
};
use patchbay_types::ipvs::Change;

use crate::harmless;
use crate::names::grammars;

/// The data is a file, parsed by each grammar.
pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let there = text.split('\n').count();
    for grammar in grammars() {
        match read_rules(&grammar, text) {
            Ok(lines) => {
                assert!(lines.is_sorted_by(|a, b| a.number < b.number));
                assert!(lines.iter().all(|line| within(line.number, there)));
                let changes: Vec<Change> = lines.into_iter().map(|line| line.change).collect();
                again(&changes, |text| {
                    let lines = read_rules(&grammar, text)?;
                    Ok(lines.into_iter().map(|line| line.change).collect())
                });
            }
            Err(RuleFileError::Line { number, error }) => {
                assert!(within(number, there));
                harmless::text(&error.to_string());
            }
            Err(RuleFileError::NotAChange { number } | RuleFileError::OnlyLists { number }) => {
                assert!(within(number, there));
            }
            Err(RuleFileError::TooLong) => panic!("there are only {there} lines"),
        }
    }
}

fn within(number: u32, there: usize) -> bool {
    usize::try_from(number).is_ok_and(|number| (1..=there).contains(&number))
}

fn again(changes: &[Change], read: impl Fn(&str) -> Result<Vec<Change>, RuleFileError>) {
    let (mut text, mut meant) = (String::new(), Vec::new());
    for change in changes {
        match change {
            Change::AddService(service) => {
                text += &service_line(service, &numeric, SaveFormat::Whole);
            }
            Change::AddServer(id, server) => {
                text += &server_line(*id, server, &numeric, SaveFormat::Whole);
            }
            _ => continue,
        }
        text += "\n";
        meant.push(change.clone());
    }
    assert_eq!(read(&text), Ok(meant), "{text}");
}
