//! Sandboxes for development and tests: [`image`] builds their images, [`launch`] starts, finds and
//! stops them, [`exec`] runs commands in them, [`console`] shows their output.

pub mod cli;
pub mod console;
pub mod error;
pub mod exec;
pub mod image;
pub mod launch;
pub mod list;
pub mod text;

mod paths;
