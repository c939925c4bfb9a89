//! `docs/libvirt.md`, with a libvirtd that sees mount, process and network namespaces of the test.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use patchbay_tests::{Built, temp_dir};

use super::own_vm::{blocks, shell};

const PAGE: &str = include_str!("../../docs/libvirt.md");

/// Starts libvirtd with empty folders. Debian's build needs the user of QEMU that another package adds.
const LIBVIRTD: &str = r#"
mount -t tmpfs none /run
for folder in etc lib cache log; do
  mkdir -p libvirt/$folder
done
mkdir -p /run/libvirt /var/lib/libvirt /var/cache/libvirt /var/log/libvirt
mount --bind libvirt/lib /var/lib/libvirt
mount --bind libvirt/cache /var/cache/libvirt
mount --bind libvirt/log /var/log/libvirt
mount --bind libvirt/etc /etc/libvirt
cat >/etc/libvirt/qemu.conf <<END
user = "root"
group = "root"
security_driver = "none"
cgroup_controllers = []
namespaces = []
remember_owner = 0
stdio_handler = "file"
END
(cat /etc/passwd; echo "libvirt-qemu:x:64055:64055::/:/usr/sbin/nologin") >libvirt/passwd
(cat /etc/group; echo "libvirt-qemu:x:64055:") >libvirt/group
mount --bind libvirt/passwd /etc/passwd
mount --bind libvirt/group /etc/group
ip link set lo up
libvirtd >libvirt/libvirtd.log 2>&1 &
until virsh version >/dev/null 2>&1; do sleep 0.2; done
export LIBVIRT_DEFAULT_URI=qemu:///system
"#;

/// `list` knows the domain by its name in the configuration; libvirt can't know a vsock that a daemon serves.
const WITHOUT_NAME: &str = "patchbay list; PATCHBAY_CONFIG=$PWD/none patchbay nic list web || true";

#[test]
fn page_leads_from_a_definition_to_a_ping() {
    let blocks = blocks(PAGE);
    let [build, definition @ .., card] = &blocks[..] else {
        panic!("{blocks:?}");
    };
    assert!(
        build.ends_with("patchbay-sandbox build --image image\n"),
        "{build}"
    );
    let dir = temp_dir();
    symlink(Built::Image.dir(), dir.path().join("image")).unwrap();
    let (wait, rest) = card.split_once('\n').unwrap();
    let all = [&[LIBVIRTD], definition, &[wait, WITHOUT_NAME, rest]].concat();
    let mut enter = Command::new("unshare");
    enter.args(["--mount", "--net"]);
    let done = shell(&mut enter, dir.path(), &all);
    let log = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap_or_default();
    let (daemon, console) = (log("libvirt/libvirtd.log"), log("console.log"));
    assert_eq!(done.status, 0, "{done}\n{daemon}\n{console}");
    let out = &done.out;
    assert!(out.contains("verdict    cards can be plugged\n"), "{out}");
    assert!(out.contains("3 packets transmitted, 3 received"), "{out}");
    assert!(out.contains("Domain 'web' destroyed"), "{out}");
    let has_vsock = Path::new("/dev/vhost-vsock").exists();
    let is_refused = done.err.contains("the domain web of libvirt has no vsock");
    assert_eq!(is_refused, !has_vsock, "{done}");
}
