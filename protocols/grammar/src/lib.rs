//! The command-line grammars of ipvsadm and `conntrack -D`.
//!
//! The host parses option text into the types of `patchbay-types`; the agent never sees it. Each
//! option is declared once, in a table that the lexer, the parser, the help text and `-S` share.

pub mod conntrack;
mod error;
pub mod ipvsadm;
mod lexer;
mod option;
mod parse_num;
mod spelling;

pub use error::ParseError;
pub use lexer::{UnclosedQuote, split};
pub use parse_num::{NoNames, Resolver, inet_aton};
pub use spelling::Spelling;
