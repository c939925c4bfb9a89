//! Sandboxes for development and tests: `image` builds their images, `launch` starts, finds and
//! stops them, `exec` runs commands in them, `console` shows their output.

mod architecture;
mod bzimage;
mod cli;
mod completion;
mod console;
mod error;
mod exec;
#[cfg(feature = "fuzzing")]
pub mod fuzz;
mod image;
mod launch;
mod list;
mod paths;
mod text;

pub use cli::main;
