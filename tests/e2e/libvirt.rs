//! `docs/libvirt.md`, with a libvirtd that sees mount, process and network namespaces of the test.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use patchbay_tests::{Built, Done, temp_dir};

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

/// Arguments of the page that add the second monitor, and its key in the configuration.
const SECOND_MONITOR: [&str; 2] = [
    "    <qemu:arg value='-qmp'/>
    <qemu:arg value='unix:/var/lib/libvirt/qemu/web-patchbay.sock,server=on,wait=off'/>",
    "qmp = \"/var/lib/libvirt/qemu/web-patchbay.sock\"\n",
];

/// Cards of a domain whose monitor libvirtd shares; commands that are killed; failures with their exit codes.
const THROUGH_LIBVIRT: &str = r#"
fails() {
  local code=$1 status=0
  shift
  "$@" || status=$?
  [ $status -eq $code ] || { echo "$*: $status, not $code" >&2; exit 1; }
}
cards() { virsh qemu-monitor-command web --hmp 'info network' | grep -c virtio-net-pci || true; }
patchbay doctor web
for wait in 0.05 0.2 0.35 0.5 0.65 0.8 0.95 1.1; do
  timeout -s KILL $wait patchbay nic add web eth1 --tap tap1 --ip 172.16.1.3/24 || true
done
patchbay nic add web eth1 --tap tap1 --ip 172.16.1.3/24
patchbay nic add web eth2 --tap tap2 --queues 2
echo "cards: $(cards)"
ip addr add 172.16.1.1/24 dev tap1
ip link set tap1 up
ping -c 3 172.16.1.3
for wait in 0.05 0.2 0.35 0.5 0.65 0.8 0.95; do
  timeout -s KILL $wait patchbay nic del web --name eth2 || true
done
patchbay nic list web | grep -q eth2 && patchbay nic del web --name eth2
echo "after removal: $(cards)"
virsh suspend web
fails 5 patchbay nic add web eth3 --tap tap3
virsh resume web
kill -STOP $(cat /run/libvirt/qemu/web.pid)
fails 5 patchbay nic add web eth3 --tap tap3
kill -CONT $(cat /run/libvirt/qemu/web.pid)
PATH=/nonexistent $(which env) -- $(which patchbay) nic add web eth3 --tap tap3 || echo "without virsh: $?"
patchbay nic del web --name eth1
echo "at the end: $(cards)"
virsh destroy web
fails 3 patchbay nic list web
"#;

/// Runs the page's blocks up to the definition, and then others.
fn run_domain(edit: impl Fn(&str) -> String, others: &[&str]) -> Done {
    let blocks = blocks(PAGE);
    let [build, definition @ .., _] = &blocks[..] else {
        panic!("{blocks:?}");
    };
    assert!(
        build.ends_with("patchbay-sandbox build --image image\n"),
        "{build}"
    );
    let dir = temp_dir();
    symlink(Built::Image.dir(), dir.path().join("image")).unwrap();
    let definition: Vec<String> = definition.iter().map(|block| edit(block)).collect();
    let definition: Vec<&str> = definition.iter().map(String::as_str).collect();
    let all = [&[LIBVIRTD], &definition[..], others].concat();
    let mut enter = Command::new("unshare");
    enter.args(["--mount", "--net"]);
    let done = shell(&mut enter, dir.path(), &all);
    let log = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap_or_default();
    let (daemon, console) = (log("libvirt/libvirtd.log"), log("console.log"));
    assert_eq!(done.status, 0, "{done}\n{daemon}\n{console}");
    done
}

#[test]
fn page_leads_from_a_definition_to_a_ping() {
    let blocks = blocks(PAGE);
    let (wait, rest) = blocks.last().unwrap().split_once('\n').unwrap();
    let done = run_domain(str::to_owned, &[wait, WITHOUT_NAME, rest]);
    let out = &done.out;
    assert!(out.contains("verdict    cards can be plugged\n"), "{out}");
    assert!(out.contains("3 packets transmitted, 3 received"), "{out}");
    assert!(out.contains("Domain 'web' destroyed"), "{out}");
    let has_vsock = Path::new("/dev/vhost-vsock").exists();
    let is_refused = done.err.contains("the domain web of libvirt has no vsock");
    assert_eq!(is_refused, !has_vsock, "{done}");
}

#[test]
fn domain_without_second_monitor_has_cards_through_libvirt() {
    let without = |block: &str| {
        SECOND_MONITOR
            .iter()
            .fold(block.to_owned(), |text, part| text.replace(part, ""))
    };
    let block = blocks(PAGE).concat();
    assert!(block.contains(SECOND_MONITOR[0]), "{block}");
    let wait = "until patchbay nic list web; do sleep 1; done";
    let done = run_domain(without, &[wait, THROUGH_LIBVIRT]);
    let (out, err) = (&done.out, &done.err);
    for text in [
        ", shared by libvirt at qemu:///system\n",
        "cards: 2\n",
        "3 packets transmitted, 3 received",
        "after removal: 1\n",
        "without virsh: 7\n",
        "at the end: 0\n",
    ] {
        assert!(out.contains(text), "{text}: {done}");
    }
    assert!(
        err.contains("patchbay: virsh, which uses the monitor"),
        "{done}"
    );
}
