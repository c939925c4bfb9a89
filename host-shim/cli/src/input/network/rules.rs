//! IPVS rules of a document.

use patchbay_grammar::Resolver;
use patchbay_grammar::ipvsadm::{Grammar, RuleFileError, read_rules};
use patchbay_types::InvalidValue;
use patchbay_types::failure::{Failure, Kind};
use patchbay_types::ipvs::{BadFile, Change, Forward, MaxRules, RuleLine, Table};

use super::Fault;
use super::yaml::{Content, Node, Place};

/// Lines of rules with their places.
struct Lines<'a> {
    text: String,
    node: &'a Node,
}

impl Lines<'_> {
    /// Returns the place of a line, counted from 1.
    fn place(&self, number: u32) -> Place {
        let index = usize::try_from(number.saturating_sub(1)).unwrap_or_default();
        match &self.node.content {
            Content::Block(_) => self.node.place.below(index),
            Content::Sequence(nodes) => nodes.get(index).map_or(self.node.place, |node| node.place),
            _ => self.node.place,
        }
    }
}

/// Reads the rules: a text with a rule on each line, or a sequence of rules.
pub(super) fn read(
    node: &Node,
    names: &dyn Resolver,
    max_rules: MaxRules,
) -> Result<Vec<RuleLine>, Fault> {
    let text = text(node)?;
    let lines = Lines { text, node };
    let invalid = |number, message: String| {
        let failure = Failure::new(Kind::Invalid, message).with_field("ipvs");
        Fault::At(lines.place(number), failure)
    };
    // As in a rule file of ipvsadm.
    let forward = Forward::Route;
    let grammar = Grammar { names, forward };
    let rules = read_rules(&grammar, &lines.text).map_err(|error| match error {
        RuleFileError::Line { number, error } => invalid(number, error.to_string()),
        RuleFileError::NotAChange { number } | RuleFileError::OnlyLists { number } => {
            invalid(number, ONLY_ADDITIONS.to_owned())
        }
        RuleFileError::TooLong => invalid(1, error.to_string()),
    })?;
    let is_addition =
        |rule: &&RuleLine| matches!(rule.change, Change::AddService(_) | Change::AddServer(..));
    if let Some(rule) = rules.iter().find(|rule| !is_addition(rule)) {
        return Err(invalid(rule.number, ONLY_ADDITIONS.to_owned()));
    }
    Table::of_file(&rules, max_rules).map_err(|error| match error {
        BadFile::Conflict { line, conflict } => invalid(line, conflict.to_string()),
        BadFile::TooMany(error) => invalid(1, error.to_string()),
    })?;
    Ok(rules)
}

const ONLY_ADDITIONS: &str = "ipvs has only lines with -A and -a, as ipvsadm-save prints them";

fn text(node: &Node) -> Result<String, Fault> {
    let invalid = |node: &Node, rule: &'static str| {
        let value = InvalidValue::new(&node.value(), rule).in_field("ipvs");
        Fault::At(node.place, value.into())
    };
    match &node.content {
        Content::Block(text) | Content::Scalar(serde_json::Value::String(text)) => Ok(text.clone()),
        Content::Sequence(nodes) => {
            let line = |node: &Node| match node.value() {
                serde_json::Value::String(line) if !line.contains('\n') => Ok(line),
                _ => Err(invalid(node, "it must be a text of one line")),
            };
            let lines: Vec<_> = nodes.iter().map(line).collect::<Result<_, _>>()?;
            Ok(lines.join("\n"))
        }
        _ => Err(invalid(
            node,
            "it must be a text with a rule on each line, or an array of rules",
        )),
    }
}
