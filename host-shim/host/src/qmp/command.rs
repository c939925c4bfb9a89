//! The commands that are sent, each with the type of its answer (QEMU's `qapi/*.json`).

use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

/// A command and what QEMU returns for it.
pub trait Command: Serialize {
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
pub struct QmpCapabilities<'a> {
    pub enable: &'a [&'static str],
}
command!("qmp_capabilities", QmpCapabilities<'_>, IgnoredAny);

/// Gives QEMU the descriptor that is sent along; the name must not begin with a digit.
#[derive(Debug, Serialize)]
pub struct GetFd<'a> {
    pub fdname: &'a str,
}
command!("getfd", GetFd<'_>, IgnoredAny);

#[derive(Debug, Serialize)]
pub struct CloseFd<'a> {
    pub fdname: &'a str,
}
command!("closefd", CloseFd<'_>, IgnoredAny);

/// A TAP by its descriptors; `fds` and `vhostfds` are separated by colons.
#[derive(Debug, Serialize)]
pub struct NetdevAdd<'a> {
    pub r#type: &'static str,
    pub id: &'a str,
    pub fds: String,
    #[serde(flatten)]
    pub vhost: Option<Vhost>,
}
command!("netdev_add", NetdevAdd<'_>, IgnoredAny);

/// A vhost-user backend behind a character device.
#[derive(Debug, Serialize)]
pub struct NetdevAddVhostUser<'a> {
    pub r#type: &'static str,
    pub id: &'a str,
    pub chardev: &'a str,
    pub queues: u16,
}
command!("netdev_add", NetdevAddVhostUser<'_>, IgnoredAny);

/// A Unix socket as a character device.
#[derive(Debug, Serialize)]
pub struct ChardevAdd<'a> {
    pub id: &'a str,
    pub backend: serde_json::Value,
}
command!("chardev-add", ChardevAdd<'_>, IgnoredAny);

#[derive(Debug, Serialize)]
pub struct ChardevRemove<'a> {
    pub id: &'a str,
}
command!("chardev-remove", ChardevRemove<'_>, IgnoredAny);

#[derive(Debug, Serialize)]
pub struct QueryChardev {}
command!("query-chardev", QueryChardev, Vec<Chardev>);

#[derive(Debug, Deserialize)]
pub struct Chardev {
    pub label: String,
    pub filename: String,
}

/// Breaks a character device that holds QEMU's main loop up; only out of band it gets through.
#[derive(Debug, Serialize)]
pub struct Yank {
    pub instances: serde_json::Value,
}
command!("yank", Yank, IgnoredAny);

/// `vhostforce` turns what would be an abort of QEMU 7.2 into an error (`vhost` alone asserts when
/// its descriptor is no good).
#[derive(Debug, Serialize)]
pub struct Vhost {
    pub vhost: Yes,
    pub vhostforce: Yes,
    pub vhostfds: String,
}

/// JSON's `true`.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(into = "bool")]
pub struct Yes;

impl From<Yes> for bool {
    fn from(_: Yes) -> Self {
        true
    }
}

#[derive(Debug, Serialize)]
pub struct NetdevDel<'a> {
    pub id: &'a str,
}
command!("netdev_del", NetdevDel<'_>, IgnoredAny);

#[derive(Debug, Serialize)]
pub struct DeviceAdd<'a> {
    pub driver: &'static str,
    pub id: &'a str,
    pub netdev: &'a str,
    pub mac: String,
    pub bus: &'a str,
    /// Slot, always with 0x: QEMU reads a bare number as hex.
    pub addr: String,
    /// Empty: an option ROM of 256 KiB would be loaded per card otherwise.
    pub romfile: &'static str,
    #[serde(flatten)]
    pub multi_queue: Option<MultiQueue>,
}
command!("device_add", DeviceAdd<'_>, IgnoredAny);

/// Without `mq` the guest gets one pair whatever the netdev has; older QEMUs don't count the
/// vectors themselves.
#[derive(Debug, Serialize)]
pub struct MultiQueue {
    pub mq: Yes,
    /// Two for each pair, one for configuration, one for the control queue.
    pub vectors: u32,
}

#[derive(Debug, Serialize)]
pub struct DeviceDel<'a> {
    pub id: &'a str,
}
command!("device_del", DeviceDel<'_>, IgnoredAny);

#[derive(Debug, Serialize)]
pub struct QomList<'a> {
    pub path: &'a str,
}
command!("qom-list", QomList<'_>, Vec<QomProperty>);

#[derive(Debug, Deserialize)]
pub struct QomProperty {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
}

#[derive(Debug, Serialize)]
pub struct QomGet<'a> {
    pub path: &'a str,
    pub property: &'a str,
}
command!("qom-get", QomGet<'_>, serde_json::Value);

#[derive(Debug, Serialize)]
pub struct QueryPci {}
command!("query-pci", QueryPci, Vec<PciBus>);

#[derive(Debug, Deserialize)]
pub struct PciBus {
    pub bus: i64,
    pub devices: Vec<PciDevice>,
}

#[derive(Debug, Deserialize)]
pub struct PciDevice {
    pub slot: u8,
}

#[derive(Debug, Serialize)]
pub struct QueryVersion {}
command!("query-version", QueryVersion, Version);

#[derive(Debug, Deserialize)]
pub struct Version {
    pub qemu: VersionTriple,
}

#[derive(Debug, Deserialize)]
pub struct VersionTriple {
    pub major: u32,
    pub minor: u32,
    pub micro: u32,
}

#[derive(Debug, Serialize)]
pub struct QueryStatus {}
command!("query-status", QueryStatus, RunState);

#[derive(Debug, Deserialize)]
pub struct RunState {
    pub status: String,
    pub running: bool,
}

#[derive(Debug, Serialize)]
pub struct QueryMemdev {}
command!("query-memdev", QueryMemdev, Vec<Memdev>);

#[derive(Debug, Deserialize)]
pub struct Memdev {
    pub share: bool,
}
