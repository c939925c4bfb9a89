//! ipvsadm's grammar, as of ipvsadm 1.31.
//!
//! One command line:
//!
//! ```
//! use patchbay_grammar::NoNames;
//! use patchbay_grammar::ipvsadm::{Grammar, IpvsCommand, parse};
//! use patchbay_types::ipvs::{Change, Forward};
//!
//! let grammar = Grammar { names: &NoNames, forward: Forward::Masquerade };
//! let words = ["-a", "-t", "10.0.0.1:80", "-r", "10.0.0.2:8080", "-w", "7"];
//! let Ok(IpvsCommand::Change(Change::AddServer(service, server))) = parse(&grammar, &words) else {
//!     panic!();
//! };
//! assert_eq!(service.to_string(), "-t 10.0.0.1:80");
//! assert_eq!((server.forward, server.weight.get()), (Forward::Masquerade, 7));
//!
//! let error = parse(&grammar, &["-A", "-t", "10.0.0.1:80", "-m"]).unwrap_err();
//! assert_eq!(error.to_string(), "-A/--add-service does not take -m/--masquerading");
//! ```
//!
//! A rule file, as `ipvsadm -R` reads it, and the lines that `ipvsadm -S` prints:
//!
//! ```
//! # use patchbay_grammar::NoNames;
//! # use patchbay_grammar::ipvsadm::{Grammar, SaveFormat, numeric, read_rules, service_line};
//! # use patchbay_types::ipvs::{Change, Forward};
//! # let grammar = Grammar { names: &NoNames, forward: Forward::Route };
//! let file = "# web\n-A -t 10.0.0.1:80 -s rr\n\n-a -t 10.0.0.1:80 -r 10.0.0.2\n";
//! let lines = read_rules(&grammar, file)?;
//! assert_eq!([lines[0].number, lines[1].number], [2, 4]);
//!
//! let Change::AddService(service) = &lines[0].change else { panic!() };
//! let line = service_line(service, &numeric, SaveFormat::Whole);
//! assert_eq!(line, "-A -t 10.0.0.1:80 -s rr");
//! # Ok::<(), patchbay_grammar::ipvsadm::RuleFileError>(())
//! ```

mod args;
mod command;
mod compat;
mod options;
mod restore;
mod save;
mod saved_rule;
mod spec;
mod values;

use args::Args;
pub use command::{CounterFormat, Format, IpvsCommand, Names, SortOrder, TableView, View};
pub(crate) use options::OPTIONS;
pub use restore::{RuleFileError, read_rules};
pub use save::{server_line, service_line};
pub use saved_rule::{EndpointText, SaveFormat, flag_names, netmask, numeric};
pub use values::Grammar;

use crate::ParseError;
use crate::lexer::{Dialect, Token, tokens};

/// Parses the words of one command line, without the program's name.
///
/// # Errors
/// The first rule that the line breaks.
pub fn parse<S: AsRef<str>>(grammar: &Grammar<'_>, words: &[S]) -> Result<IpvsCommand, ParseError> {
    let mut args = Args::new(*grammar)?;
    for token in tokens(OPTIONS, Dialect::Popt, words) {
        match token? {
            Token::Word(word) => args.word(word),
            Token::Option(option, value) => {
                args.option(option, value)?;
                // ipvsadm does not read the words after -h or -v.
                if args.ignores_rest() {
                    break;
                }
            }
        }
    }
    args.finish()
}

/// Returns the help text: one line for each option.
#[must_use]
pub fn help() -> String {
    crate::option::help(OPTIONS)
}
