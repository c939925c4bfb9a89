//! Library for hosts: finds sandboxes, hot-plugs network cards over QMP and calls the agent.
//!
//! Knows neither command lines nor printing; the `patchbay` command and the sandbox launcher are
//! built on top of it.

pub mod agent;
pub mod card;
#[cfg(fuzzing)]
pub mod fuzz;
pub mod hotplug;
mod kata_messages;
pub mod netns;
pub mod qmp;
pub mod sandbox;
pub mod vsock_stream;
