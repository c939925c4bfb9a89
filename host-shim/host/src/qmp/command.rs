//! QMP commands with the types of their replies, named after QEMU's `qapi/*.json`.

use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

/// Arguments of a QMP command.
pub(crate) trait QmpCommand: Serialize {
    /// Name of the command.
    const NAME: &'static str;
    /// Type of `return` in the reply.
    type Return: DeserializeOwned;
}

macro_rules! command {
    ($name:literal, $type:ty, $return:ty) => {
        impl QmpCommand for $type {
            const NAME: &'static str = $name;
            type Return = $return;
        }
    };
}

#[derive(Debug, Serialize)]
pub(crate) struct QmpCapabilities<'a> {
    pub(crate) enable: &'a [&'static str],
}
command!("qmp_capabilities", QmpCapabilities<'_>, IgnoredAny);

/// Names the descriptor in the same message; the name must not start with a digit.
#[derive(Debug, Serialize)]
pub(crate) struct GetFd<'a> {
    pub(crate) fdname: &'a str,
}
command!("getfd", GetFd<'_>, IgnoredAny);

#[derive(Debug, Serialize)]
pub(crate) struct CloseFd<'a> {
    pub(crate) fdname: &'a str,
}
command!("closefd", CloseFd<'_>, IgnoredAny);

/// TAP backend of named descriptors; colons separate those of `fds` and `vhostfds`.
#[derive(Debug, Serialize)]
pub(crate) struct NetdevAdd<'a> {
    pub(crate) r#type: &'static str,
    pub(crate) id: &'a str,
    pub(crate) fds: String,
    #[serde(flatten)]
    pub(crate) vhost: Option<Vhost>,
}
command!("netdev_add", NetdevAdd<'_>, IgnoredAny);

/// vhost-user backend on a character device.
#[derive(Debug, Serialize)]
pub(crate) struct NetdevAddVhostUser<'a> {
    pub(crate) r#type: &'static str,
    pub(crate) id: &'a str,
    pub(crate) chardev: &'a str,
    pub(crate) queues: u16,
}
command!("netdev_add", NetdevAddVhostUser<'_>, IgnoredAny);

/// Character device on a Unix socket.
#[derive(Debug, Serialize)]
pub(crate) struct ChardevAdd<'a> {
    pub(crate) id: &'a str,
    pub(crate) backend: serde_json::Value,
}
command!("chardev-add", ChardevAdd<'_>, IgnoredAny);

#[derive(Debug, Serialize)]
pub(crate) struct ChardevRemove<'a> {
    pub(crate) id: &'a str,
}
command!("chardev-remove", ChardevRemove<'_>, IgnoredAny);

#[derive(Debug, Serialize)]
pub(crate) struct QueryChardev {}
command!("query-chardev", QueryChardev, Vec<ChardevInfo>);

#[derive(Debug, Deserialize)]
pub(crate) struct ChardevInfo {
    pub(crate) label: String,
    pub(crate) filename: String,
}

/// Disconnects a character device that blocks QEMU's main loop; QEMU accepts it out of band.
#[derive(Debug, Serialize)]
pub(crate) struct Yank {
    pub(crate) instances: serde_json::Value,
}
command!("yank", Yank, IgnoredAny);

/// vhost-net of a TAP. For a bad descriptor, QEMU 7.2 fails with `vhostforce` and aborts without it.
#[derive(Debug, Serialize)]
pub(crate) struct Vhost {
    pub(crate) vhost: True,
    pub(crate) vhostforce: True,
    pub(crate) vhostfds: String,
}

/// JSON `true`.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(into = "bool")]
pub(crate) struct True;

impl From<True> for bool {
    fn from(_: True) -> Self {
        true
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct NetdevDel<'a> {
    pub(crate) id: &'a str,
}
command!("netdev_del", NetdevDel<'_>, IgnoredAny);

#[derive(Debug, Serialize)]
pub(crate) struct DeviceAdd<'a> {
    pub(crate) driver: &'static str,
    pub(crate) id: &'a str,
    pub(crate) netdev: &'a str,
    pub(crate) mac: String,
    pub(crate) bus: &'a str,
    /// Slot as `0x…`.
    pub(crate) addr: String,
    /// Empty, to load no option ROM, which takes 256 KiB per card.
    pub(crate) romfile: &'static str,
    #[serde(flatten)]
    pub(crate) multi_queue: Option<MultiQueue>,
}
command!("device_add", DeviceAdd<'_>, IgnoredAny);

/// Multi-queue of a device. Without `mq` the guest has one queue pair; older QEMUs don't derive the
/// number of vectors.
#[derive(Debug, Serialize)]
pub(crate) struct MultiQueue {
    pub(crate) mq: True,
    /// Two per pair, one for configuration, one for the control queue.
    pub(crate) vectors: u32,
}

#[derive(Debug, Serialize)]
pub(crate) struct DeviceDel<'a> {
    pub(crate) id: &'a str,
}
command!("device_del", DeviceDel<'_>, IgnoredAny);

#[derive(Debug, Serialize)]
pub(crate) struct QomList<'a> {
    pub(crate) path: &'a str,
}
command!("qom-list", QomList<'_>, Vec<ObjectPropertyInfo>);

#[derive(Debug, Deserialize)]
pub(crate) struct ObjectPropertyInfo {
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
}

#[derive(Debug, Serialize)]
pub(crate) struct QomGet<'a> {
    pub(crate) path: &'a str,
    pub(crate) property: &'a str,
}
command!("qom-get", QomGet<'_>, serde_json::Value);

#[derive(Debug, Serialize)]
pub(crate) struct QueryPci {}
command!("query-pci", QueryPci, Vec<PciInfo>);

#[derive(Debug, Deserialize)]
pub(crate) struct PciInfo {
    pub(crate) bus: i64,
    pub(crate) devices: Vec<PciDeviceInfo>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct PciDeviceInfo {
    pub(crate) slot: u8,
}

#[derive(Debug, Serialize)]
pub(crate) struct QueryVersion {}
command!("query-version", QueryVersion, VersionInfo);

#[derive(Debug, Deserialize)]
pub(crate) struct VersionInfo {
    pub(crate) qemu: VersionTriple,
}

#[derive(Debug, Deserialize)]
pub(crate) struct VersionTriple {
    pub(crate) major: u32,
    pub(crate) minor: u32,
    pub(crate) micro: u32,
}

#[derive(Debug, Serialize)]
pub(crate) struct QueryStatus {}
command!("query-status", QueryStatus, StatusInfo);

#[derive(Debug, Deserialize)]
pub(crate) struct StatusInfo {
    pub(crate) status: String,
    pub(crate) running: bool,
}

#[derive(Debug, Serialize)]
pub(crate) struct QueryMemdev {}
command!("query-memdev", QueryMemdev, Vec<Memdev>);

#[derive(Debug, Deserialize)]
pub(crate) struct Memdev {
    pub(crate) share: bool,
}
