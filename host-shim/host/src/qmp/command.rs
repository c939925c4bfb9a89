//! QMP commands with the types of their replies, named after QEMU's `qapi/*.json`.

use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Arguments of a QMP command.
pub(crate) trait QmpCommand: Serialize {
    /// Name of the command.
    const NAME: &'static str;
    /// Type of `return` in the reply.
    type Return: DeserializeOwned;
}

/// Declares the arguments of commands: `"name" Type { fields } -> Return;`.
macro_rules! commands {
    ($($(#[$doc:meta])* $name:literal $type:ident $(<$life:lifetime>)? {
        $($(#[$attribute:meta])* $field:ident: $kind:ty),* $(,)?
    } -> $return:ty;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Serialize)]
        pub(crate) struct $type $(<$life>)? {
            $($(#[$attribute])* pub(crate) $field: $kind,)*
        }

        impl $(<$life>)? QmpCommand for $type $(<$life>)? {
            const NAME: &'static str = $name;
            type Return = $return;
        }
    )*};
}

commands! {
    "qmp_capabilities" QmpCapabilities<'a> { enable: &'a [&'static str] } -> IgnoredAny;

    /// Names the descriptor in the same message; the name must not start with a digit.
    "getfd" GetFd<'a> { fdname: &'a str } -> IgnoredAny;
    "closefd" CloseFd<'a> { fdname: &'a str } -> IgnoredAny;

    /// TAP backend of named descriptors; colons separate those of `fds` and `vhostfds`.
    "netdev_add" NetdevAdd<'a> {
        r#type: &'static str,
        id: &'a str,
        fds: String,
        #[serde(flatten)]
        vhost: Option<Vhost>,
    } -> IgnoredAny;
    /// vhost-user backend on a character device.
    "netdev_add" NetdevAddVhostUser<'a> {
        r#type: &'static str,
        id: &'a str,
        chardev: &'a str,
        queues: u16,
    } -> IgnoredAny;
    "netdev_del" NetdevDel<'a> { id: &'a str } -> IgnoredAny;

    /// Character device on a Unix socket.
    "chardev-add" ChardevAdd<'a> { id: &'a str, backend: Value } -> IgnoredAny;
    "chardev-remove" ChardevRemove<'a> { id: &'a str } -> IgnoredAny;
    "query-chardev" QueryChardev {} -> Vec<ChardevInfo>;
    /// Disconnects a character device that blocks QEMU's main loop; QEMU accepts it out of band.
    "yank" Yank { instances: Value } -> IgnoredAny;

    "device_add" DeviceAdd<'a> {
        driver: &'static str,
        id: &'a str,
        netdev: &'a str,
        mac: String,
        bus: &'a str,
        /// Slot as `0x…`, because QEMU reads a bare number as hexadecimal.
        addr: String,
        /// Empty, to load no option ROM, which takes 256 KiB per card.
        romfile: &'static str,
        #[serde(flatten)]
        multi_queue: Option<MultiQueue>,
    } -> IgnoredAny;
    /// Makes QEMU send RARP packets from these cards, and their guest announce its addresses.
    "announce-self" AnnounceSelf<'a> {
        /// Milliseconds before the second round, as the next two; none follows.
        initial: u16,
        max: u16,
        step: u16,
        rounds: u16,
        interfaces: [&'a str; 1],
    } -> IgnoredAny;
    /// State of the cable of a network device.
    "set_link" SetLink<'a> { name: &'a str, up: bool } -> IgnoredAny;
    "device_del" DeviceDel<'a> { id: &'a str } -> IgnoredAny;

    "qom-list" QomList<'a> { path: &'a str } -> Vec<ObjectPropertyInfo>;
    "qom-get" QomGet<'a> { path: &'a str, property: &'a str } -> Value;
    /// Command of the human monitor; returns its output.
    "human-monitor-command" HumanMonitorCommand<'a> {
        #[serde(rename = "command-line")]
        command_line: &'a str,
    } -> String;
    "query-pci" QueryPci {} -> Vec<PciInfo>;
    "query-version" QueryVersion {} -> VersionInfo;
    "query-status" QueryStatus {} -> StatusInfo;
    "query-memdev" QueryMemdev {} -> Vec<Memdev>;
    /// Since QEMU 7.2, as the next.
    "x-query-virtio" QueryVirtio {} -> Vec<VirtioInfo>;
    "x-query-virtio-status" QueryVirtioStatus<'a> { path: &'a str } -> VirtioStatus;
}

/// vhost-net of a TAP. For a bad descriptor, QEMU 7.2 fails with `vhostforce` and aborts without it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Vhost {
    pub(crate) vhost: bool,
    pub(crate) vhostforce: bool,
    pub(crate) vhostfds: String,
}

/// Multi-queue of a device. Without `mq` the guest has one queue pair; older QEMUs don't derive the
/// number of vectors.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct MultiQueue {
    pub(crate) mq: bool,
    /// Two per pair, one for configuration, one for the control queue.
    pub(crate) vectors: u32,
}

/// Declares the used fields of replies.
macro_rules! replies {
    ($($type:ident { $($(#[$attribute:meta])* $field:ident: $kind:ty),* })*) => {$(
        #[derive(Debug, Default, Deserialize)]
        pub(crate) struct $type {
            $($(#[$attribute])* pub(crate) $field: $kind,)*
        }
    )*};
}

replies! {
    ChardevInfo { label: String, filename: String }
    ObjectPropertyInfo { name: String, #[serde(rename = "type")] kind: String }
    PciInfo { bus: i64, devices: Vec<PciDeviceInfo> }
    PciDeviceInfo { slot: u8 }
    VersionInfo { qemu: VersionTriple }
    VersionTriple { major: u32, minor: u32, micro: u32 }
    StatusInfo { status: String, running: bool }
    Memdev { share: bool }
    VirtioInfo { name: String, path: String }
    VirtioStatus { #[serde(rename = "vhost-started")] vhost_started: bool }
}
