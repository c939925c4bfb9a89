//! The agent's units in a guest with systemd.

use std::time::{Duration, Instant};

use patchbay_tests::{Card, Guest};

use super::removal::NATIVE;

const UNIT: &str = "patchbay-agent.service";
/// Maximum exposure by `systemd-analyze security`, in tenths.
const MAX_EXPOSURE: u32 = 30;
/// The supervisor enters namespaces, and has the capabilities of the agents that it starts.
const MAX_EXPOSURE_OF_SUPERVISOR: u32 = 39;

/// Returns the names of the running units of this pattern.
fn running(guest: &Guest, pattern: &str) -> Vec<String> {
    let words = format!("systemctl list-units --plain --no-legend --state=running {pattern}");
    let listed = guest.exec(&words).ok();
    let names = listed
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    names.map(str::to_owned).collect()
}

fn property(guest: &Guest, unit: &str, name: &str) -> String {
    let shown = guest
        .exec(&format!("systemctl show --value -p {name} {unit}"))
        .ok();
    shown.trim_end().to_owned()
}

fn exposure(guest: &Guest, unit: &str) -> u32 {
    let words = format!("systemd-analyze --no-pager security {unit}");
    let report = guest.exec(&words).ok();
    let start = format!("Overall exposure level for {unit}: ");
    let line = report.lines().find_map(|line| line.split_once(&start));
    let (_, rest) = line.unwrap_or_else(|| panic!("{report}"));
    let tenths = rest.split_whitespace().next().unwrap().replace('.', "");
    tenths.parse().unwrap()
}

/// Returns the one running unit of this pattern, which systemd starts for a connection of the agent.
fn helper(guest: &Guest, pattern: &str) -> String {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match &running(guest, pattern)[..] {
            [one] => return one.clone(),
            other => assert!(Instant::now() < deadline, "{pattern}: {other:?}"),
        }
    }
}

#[test]
fn unit_is_hardened_and_active_once_the_agent_serves() {
    let guest = Guest::start_debian(&[]);
    let modules = helper(&guest, "patchbay-modules@*");
    let namespaces = helper(&guest, "patchbay-netns@*");
    assert_eq!(running(&guest, UNIT), [UNIT]);
    for (name, value) in [
        ("Type", "notify"),
        ("NRestarts", "0"),
        ("StatusErrno", "0"),
        ("ConditionResult", "yes"),
    ] {
        assert_eq!(property(&guest, UNIT, name), value, "{name}");
    }
    for (unit, maximum) in [
        (UNIT, MAX_EXPOSURE),
        (&modules, MAX_EXPOSURE),
        (&namespaces, MAX_EXPOSURE_OF_SUPERVISOR),
    ] {
        let found = exposure(&guest, unit);
        assert!(found <= maximum, "{unit}: {found} tenths");
        // Not root, and confined by the process itself too.
        let pid = property(&guest, unit, "MainPID");
        let status = guest.exec(&format!("cat /proc/{pid}/status")).ok();
        assert!(
            status.contains("\nUid:\t96100\t96100\t96100\t96100\n"),
            "{unit}: {status}"
        );
    }
    // The log of the start has no complaint about a limit.
    let journal =
        guest.shell("journalctl --sync && journalctl -p warning --no-pager -u 'patchbay-*'");
    assert!(!journal.ok().contains("fewer limits"));
    assert_enabled_as_by_preset(&guest);
    assert_helpers_end_with_the_agent(&guest, &namespaces);
}

fn assert_enabled_as_by_preset(guest: &Guest) {
    let state = |unit: &str| guest.exec(&format!("systemctl is-enabled {unit}")).out;
    for unit in [UNIT, "patchbay-agent.socket"] {
        assert_eq!(state(unit), "enabled\n", "{unit}");
        guest.exec(&format!("systemctl disable {unit}")).ok();
        assert_eq!(state(unit), "disabled\n", "{unit}");
        guest.exec(&format!("systemctl preset {unit}")).ok();
        assert_eq!(state(unit), "enabled\n", "{unit}");
    }
}

#[test]
fn confined_units_load_modules_and_change_settings() {
    let guest = Guest::start_debian(&[]);
    let scheduler = "/sys/module/ip_vs_wrr";
    assert_ne!(guest.exec(&format!("test -e {scheduler}")).status, 0);
    guest.ipvsadm("-A -t 10.0.0.1:80 -s wrr").ok();
    guest.exec(&format!("test -e {scheduler}")).ok();
    let table = guest.exec("cat /proc/net/ip_vs").ok();
    assert!(table.contains("TCP  0A000001:0050 wrr"), "{table}");

    let set = |words: &[&str], value: &str| {
        let sysctl = ["sysctl", "set", guest.id(), "net.ipv4.ip_forward", value];
        guest.patchbay(&[words, &sysctl].concat()).ok();
    };
    let forward = "cat /proc/sys/net/ipv4/ip_forward";
    set(&[], "1");
    assert_eq!(guest.exec(forward).ok(), "1\n");

    // A named namespace, and that of a process of another user, which systemd has not started.
    guest.exec("ip netns add other").ok();
    set(&[], "0");
    set(&["--guest-netns", "/run/netns/other"], "1");
    assert_eq!(guest.exec(forward).ok(), "0\n");
    assert_eq!(
        guest.exec(&format!("ip netns exec other {forward}")).ok(),
        "1\n"
    );
    let process = "ip netns exec other setpriv --reuid 1000 sleep 600 >/dev/null 2>&1 & \
        until [ $(readlink /proc/$!/exe) = $(command -v sleep) ]; do sleep 0.05; done; echo $!";
    let process = guest.shell(process).ok();
    let add = [
        "--guest-netns",
        process.trim_end(),
        "ipvs",
        guest.id(),
        "-A",
        "-t",
        "10.0.0.2:80",
        "-s",
        "sh",
    ];
    guest.patchbay(&add).ok();
    let table = guest.exec("ip netns exec other cat /proc/net/ip_vs").ok();
    assert!(table.contains("TCP  0A000002:0050 sh"), "{table}");
    let own = guest.exec("cat /proc/net/ip_vs").ok();
    assert!(!own.contains("0A000002"), "{own}");
}

#[test]
fn confined_unit_starts_sync_daemon_and_powers_slot_off() {
    let guest = Guest::start_debian(&NATIVE);
    let card = Card::numbered(1).address("172.16.1.3/24");
    guest.plug(&card).ok();
    guest
        .ipvsadm("--start-daemon backup --mcast-interface eth1 --syncid 7")
        .ok();
    // Threads that end meanwhile have no file.
    let threads = guest.shell("cat /proc/[0-9]*/comm").out;
    assert!(threads.contains("ipvs-b:"), "{threads}");
    guest.ipvsadm("--stop-daemon backup").ok();
    // Without the agent, a native controller waits 5 s for an operator.
    let power = "find /sys/bus/pci/slots/ -name power -user 96100";
    assert!(!guest.exec(power).ok().is_empty());
    guest.unplug(&card).assert_null();
    let journal =
        guest.shell("journalctl --sync && journalctl -o cat --no-pager -u patchbay-agent.service");
    let journal = journal.ok();
    let released = journal.lines().find(|line| line.contains("release_card"));
    assert!(
        released.is_some_and(|line| line.contains(r#""outcome":"done""#)),
        "{journal}"
    );
}

/// Kills the agent, and expects new helpers with the next one.
fn assert_helpers_end_with_the_agent(guest: &Guest, before: &str) {
    guest.exec("ip netns add other").ok();
    let list = [
        "--guest-netns",
        "/run/netns/other",
        "sysctl",
        "list",
        guest.id(),
    ];
    guest.patchbay(&list).ok();
    guest
        .shell(&format!(
            "kill -9 $(systemctl show --value -p MainPID {UNIT})"
        ))
        .ok();
    guest.patchbay(&list).ok();
    let after = helper(guest, "patchbay-netns@*");
    assert_ne!(after, before);
    helper(guest, "patchbay-modules@*");
    // One that was killed leaves no failed unit.
    guest.exec(&format!("systemctl kill -s KILL {after}")).ok();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !running(guest, "patchbay-netns@*").is_empty() {
        assert!(Instant::now() < deadline);
    }
    assert_eq!(guest.exec("systemctl is-system-running").out, "running\n");
}
