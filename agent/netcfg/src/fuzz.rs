//! Private parsers for the fuzz targets.

use patchbay_types::PciPath;
use patchbay_types::ipvs::{Connection, ListedServer, ServiceId};

use patchbay_netlink::Error;

pub use patchbay_netlink::fuzz::{FuzzKernel, bodies, walk};

/// Parses a row of `/proc/net/ip_vs_conn`.
#[must_use]
pub fn connection_row(row: &str) -> Option<Connection> {
    crate::ipvs::connection(row)
}

/// Decodes an entry of the IPVS socket options as a service and as a server.
#[must_use]
pub fn old_entries(bytes: &[u8]) -> (Option<ServiceId>, Option<ListedServer>) {
    crate::ipvs::entries(bytes)
}

/// Parses the target of a link in `/sys/class/net`.
#[must_use]
pub fn device_path(target: &str) -> Option<PciPath> {
    crate::device::device_path(target)
}

/// Looks up the files of a module in the text of `modules.dep`.
#[must_use]
pub fn module_files(index: &str, name: &str) -> Option<Vec<String>> {
    crate::modules::files_of(index, name)
}

/// Decodes the combined channels of an ethtool reply.
pub fn channels(mut kernel: FuzzKernel<'_>) -> Result<(u32, u32), Error> {
    crate::ethtool::channels(&mut kernel, patchbay_netlink::genl::FamilyId::EXAMPLE, 1)
}
