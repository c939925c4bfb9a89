//! Network configuration of a guest: links, addresses, routes, IPVS and connection tracking.
//!
//! This is the agent without its RPC transport. [`ops`] holds the operations, which validate, order
//! and roll back; below it, [`rtnl`], [`ethtool`], [`ipvs`] and [`conntrack`] convert between domain
//! types and netlink attributes, [`device`] finds a card by its PCI path, and
//! [`managers`] keeps network managers away from it. Everything acts on the
//! network namespace of the thread that opened it.
//!
//! ```no_run
//! use patchbay_netcfg::device::Sysfs;
//! use patchbay_netcfg::ethtool::EthtoolBackend;
//! use patchbay_netcfg::modules::Loader;
//! use patchbay_netcfg::ops::Netcfg;
//! use patchbay_types::AddressDetail;
//!
//! let netcfg = Netcfg::open(Sysfs::at("/sys"), EthtoolBackend::Auto, None, Loader::default())?;
//! for interface in netcfg.list(AddressDetail::Listed)? {
//!     println!("{}: {} mtu {}", interface.index, interface.name, interface.mtu);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Tens of thousands of rules and routes pass through this crate, so it is compiled for speed; the
//! rest of the agent is compiled for size.

/// Defines the numbers of a kernel header.
macro_rules! numbers {
    ($visibility:vis $int:ty: $($name:ident = $number:literal),+ $(,)?) => {
        $($visibility const $name: $int = $number;)+
    };
}

pub mod cancellation;
pub mod conntrack;
pub mod device;
pub mod ethtool;
#[cfg(feature = "fuzzing")]
pub mod fuzz;
mod inet;
pub mod ipvs;
pub mod managers;
pub mod modules;
pub mod ops;
pub mod privilege;
pub mod rtnl;
