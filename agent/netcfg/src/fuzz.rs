//! What the fuzz targets need of this crate and nobody else: private parsers, by thin wrappers.

use patchbay_types::PciPath;
use patchbay_types::ipvs::{Connection, ListedServer, ServiceId};

use patchbay_netlink::Error;

pub use patchbay_netlink::fuzz::{FuzzKernel, bodies, walk};

/// A row of `/proc/net/ip_vs_conn`.
#[must_use]
pub fn connection_row(row: &str) -> Option<Connection> {
    crate::ipvs::connection_row(row)
}

/// An entry of IPVS's older lists, as a service and as a server.
#[must_use]
pub fn old_entries(bytes: &[u8]) -> (Option<ServiceId>, Option<ListedServer>) {
    crate::ipvs::entries(bytes)
}

/// The target of a link in `/sys/class/net`.
#[must_use]
pub fn device_path(target: &str) -> Option<PciPath> {
    crate::device::device_path(target)
}

/// The files of a module by the text of `modules.dep`.
#[must_use]
pub fn module_files(index: &str, name: &str) -> Option<Vec<String>> {
    crate::modules::files_of(index, name)
}

/// The combined channels in ethtool's answer.
pub fn channels(mut kernel: FuzzKernel<'_>) -> Result<(u32, u32), Error> {
    crate::ethtool::get(&mut kernel, patchbay_netlink::genl::FamilyId::EXAMPLE, 1)
}
