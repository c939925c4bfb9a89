//! IPVS settings in a guest, compared with /proc and the connection table.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use patchbay_tests::balance::{Balancer, VIP};
use patchbay_tests::{Done, Guest, Machine};
use serde_json::json;

/// Prints the settings with their files, those of IPVS without a path.
const SETTINGS: &str = "cd /proc/sys/net/ipv4/vs; grep '' *; cd /proc/sys; \
    grep -H '' net/ipv4/ip_forward net/ipv6/conf/all/forwarding; cd net/netfilter; \
    grep -H '' nf_conntrack_max nf_conntrack_buckets nf_conntrack_generic_timeout \
    nf_conntrack_icmp*_timeout nf_conntrack_tcp_timeout_* nf_conntrack_udp_timeout*";

fn set(guest: &Guest, name: &str, value: &[&str]) -> Done {
    guest.patchbay(&[&["sysctl", "set", guest.id(), name], value].concat())
}

/// Reads every setting from /proc.
fn proc_settings(guest: &Guest) -> BTreeMap<String, String> {
    let shown = guest
        .sandbox(&["exec", guest.id(), "--", "sh", "-c", SETTINGS])
        .ok();
    let rows = shown.lines().map(|line| {
        let (name, value) = line.split_once(':').unwrap();
        let numbers: Vec<&str> = value.split_whitespace().collect();
        let name = match name.strip_prefix("nf_") {
            Some(name) => format!("net.netfilter.nf_{name}"),
            None => name.replace('/', "."),
        };
        (name, numbers.join(" "))
    });
    rows.collect()
}

/// Lists every setting by patchbay.
fn listed_settings(guest: &Guest) -> BTreeMap<String, String> {
    let listed = guest.patchbay(&["sysctl", "list", guest.id()]).json();
    let rows = listed.as_array().unwrap().iter().map(|row| {
        let text = |key: &str| row[key].as_str().unwrap().to_owned();
        (text("name"), text("value"))
    });
    rows.collect()
}

#[test]
fn setting_of_forwarding_leaves_ipvs_unloaded() {
    let guest = Guest::start(Machine::Q35);
    set(&guest, "net.ipv4.ip_forward", &["1"]).ok();
    assert_eq!(guest.exec("cat /proc/sys/net/ipv4/ip_forward").ok(), "1\n");
    set(&guest, "net.netfilter.nf_conntrack_max", &["4321"]).ok();
    let max = "cat /proc/sys/net/netfilter/nf_conntrack_max";
    assert_eq!(guest.exec(max).ok(), "4321\n");
    assert!(!guest.exec("cat /proc/modules").ok().contains("ip_vs"));
}

#[test]
fn settings_match_proc_and_invalid_are_refused() {
    let guest = Guest::start(Machine::Q35);
    invalid_settings_change_nothing(&guest);
    settings_match_proc(&guest);
}

fn settings_match_proc(guest: &Guest) {
    let listed = listed_settings(guest);
    assert_eq!(listed, proc_settings(guest));
    assert_eq!(listed.len(), 46);
    // Minimum and maximum of each range, except where they would require a sync daemon.
    for (name, values) in [
        ("am_droprate", ["0", "2147483647"]),
        ("amemthresh", ["0", "2147483647"]),
        ("backup_only", ["1", "0"]),
        ("cache_bypass", ["1", "0"]),
        ("conn_reuse_mode", ["0", "3"]),
        ("conntrack", ["1", "0"]),
        ("drop_entry", ["3", "0"]),
        ("drop_packet", ["3", "0"]),
        ("expire_nodest_conn", ["1", "0"]),
        ("expire_quiescent_template", ["1", "0"]),
        ("ignore_tunneled", ["1", "0"]),
        ("nat_icmp_send", ["1", "0"]),
        ("pmtu_disc", ["0", "1"]),
        ("run_estimation", ["0", "1"]),
        ("schedule_icmp", ["1", "0"]),
        ("secure_tcp", ["3", "0"]),
        ("sloppy_sctp", ["1", "0"]),
        ("sloppy_tcp", ["1", "0"]),
        ("snat_reroute", ["0", "1"]),
        ("sync_persist_mode", ["1", "0"]),
        ("sync_ports", ["64", "1"]),
        ("sync_qlen_max", ["0", "2147483647"]),
        ("sync_refresh_period", ["0", "2147483"]),
        ("sync_retries", ["3", "0"]),
        ("sync_sock_size", ["2147483647", "0"]),
        ("sync_threshold", ["0 2147483647", "5 0"]),
        ("sync_version", ["0", "1"]),
        ("net.ipv4.ip_forward", ["1", "0"]),
        ("net.ipv6.conf.all.forwarding", ["1", "0"]),
        ("net.netfilter.nf_conntrack_buckets", ["512", "65536"]),
        ("net.netfilter.nf_conntrack_max", ["0", "2147483647"]),
        (
            "net.netfilter.nf_conntrack_generic_timeout",
            ["1", "2147483"],
        ),
        (
            "net.netfilter.nf_conntrack_tcp_timeout_established",
            ["1", "2147483"],
        ),
        (
            "net.netfilter.nf_conntrack_udp_timeout_stream",
            ["1", "2147483"],
        ),
    ] {
        for value in values {
            let words: Vec<&str> = value.split(' ').collect();
            assert_eq!(set(guest, name, &words).ok(), "", "{name} {value}");
            assert_eq!(proc_settings(guest)[name], value, "{name}");
        }
    }
    assert_eq!(listed_settings(guest), proc_settings(guest));
}

fn invalid_settings_change_nothing(guest: &Guest) {
    // The first request loads IPVS.
    let before = listed_settings(guest);
    for (name, value, sentence) in [
        ("conntrack", &["2"][..], "conntrack is 0 or 1"),
        ("conntrack", &["0", "1"], "conntrack is 0 or 1"),
        ("sync_threshold", &["50", "3"], "THRESHOLD below PERIOD"),
        ("sync_ports", &["3"], "a power of two"),
        ("conntrack", &["on"], "whole number"),
        ("../ip_forward", &["1"], "an IPVS setting"),
        (
            "net.ipv4.ip_forward",
            &["2"],
            "net.ipv4.ip_forward is 0 or 1",
        ),
        ("net.ipv4.conf.all.rp_filter", &["1"], "an IPVS setting"),
        (
            "net.netfilter.nf_conntrack_buckets",
            &["1000"],
            "a multiple of 512",
        ),
        (
            "net.netfilter.nf_conntrack_udp_timeout",
            &["0"],
            "is 1 to 2147483",
        ),
    ] {
        let done = set(guest, name, value);
        assert_eq!((done.status, done.out.as_str()), (2, ""), "{name}: {done}");
        assert!(done.err.contains(sentence), "{name}: {done}");
    }
    assert_eq!(listed_settings(guest), before);
    assert_eq!(before, proc_settings(guest));
    let row = guest.patchbay(&["sysctl", "list", guest.id()]).json()[5].clone();
    assert_eq!(
        (&row["name"], &row["value"], &row["range"]),
        (&json!("conntrack"), &json!("0"), &json!("0 or 1"))
    );
}

/// Counts the connections to this server in the kernel's table.
fn connections(guest: &Guest, server: &str) -> usize {
    let table = guest.exec("cat /proc/net/ip_vs_conn").ok();
    table.lines().filter(|row| row.contains(server)).count()
}

#[test]
fn expire_nodest_conn_ends_connections() {
    let field = Balancer::start();
    let guest = &field.guest;
    field.serve(8001);
    let service = format!("-t {VIP}:8001");
    let server = format!("{service} -r 10.2.0.1:8001");
    guest.ipvsadm(&format!("-A {service} -s rr")).ok();
    for (value, left) in [("0", 5), ("1", 0)] {
        set(guest, "expire_nodest_conn", &[value]).ok();
        guest.ipvsadm(&format!("-a {server} -m")).ok();
        let open = field.clients[0].connections(8001, 5);
        // 10.2.0.1 port 8001 in the format of /proc.
        let before = connections(guest, "0A020001 1F41");
        assert!(before >= 5, "{before}");
        guest.ipvsadm(&format!("-d {server}")).ok();
        // The kernel takes up to a second to expire connections.
        let end = Instant::now() + Duration::from_secs(if left == 0 { 30 } else { 5 });
        while Instant::now() < end && (left != 0 || connections(guest, "0A020001 1F41") > 0) {
            thread::sleep(Duration::from_millis(200));
        }
        assert_eq!(connections(guest, "0A020001 1F41"), left, "{value}");
        drop(open);
    }
}
