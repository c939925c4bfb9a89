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

/// A virsh that kills patchbay before or after its call number `$KILL`, or is silent from call number `$HANG` on.
const STUB: &str = r#"
mkdir stub
virsh=$(command -v virsh)
cat >stub/virsh <<END
#!/bin/bash
calls=\$((\$(cat $PWD/calls) + 1))
echo \$calls >$PWD/calls
[ \$calls -lt \${HANG-1000} ] || exec sleep 600
[ "\$calls-before" != "\${KILL-}" ] || { kill -9 \$PPID; exit; }
[ "\$calls-after" != "\${KILL-}" ] || { setsid $virsh "\$@"; kill -9 \$PPID; exit; }
exec $virsh "\$@"
END
chmod +x stub/virsh
"#;

/// Functions for a domain whose monitor libvirtd shares.
const FUNCTIONS: &str = r#"
set -o pipefail
fails() {
  local code=$1 status=0
  shift
  "$@" || status=$?
  [ $status -eq $code ] || { echo "$*: $status, not $code" >&2; exit 1; }
}
# Runs a command with the virsh above, which counts its calls.
stubbed() { echo 0 >calls; PATH=$PWD/stub:$PATH "$@"; }
network() { virsh qemu-monitor-command web --hmp 'info network' >network; }
cards() { network && (grep -c virtio-net-pci network || true); }
taps() { (ls -l /proc/$(cat /run/libvirt/qemu/web.pid)/fd | grep -c net/tun || true); }
# QEMU closes descriptors a moment after the removal of their card.
nothing_left() {
  for _ in {1..50}; do
    [ "$(cards) $(taps)" != "0 0" ] || return 0
    sleep 0.1
  done
  echo "$(cards) cards and $(taps) descriptors $*" >&2
  exit 1
}
until patchbay nic list web; do sleep 1; done
add="patchbay nic add web eth1 --tap tap1 --ip 172.16.1.3/24"
del="patchbay nic del web --name eth1"
"#;

/// Commands that are killed at each call of virsh.
const KILLED: &str = r#"
stubbed $add
plug=$(cat calls)
stubbed $del
unplug=$(cat calls)
for ((call = 1; call <= plug; call++)); do
  for side in before after; do
    fails 137 stubbed env KILL=$call-$side $add
    patchbay nic add web eth2 --tap tap2
    found=$(cards)
    [ $found -le 2 ] || { echo "$found cards after a kill $side call $call of add" >&2; exit 1; }
    patchbay nic del web --name eth2
    [ $found -eq 1 ] || $del
    nothing_left after a kill $side call $call of add
  done
done
for ((call = 1; call <= unplug; call++)); do
  $add
  fails 137 stubbed env KILL=$call-before $del
  patchbay nic add web eth2 --tap tap2
  patchbay nic del web --name eth2
  [ "$(cards)" = 0 ] || $del
  nothing_left after a kill before call $call of del
done
echo "killed at $plug calls of add, $unplug of del"
"#;

/// Cards, and failures with their exit codes.
const CARDS: &str = r#"
patchbay list
patchbay doctor web
$add
patchbay nic add web eth2 --tap tap2 --queues 2
echo "cards: $(cards) with $(taps) queues"
ip addr add 172.16.1.1/24 dev tap1
ip link set tap1 up
ping -c 3 172.16.1.3
patchbay list
fails 9 stubbed env HANG=3 patchbay nic add web eth3 --tap tap3
patchbay nic list web
virsh suspend web
fails 5 patchbay nic add web eth3 --tap tap3
virsh resume web
fails 7 patchbay nic add web eth3 --vhost-user $PWD/backend
patchbay=$(command -v patchbay)
PATH=/nonexistent fails 7 $patchbay nic add web eth3 --tap tap3
PATH=/nonexistent $patchbay list
patchbay nic del web --name eth2
$del
nothing_left at the end
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

/// Removes the second monitor from a block of the page.
fn without_second_monitor(block: &str) -> String {
    assert!(PAGE.contains(SECOND_MONITOR[0]));
    let remove = |text: String, part: &&str| text.replace(part, "");
    SECOND_MONITOR.iter().fold(block.to_owned(), remove)
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
    let done = run_domain(without_second_monitor, &[STUB, FUNCTIONS, CARDS]);
    let (out, err) = (&done.out, &done.err);
    for text in [
        ", shared by libvirt at qemu:///system\n",
        "cards: 2 with 3 queues\n",
        "3 packets transmitted, 3 received",
        r#""state":"busy""#,
    ] {
        assert!(out.contains(text), "{text}: {done}");
    }
    for text in ["netdev_add can block the machine", "could not start virsh"] {
        assert!(err.contains(text), "{text}: {done}");
    }
}

#[test]
fn card_through_libvirt_killed_is_done_or_undone() {
    let done = run_domain(without_second_monitor, &[STUB, FUNCTIONS, KILLED]);
    for change in ["plugged", "unplugged"] {
        let warning = format!("warning: a command ended early while it {change} the card eth1");
        assert!(done.err.contains(&warning), "{done}");
    }
}
