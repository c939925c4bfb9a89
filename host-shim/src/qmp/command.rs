//! The commands that are sent, each with the type of its answer (QEMU's `qapi/*.json`).

use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

/// A command and what QEMU returns for it.
pub(crate) trait Command: Serialize {
    const NAME: &'static str;
    type Return: DeserializeOwned;
}

macro_rules! command {
    ($name:literal, $type:ty, $return:ty) => {
        impl Command for $type {
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

/// Gives QEMU the descriptor that is sent along; the name must not begin with a digit.
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

/// A TAP by its descriptors; `fds` and `vhostfds` are separated by colons.
#[derive(Debug, Serialize)]
pub(crate) struct NetdevAdd<'a> {
    pub(crate) r#type: &'static str,
    pub(crate) id: &'a str,
    pub(crate) fds: String,
    #[serde(flatten)]
    pub(crate) vhost: Option<Vhost>,
}
command!("netdev_add", NetdevAdd<'_>, IgnoredAny);

/// A vhost-user backend behind a character device.
#[derive(Debug, Serialize)]
pub(crate) struct NetdevAddVhostUser<'a> {
    pub(crate) r#type: &'static str,
    pub(crate) id: &'a str,
    pub(crate) chardev: &'a str,
    pub(crate) queues: u16,
}
command!("netdev_add", NetdevAddVhostUser<'_>, IgnoredAny);

/// A Unix socket as a character device.
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
command!("query-chardev", QueryChardev, Vec<Chardev>);

#[derive(Debug, Deserialize)]
pub(crate) struct Chardev {
    pub(crate) label: String,
    pub(crate) filename: String,
}

/// Breaks a character device that holds QEMU's main loop up; only out of band it gets through.
#[derive(Debug, Serialize)]
pub(crate) struct Yank {
    pub(crate) instances: serde_json::Value,
}
command!("yank", Yank, IgnoredAny);

/// `vhostforce` turns what would be an abort of QEMU 7.2 into an error (`vhost` alone asserts when
/// its descriptor is no good).
#[derive(Debug, Serialize)]
pub(crate) struct Vhost {
    pub(crate) vhost: Yes,
    pub(crate) vhostforce: Yes,
    pub(crate) vhostfds: String,
}

/// JSON's `true`.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(into = "bool")]
pub(crate) struct Yes;

impl From<Yes> for bool {
    fn from(_: Yes) -> Self {
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
    /// Slot, always with 0x: QEMU reads a bare number as hex.
    pub(crate) addr: String,
    /// Empty: an option ROM of 256 KiB would be loaded per card otherwise.
    pub(crate) romfile: &'static str,
    #[serde(flatten)]
    pub(crate) multi_queue: Option<MultiQueue>,
}
command!("device_add", DeviceAdd<'_>, IgnoredAny);

/// Without `mq` the guest gets one pair whatever the netdev has; older QEMUs don't count the
/// vectors themselves.
#[derive(Debug, Serialize)]
pub(crate) struct MultiQueue {
    pub(crate) mq: Yes,
    /// Two for each pair, one for configuration, one for the control queue.
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
command!("qom-list", QomList<'_>, Vec<QomProperty>);

#[derive(Debug, Deserialize)]
pub(crate) struct QomProperty {
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
command!("query-pci", QueryPci, Vec<PciBus>);

#[derive(Debug, Deserialize)]
pub(crate) struct PciBus {
    pub(crate) bus: i64,
    pub(crate) devices: Vec<PciDevice>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct PciDevice {
    pub(crate) slot: u8,
}

#[derive(Debug, Serialize)]
pub(crate) struct QueryVersion {}
command!("query-version", QueryVersion, Version);

#[derive(Debug, Deserialize)]
pub(crate) struct Version {
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
command!("query-status", QueryStatus, RunState);

#[derive(Debug, Deserialize)]
pub(crate) struct RunState {
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
