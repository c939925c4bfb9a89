//! Sandboxes for trying and testing patchbay: [`image`] builds what they boot, [`launch`] starts,
//! finds and stops them, [`exec`] runs a command in one, [`console`] shows what one has printed.

pub mod cli;
pub mod console;
pub mod error;
pub mod exec;
#[cfg(fuzzing)]
pub mod fuzz;
pub mod image;
pub mod launch;
pub mod list;
pub mod text;
