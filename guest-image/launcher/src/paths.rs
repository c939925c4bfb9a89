//! Paths on the command line.

use std::path::{self, PathBuf};

use clap::builder::{PathBufValueParser, TypedValueParser};

/// Returns a parser of paths that are then independent of the current folder.
pub(crate) fn absolute_path() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(path::absolute::<PathBuf>)
}
