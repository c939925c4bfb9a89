//! The agent in the guest: size, privileges, log, and fallbacks for older kernels.

use std::process::Command;
use std::time::{Duration, Instant};

use patchbay_host::agent::Agent;
use patchbay_host::interrupt::Interrupt;
use patchbay_tests::{AGENT_PID, Card, Guest, Machine, bin, patchbay, run};
use patchbay_types::{
    Arp, InterfaceAddress, LinkFields, LinkSpec, Mtu, PciAddress, PciPath, QueuePairs,
};

const MAC: &str = "02:42:20:6f:a3:69";

#[test]
fn agent_is_small_confined_and_logs_requests() {
    let guest = Guest::start(Machine::Q35);
    assert_static_and_small(&guest);
    assert_capability_and_seccomp(&guest);
    assert_one_log_record_per_request(&guest);
}

fn assert_static_and_small(guest: &Guest) {
    let agent = bin("patchbay-agent");
    let file = run(Command::new("file").arg(&agent), "").ok();
    assert!(file.contains("static-pie linked"), "{file}");
    let size = std::fs::metadata(&agent).unwrap().len();
    assert!(size <= 5 << 19, "{size} bytes are more than 2.5 MiB");

    let kib: u32 = status(guest, "VmRSS:")
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    assert!(kib <= 3 << 10, "{kib} KiB resident");
}

/// Returns a field of the agent's `/proc/PID/status`.
fn status(guest: &Guest, name: &str) -> String {
    let status = guest.shell(&format!("cat /proc/{AGENT_PID}/status")).ok();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_else(|| panic!("{status}")).trim().to_owned()
}

fn assert_capability_and_seccomp(guest: &Guest) {
    // CAP_NET_ADMIN (linux/capability.h: 12).
    let one = format!("{:016x}", 1 << 12);
    // CAP_NET_BIND_SERVICE (10) is raised for the start of a sync daemon.
    let permitted = format!("{:016x}", 1 << 10 | 1 << 12);
    for (name, value) in [
        ("CapPrm:", permitted.as_str()),
        ("CapEff:", &one),
        ("CapBnd:", &permitted),
        ("CapInh:", "0000000000000000"),
        ("CapAmb:", "0000000000000000"),
        ("NoNewPrivs:", "1"),
        ("Seccomp:", "2"),
    ] {
        assert_eq!(status(guest, name), value, "{name}");
    }
}

fn assert_one_log_record_per_request(guest: &Guest) {
    // The reply can arrive before the record has passed the serial line, which keeps the order: once
    // the second request is logged, so is the first.
    guest.ipvsadm("-A -t 10.0.0.1:80 -s rr").ok();
    guest.ipvsadm("-C").ok();
    let deadline = Instant::now() + Duration::from_secs(20);
    let console = loop {
        let console = guest.sandbox(&["console", guest.id()]).ok();
        if console.contains(r#""-C""#) {
            break console;
        }
        assert!(Instant::now() < deadline, "{console}");
    };
    let record = console.lines().filter(|line| line.contains(r#""-A""#));
    let record: Vec<serde_json::Value> = record
        .map(|line| serde_json::from_str(line.trim()).unwrap())
        .collect();
    assert_eq!(record.len(), 1, "{console}");
    assert_eq!(record[0]["request"], "ipvs_change");
    assert_eq!(record[0]["outcome"], "done");
    assert!(record[0]["duration_us"].is_u64(), "{}", record[0]);
}

#[test]
fn queues_are_set_by_ioctl() {
    let guest = Guest::start(Machine::Q35);
    let agent = guest.second_agent("patchbay-agent --ethtool ioctl", 1070);
    let card = Card::named("eth-test").mac(MAC).queues(4).json();
    let qmp = guest.file("qmp.sock");
    let words = [
        "kata-network",
        "add-iface",
        "x",
        "-",
        "--agent",
        &agent,
        "--netns",
        guest.netns().name(),
    ];
    let mut add = patchbay(guest.run_dir(), &words);
    run(add.arg("--qmp").arg(&qmp), &card).ok();
    let shown = guest.exec("ethtool -l eth-test").ok();
    assert_eq!(shown.matches("Combined:\t4").count(), 2, "{shown}");
}

/// Linux 6.1 renames a link only while it is down, which removes routes and IPv6 addresses.
#[test]
fn rename_of_up_card_keeps_addresses_and_routes() {
    let guest = Guest::start(Machine::Q35);
    let card = Card::named("old")
        .mac(MAC)
        .address("172.16.0.3/16")
        .address("fd00::3/64");
    guest.plug(&card).ok();
    guest.exec("ip route add 10.1.0.0/16 via 172.16.0.1").ok();
    guest
        .exec("ip route add default via 172.16.0.2 metric 7")
        .ok();
    guest.exec("ip -6 route add fd01::/64 via fd00::1").ok();
    let shown = |name: &str| {
        let routes = guest.exec("ip route show").ok() + &guest.exec("ip -6 route show").ok();
        let addresses = guest.exec("ip -o addr show scope global").ok();
        let mut lines: Vec<String> = (routes + &addresses)
            .lines()
            // The kernel adds the link-local route once it sees the carrier, up to a second later.
            .filter(|line| !line.contains("fe80::"))
            .map(|line| {
                line.split_whitespace()
                    .collect::<Vec<_>>()
                    .join(" ")
                    .replace(name, "NAME")
            })
            .collect();
        lines.sort();
        lines
    };
    let before = shown("old");
    let agent = guest.registered()["agent"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let address = |ip: &str, prefix| InterfaceAddress::new(ip.parse().unwrap(), prefix).unwrap();
    let parts = LinkFields {
        name: "new".parse().unwrap(),
        mac: MAC.parse().unwrap(),
        mtu: Mtu::try_from(1500).unwrap(),
        addresses: vec![address("172.16.0.3", 16), address("fd00::3", 64)],
        queues: Some(QueuePairs::ONE),
        arp: Arp::On,
    };
    let path = PciPath::new([8, 0].map(PciAddress::from_devfn).to_vec()).unwrap();
    let spec = LinkSpec::new(parts, "addresses").unwrap();
    let configured = Agent::connect(&agent, &Interrupt::default())
        .unwrap()
        .configure(&path, &spec, &[], Duration::from_secs(5))
        .unwrap();
    assert_eq!(configured.name.to_string(), "new");
    assert_eq!(shown("new"), before);
}
