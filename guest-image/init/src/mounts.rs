//! The file systems that every program in the guest expects.

use nix::mount::{MsFlags, mount};

use crate::console::say;

const QUIET: MsFlags = MsFlags::MS_NOSUID
    .union(MsFlags::MS_NODEV)
    .union(MsFlags::MS_NOEXEC);

struct Mount {
    kind: &'static str,
    target: &'static str,
    flags: MsFlags,
    options: Option<&'static str>,
}

const MOUNTS: [Mount; 5] = [
    Mount {
        kind: "proc",
        target: "/proc",
        flags: QUIET,
        options: None,
    },
    Mount {
        kind: "sysfs",
        target: "/sys",
        flags: QUIET,
        options: None,
    },
    Mount {
        kind: "devtmpfs",
        target: "/dev",
        flags: MsFlags::MS_NOSUID,
        options: Some("mode=0755"),
    },
    Mount {
        kind: "tmpfs",
        target: "/run",
        flags: MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV),
        options: Some("mode=0755"),
    },
    Mount {
        kind: "tmpfs",
        target: "/tmp",
        flags: MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV),
        options: Some("mode=1777"),
    },
];

/// Mounts all of them.
pub(crate) fn mount_all() {
    for Mount {
        kind,
        target,
        flags,
        options,
    } in MOUNTS
    {
        if let Err(error) = mount(Some(kind), target, Some(kind), flags, options) {
            say(&format!("{kind} can't be mounted on {target}: {error}"));
        }
    }
}
