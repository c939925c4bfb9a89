//! Library for hosts: finds sandboxes, hot-plugs network cards over QMP and calls the agent.
//!
//! It neither parses command lines nor prints; the `patchbay` command and the sandbox launcher are
//! built on it.
//!
//! ```no_run
//! use std::collections::BTreeMap;
//! use std::time::Duration;
//!
//! use patchbay_host::card::{Backend, CardRequest};
//! use patchbay_host::interrupt::Interrupt;
//! use patchbay_host::ops;
//! use patchbay_host::sandbox::{self, DEFAULT_RUN_DIR, Lookup};
//! use patchbay_types::{Arp, LinkFields, LinkSpec, MacAddr, Mtu};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let lookup = Lookup {
//!     run_dir: DEFAULT_RUN_DIR.into(),
//!     kata_roots: Vec::new(),
//!     machine: None,
//!     named: BTreeMap::new(),
//!     interrupt: Interrupt::default(),
//! };
//! let sandbox = sandbox::find(&lookup, "6ec7a98")?;
//! let link = LinkFields {
//!     name: "eth1".parse()?,
//!     mac: "02:42:20:6f:a3:69".parse::<MacAddr>()?,
//!     mtu: Mtu::try_from(1500)?,
//!     addresses: Vec::new(),
//!     queues: None,
//!     arp: Arp::On,
//! };
//! let request = CardRequest {
//!     device: "tap1".parse()?,
//!     backend: Backend::Tap,
//!     link: LinkSpec::new(link, "addresses")?,
//! };
//! let path = ops::plug(&sandbox, &request, Duration::from_secs(10))?;
//! println!("plugged at {path}");
//! # Ok(())
//! # }
//! ```

pub mod agent;
pub mod card;
pub mod document;
pub mod events;
pub mod file_lock;
#[cfg(feature = "fuzzing")]
pub mod fuzz;
mod guest;
mod hotplug;
pub mod interrupt;
pub mod json;
mod kata_messages;
pub mod limit;
mod managed_route;
pub mod mirror;
pub mod netns;
pub mod ops;
pub mod private;
pub mod process;
mod qmp;
mod reach;
pub mod sandbox;
mod shaper;
mod threads;
pub mod vlan;
pub mod vsock_stream;
pub mod watch;
