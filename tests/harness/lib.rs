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
mod card;
mod command;
mod dpdk;
mod guest;
mod ipvs;
mod leftovers;
mod monitor;
mod netns;
pub mod raw_agent;
mod rng;
pub mod tracer;
pub mod traffic;

pub use agent::{Configure, FakeAgent};
pub use card::{Card, guide_card, guide_vhost_user_card};
pub use command::{Done, bin, built, patchbay, run, temp_dir};
pub use dpdk::{Side, Testpmd, stub_backend};
pub use guest::{Guest, Machine, linux_6_12};
pub use monitor::{FakeQmp, Monitor, QmpReply, empty_machine, refusal};
pub use netns::Netns;
pub use rng::{rng, seeded_rng, seeds};
