//! File systems of the guest.

use nix::mount::{MsFlags, mount};

use crate::print;

const NO_SUID_DEV: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV);
const NO_SUID_DEV_EXEC: MsFlags = NO_SUID_DEV.union(MsFlags::MS_NOEXEC);

/// Type, mount point, flags and options.
const MOUNTS: [(&str, &str, MsFlags, Option<&str>); 5] = [
    ("proc", "/proc", NO_SUID_DEV_EXEC, None),
    ("sysfs", "/sys", NO_SUID_DEV_EXEC, None),
    ("devtmpfs", "/dev", MsFlags::MS_NOSUID, Some("mode=0755")),
    ("tmpfs", "/run", NO_SUID_DEV, Some("mode=0755")),
    ("tmpfs", "/tmp", NO_SUID_DEV, Some("mode=1777")),
];

/// Mounts all file systems.
pub(crate) fn mount_all() {
    for (kind, target, flags, options) in MOUNTS {
        if let Err(error) = mount(Some(kind), target, Some(kind), flags, options) {
            print(&format!("could not mount {kind} on {target}: {error}"));
        }
    }
}
