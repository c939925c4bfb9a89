//! The grammar of `conntrack -D`.
//!
//! ```
//! use patchbay_grammar::NoNames;
//! use patchbay_grammar::conntrack::parse;
//!
//! let filter = parse(&NoNames, &["-p", "tcp", "--dport", "80", "-d", "10.0.0.0/8"])?;
//! assert_eq!(filter.parts().orig.dst_port, Some(80));
//!
//! let error = parse(&NoNames, &["--dport", "80"]).unwrap_err();
//! let rule = "must follow -p/--protonum with a protocol that has ports";
//! assert_eq!(error.to_string(), format!("--dport {rule}"));
//! # Ok::<(), patchbay_grammar::ParseError>(())
//! ```
//!
//! A word that is repeated replaces the one before it, as in conntrack; lists of statuses and labels
//! add up.

mod options;
mod values;

use patchbay_types::conntrack::Filter;

use options::FILTERS;
pub(crate) use options::OPTIONS;
use values::FilterArgs;

use crate::lexer::{Dialect, Token, tokens};
use crate::{ParseError, Resolver};

/// Parses the words after `conntrack -D`.
///
/// # Errors
/// The first rule that the words break, or that there are none.
pub fn parse<S: AsRef<str>>(names: &dyn Resolver, words: &[S]) -> Result<Filter, ParseError> {
    let mut args = FilterArgs::new(names);
    for token in tokens(OPTIONS, Dialect::Getopt, words) {
        match token? {
            Token::Word(word) => return Err(ParseError::argument(word)),
            Token::Option(option, value) => (option.action)(&mut args, value)?,
        }
    }
    args.finish()
}

/// Returns the help text: one line for each option.
#[must_use]
pub fn help() -> String {
    crate::option::help(&[FILTERS])
}
