//! Harness of the end-to-end tests: QEMU guests, network namespaces, and fakes of the monitor and of
//! the agent.
//!
//! Helpers panic when a step fails, with the command and its output.

#![allow(
    clippy::missing_panics_doc,
    clippy::must_use_candidate,
    clippy::unwrap_used
)]

mod agent;
pub mod balance;
mod built;
mod card;
mod cni;
mod command;
mod containerd;
mod dpdk;
mod engine;
mod extent;
mod guest;
mod ipvs;
mod journal;
mod leftovers;
mod monitor;
mod netns;
pub mod raw_agent;
mod rng;
pub mod tracer;
pub mod traffic;
mod wait;

pub use agent::{Configure, FakeAgent};
pub use built::{Built, bin};
pub use card::{Card, guide_card, guide_vhost_user_card};
pub use cni::{Cni, Pod};
pub use command::{Done, patchbay, peak_memory, run, temp_dir};
pub use containerd::{Container, Containerd};
pub use dpdk::{Side, Testpmd, stub_backend};
pub use engine::{Endpoint, Engine};
pub use extent::{Cases, Extent};
pub use guest::{AGENT_PID, BOOT_CARD, Guest, Machine, linux_6_12};
pub use ipvs::REFERENCE_NETNS;
pub use journal::journal;
pub use monitor::{FakeQmp, Monitor, QmpReply, empty_machine, qmp_error};
pub use netns::Netns;
pub use rng::{rng, seeded_rng, seeds};
pub use wait::{PATIENCE, await_value};
