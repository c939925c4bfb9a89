//! A system call of the agent fails while it changes the network: the request fails with a clear error and
//! everything is as before, or the request succeeds without the call.
//!
//! `netcfg-ops` carries out the operations of the agent in a network namespace of this host. Each call
//! on sockets and files fails once, with an error that it can have; `make test-full` tries all of these.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use nix::errno::Errno;
use patchbay_tests::tracer::{calls, fail_call_at};
use patchbay_tests::{Done, Extent, Netns, rng, temp_dir};

/// Returns errors of a call.
fn errors(call: &str) -> &'static [Errno] {
    match call {
        "socket" | "openat" => &[Errno::EMFILE, Errno::ENOMEM, Errno::EINTR],
        "sendto" => &[Errno::ENOMEM, Errno::ENOBUFS, Errno::EINTR],
        "recvfrom" | "poll" => &[Errno::ENOMEM, Errno::EINTR],
        "write" => &[Errno::ENOSPC, Errno::EIO],
        "read" | "getdents64" | "readlink" | "unlink" => &[Errno::EIO, Errno::ENOMEM],
        _ => &[Errno::ENOMEM],
    }
}

/// Network namespace with two links, of which the second is the card of a fake sysfs.
struct Place {
    netns: Netns,
    sysfs: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let (netns, sysfs) = (Netns::new(), temp_dir());
        for line in [
            "link add eth1 address 02:00:00:00:00:01 type veth peer name eth1p address 02:00:00:00:00:02",
            "link set eth1p up",
            "link set eth1 up addrgenmode none",
            "addr add 172.16.0.3/16 dev eth1",
            "addr add fd00::3/64 dev eth1 nodad",
            "link add eth0 index 77 address 02:42:20:6f:a3:69 type veth peer name eth0p address 02:00:00:00:00:04",
            "link set eth0 addrgenmode none",
            "link set eth0p up",
            "route add 20.1.0.0/16 dev eth1",
            "route add 20.2.0.0/16 via 172.16.0.1 dev eth1 src 172.16.0.3",
            "route add 21.2.0.0/16 via 172.16.0.1 dev eth1",
            "-6 route add fd02::/48 via fd00::1 dev eth1 src fd00::3",
            "neigh add 172.16.0.7 lladdr 02:00:00:00:00:07 dev eth1",
        ] {
            netns.ip(line).ok();
        }
        plug(sysfs.path());
        Self { netns, sysfs }
    }

    /// Returns links, addresses, routes and static neighbors as iproute2 shows them, without what the
    /// kernel changes in the background: the state of links, and what it keeps for each of them.
    fn shown(&self) -> String {
        let neighbors = self.netns.ip("neigh show nud permanent").ok();
        // The kernel's list has no order.
        let mut neighbors: Vec<_> = neighbors.lines().map(|line| format!("{line}\n")).collect();
        neighbors.sort();
        let words = [
            "-d -o link show",
            "-o addr show",
            "-N -d -4 route show table all",
            "-N -d -6 route show table all",
        ];
        let shown = words.map(|words| self.netns.ip(words).ok()).concat() + &neighbors.concat();
        let background = [
            "fe80::",
            "ff00::/8",
            "ff02::",
            "table 255",
            "local ",
            "anycast ",
            "multicast ",
        ];
        let is_stable = |line: &&str| !background.iter().any(|own| line.contains(own));
        let words = |line: &str| {
            let mut words: Vec<_> = line.split_whitespace().collect();
            if let Some(state) = words.iter().position(|word| *word == "state") {
                words.drain(state..=state + 1);
            }
            let is_state = |word: &&str| ["qdisc", "noqueue", "noop", "linkdown"].contains(word);
            words.retain(|word| !is_state(word));
            let words = words.into_iter().map(without_state);
            words.collect::<Vec<_>>().join(" ")
        };
        let lines: Vec<_> = shown.lines().filter(is_stable).map(words).collect();
        lines.join("\n")
    }

    fn operation(&self, name: &str) -> Command {
        let examples = std::env::current_exe().unwrap();
        let examples = examples.ancestors().nth(2).unwrap().join("examples");
        let mut command = Command::new(examples.join("netcfg-ops"));
        command.arg(name).arg(self.sysfs.path());
        command
    }
}

/// Removes the flags of a link that the kernel sets by itself.
fn without_state(word: &str) -> String {
    let Some(flags) = word.strip_prefix('<') else {
        return word.to_owned();
    };
    let flags = flags.split([',', '>']);
    let flags: Vec<_> = flags
        .filter(|flag| ["UP", "NOARP", "PROMISC"].contains(flag))
        .collect();
    format!("<{}>", flags.join(","))
}

/// Makes the link with index 77 the card at PCI path 01.0/00, under both of its names.
fn plug(sysfs: &Path) {
    for name in ["eth0", "eth-test"] {
        let device = "devices/pci0000:00/0000:00:01.0/0000:01:00.0/virtio0/net";
        let device = format!("{device}/{name}");
        fs::create_dir_all(sysfs.join(&device)).unwrap();
        fs::write(sysfs.join(&device).join("ifindex"), "77\n").unwrap();
        fs::create_dir_all(sysfs.join("class/net")).unwrap();
        let link = sysfs.join("class/net").join(name);
        symlink(format!("../../{device}"), link).unwrap();
    }
}

/// Returns whether the error names its cause.
fn is_clear(done: &Done, errno: Errno) -> bool {
    (1..=9).contains(&done.status)
        && done.err.starts_with("patchbay: ")
        && done.err.contains(&io::Error::from(errno).to_string())
}

fn sweep(operation: &str) {
    let mut rng = rng();
    let place = Place::new();
    let before = place.shown();
    let (calls, done) = place.netns.within(|| calls(&place.operation(operation)));
    done.ok();
    let after = place.shown();
    assert_ne!(after, before);
    let (mut place, mut failed, mut survived) = (Place::new(), 0, 0);
    assert_eq!(place.shown(), before);
    for (number, call) in calls.iter().enumerate() {
        let errors = errors(call);
        let one = rng.usize(..errors.len());
        for (position, errno) in errors.iter().enumerate() {
            if position != one && Extent::of_run() == Extent::Sample {
                continue;
            }
            let (at, done) = place
                .netns
                .within(|| fail_call_at(&place.operation(operation), number, *errno));
            let context = format!("{operation}: {errno} of {at:?} ({number}): {done}");
            eprintln!("{context}");
            if done.status == 0 {
                survived += 1;
                assert_eq!(place.shown(), after, "{context}");
                place = Place::new();
            } else {
                failed += 1;
                assert_eq!(place.shown(), before, "{context}");
                assert!(is_clear(&done, *errno), "{context}");
            }
        }
    }
    eprintln!("{operation}: {failed} calls failed the request, {survived} did not");
    assert!(failed > calls.len() / 2);
}

#[test]
fn change_of_routes_with_a_failing_call_is_undone() {
    for operation in ["add-routes", "replace-routes", "delete-routes"] {
        sweep(operation);
    }
}

#[test]
fn change_of_neighbors_with_a_failing_call_is_undone() {
    sweep("add-neighbors");
}

#[test]
fn update_with_a_failing_call_is_undone() {
    sweep("update");
}

#[test]
fn update_of_flags_with_a_failing_call_is_undone() {
    sweep("set-flags");
}

#[test]
fn configure_with_a_failing_call_is_undone() {
    sweep("configure");
}
