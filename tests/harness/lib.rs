//! The bench for tests of the whole: real QEMU guests, the real command, somebody else's judges.
//!
//! A helper that fails panics with what was done and what came of it: this crate is only used by
//! tests.

#![allow(
    clippy::missing_panics_doc,
    clippy::must_use_candidate,
    clippy::unwrap_used
)]

mod agent;
pub mod balance;
mod command;
mod dice;
mod dpdk;
mod guest;
mod ipvs;
mod leftovers;
pub mod liar;
mod monitor;
mod netns;
pub mod tracer;
pub mod traffic;

pub use agent::{Configure, FakeAgent};
pub use command::{Done, bin, built, patchbay, run, temp_dir};
pub use dice::Dice;
pub use dpdk::{Side, Testpmd, stub_backend};
pub use guest::{Guest, Machine, linux_6_12};
pub use monitor::{Monitor, Said, Scripted, empty_machine, refusal};
pub use netns::Netns;
