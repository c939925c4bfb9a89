//! `export`, `apply` and `diff`, judged by iproute2 and ipvsadm in the guest.

mod cards;
mod interrupted;
mod random;
mod renamed;
mod settings;

use patchbay_tests::{Done, Guest, Machine, patchbay, run};
use patchbay_types::failure::Kind;
use serde_json::Value;

/// Document with every section.
const WHOLE: &str = r#"
interfaces:
  - device: tap1
    name: eth1
    hwAddr: 02:00:00:00:00:01
    mtu: 1500
    IPAddresses:
      - {address: 172.16.1.3, mask: 24}
      - {address: "fd01::3", mask: 64}
  - device: tap2
    name: eth2
    hwAddr: 02:00:00:00:00:02
    mtu: 1400
    IPAddresses:
      - {address: 172.16.2.3, mask: 24}
    neighbors:
      - {address: 172.16.2.8, lladdr: 02:00:00:00:02:08}
routes:
  - {dest: default, gateway: 172.16.1.1, device: eth1}
  - {dest: 10.2.0.0/16, gateway: 172.16.2.1, device: eth2, metric: 7}
  - {dest: 10.3.0.0/16, device: eth2, table: 100}
neighbors:
  - {address: 172.16.1.9, device: eth1, lladdr: 02:00:00:00:01:09}
  - {address: 172.16.2.8, device: eth2, lladdr: 02:00:00:00:02:08}
ipvs: |
  -A -t 10.0.0.1:80 -s rr
  -a -t 10.0.0.1:80 -r 10.0.0.2:80 -m -w 3
  -A -u 10.0.0.1:53 -s wlc
sysctls:
  net.ipv4.ip_forward: 1
  conntrack: 1
"#;

fn apply_command(guest: &Guest, words: &[&str]) -> std::process::Command {
    patchbay(
        guest.run_dir(),
        &[&["apply", guest.id(), "-"], words].concat(),
    )
}

fn apply(guest: &Guest, document: &str) -> Done {
    run(&mut apply_command(guest, &[]), document)
}

fn diff(guest: &Guest, document: &str) -> Done {
    run(
        &mut patchbay(guest.run_dir(), &["diff", guest.id(), "-"]),
        document,
    )
}

fn export(guest: &Guest) -> String {
    guest.patchbay(&["export", guest.id()]).ok()
}

/// Returns the state of the guest that a document can change.
fn state(guest: &Guest) -> String {
    let script = "ip -o addr show | grep -v fe80 | sed 's/^[0-9]*: //; s/valid_lft.*//'; \
        ip -o link show | sed 's/^[0-9]*: //; s/ qdisc.*//; s/NO-CARRIER,//; s/,LOWER_UP//'; \
        ip -4 route show table all | grep -v 'table local'; \
        ip -6 route show table all | grep -v -e fe80 -e ff00 -e multicast -e 'table local'; \
        ip neigh show nud permanent | sort; ipvsadm -Sn 2>&1; \
        sysctl -n net.ipv4.ip_forward net.ipv4.vs.conntrack 2>&1; true";
    guest.shell(script).ok()
}

/// Returns the index of an interface, which no later one has.
fn index(guest: &Guest, name: &str) -> Value {
    guest.ip(&format!("link show {name}"))[0]["ifindex"].clone()
}

/// Asserts that a dry run and `diff` print the changes and make none; returns them.
fn assert_dry(guest: &Guest) -> String {
    let before = state(guest);
    let empty = export(guest);
    assert_eq!(
        diff(guest, &empty),
        Done {
            status: 0,
            out: String::new(),
            err: String::new()
        }
    );
    let dry = run(&mut apply_command(guest, &["--dry-run"]), WHOLE).ok();
    assert_eq!(state(guest), before, "{dry}");
    let changes = diff(guest, WHOLE);
    assert_eq!((changes.status, &changes.out), (1, &dry), "{changes}");
    for line in [
        "+ interface eth1",
        "+ neighbor 172.16.1.9 lladdr 02:00:00:00:01:09 dev eth1",
        "+ route 10.2.0.0/16 via 172.16.2.1 dev eth2 metric 7",
        "+ ipvs -a -t 10.0.0.1:80 -r 10.0.0.2:80 -m -w 3",
        "~ sysctl net.ipv4.ip_forward: 0 -> 1",
    ] {
        assert!(dry.lines().any(|shown| shown == line), "{line}: {dry}");
    }
    dry
}

#[test]
fn document_applied_is_exported_and_survives_a_restart() {
    let guest = Guest::start(Machine::Q35);
    let empty = export(&guest);
    let dry = assert_dry(&guest);
    assert_eq!(apply(&guest, WHOLE).ok(), dry);
    let applied = state(&guest);
    for part in [
        "eth1 inet 172.16.1.3/24",
        "eth1 inet6 fd01::3/64",
        "default via 172.16.1.1 dev eth1",
        "10.2.0.0/16 via 172.16.2.1 dev eth2 metric 7",
        "10.3.0.0/16 dev eth2 table 100 scope link",
        "172.16.1.9 dev eth1 lladdr 02:00:00:00:01:09 PERMANENT",
        "172.16.2.8 dev eth2 lladdr 02:00:00:00:02:08 PERMANENT",
        "-A -t 10.0.0.1:80 -s rr\n-a -t 10.0.0.1:80 -r 10.0.0.2:80 -m -w 3\n-A -u 10.0.0.1:53 -s wlc\n1\n1\n",
    ] {
        assert!(
            applied
                .replace("    ", " ")
                .replace("  ", " ")
                .contains(part),
            "{part}: {applied}"
        );
    }
    let exported = export(&guest);
    for document in [&exported, WHOLE] {
        let again = apply(&guest, document);
        assert_eq!(
            (again.status, again.out.as_str()),
            (0, ""),
            "{again}\n{document}"
        );
        assert_eq!(state(&guest), applied);
    }
    let json = guest
        .patchbay(&["export", guest.id(), "--format", "json"])
        .ok();
    assert_eq!(apply(&guest, &json).ok(), "");
    guest.reset();
    assert_ne!(state(&guest), applied);
    apply(&guest, &exported).ok();
    assert_eq!(state(&guest), applied);
    assert_eq!(export(&guest), exported);
    apply(&guest, &empty).ok();
    // Another table is not managed by a document without routes in it; its routes ended with the card.
    assert_eq!(guest.kata_network("list-ifaces", "").ok(), "null\n");
    assert_eq!(guest.netns().links(), Vec::<String>::new());
}

#[test]
fn document_changes_only_what_differs() {
    let guest = Guest::start(Machine::Q35);
    apply(&guest, WHOLE).ok();
    let [kept, replaced] = ["eth1", "eth2"].map(|name| index(&guest, name));
    let changed = WHOLE
        .replace("172.16.1.3, mask: 24", "172.16.1.4, mask: 24")
        .replace("mtu: 1500", "mtu: 1450")
        .replace("device: tap2", "device: tap3")
        .replace("-w 3", "-w 5")
        .replace("gateway: 172.16.1.1", "gateway: 172.16.1.2");
    let done = apply(&guest, &changed).ok();
    assert_eq!(
        done.lines()
            .filter(|line| line.contains("interface"))
            .collect::<Vec<_>>(),
        [
            "- interface eth2 (another device)",
            "~ interface eth1: mtu 1450 addresses 172.16.1.4/24, fd01::3/64",
            "+ interface eth2"
        ],
        "{done}"
    );
    assert!(
        done.contains("~ ipvs -e -t 10.0.0.1:80 -r 10.0.0.2:80 -m -w 5\n"),
        "{done}"
    );
    assert_eq!(index(&guest, "eth1"), kept);
    assert_ne!(index(&guest, "eth2"), replaced);
    let now = state(&guest);
    assert!(now.contains("default via 172.16.1.2 dev eth1"), "{now}");
    assert!(now.contains("10.3.0.0/16 dev eth2 table 100"), "{now}");
    // The guest itself changes a card.
    guest.exec("ip link set eth1 down").ok();
    // The kernel has removed its routes and neighbors.
    let repair = diff(&guest, &changed).out;
    let first = "~ interface eth1: the guest has set it down\n";
    assert!(repair.starts_with(first), "{repair}");
    apply(&guest, &changed).ok();
    assert_eq!(diff(&guest, &changed).status, 0);
    assert_eq!(index(&guest, "eth1"), kept);
}

#[test]
fn document_without_pruning_keeps_strangers() {
    let guest = Guest::start(Machine::Q35);
    apply(&guest, WHOLE).ok();
    let other = r#"
interfaces: [{device: tap3, name: eth3, hwAddr: "02:00:00:00:00:03", mtu: 1500}]
routes: [{dest: default, gateway: 172.16.2.1, device: eth2}, {dest: 10.9.0.0/16, device: eth3}]
neighbors: [{address: 172.16.1.9, device: eth1, lladdr: "02:00:00:00:01:0a"}]
ipvs: ["-A -t 10.0.0.1:80 -s lc", "-A -t 10.0.0.9:80 -s rr"]
"#;
    let done = run(&mut apply_command(&guest, &["--prune=false"]), other).ok();
    assert_eq!(
        done.lines()
            .filter(|line| line.starts_with('-'))
            .collect::<Vec<_>>(),
        [
            "- neighbor 172.16.1.9 lladdr 02:00:00:00:01:09 dev eth1",
            "- route 0.0.0.0/0 via 172.16.1.1 dev eth1",
        ],
        "{done}"
    );
    let now = state(&guest);
    for part in [
        "default via 172.16.2.1 dev eth2",
        "10.2.0.0/16 via 172.16.2.1 dev eth2",
        "10.9.0.0/16 dev eth3",
        "172.16.1.9 dev eth1 lladdr 02:00:00:00:01:0a",
        "172.16.2.8 dev eth2 lladdr 02:00:00:00:02:08",
        "-A -t 10.0.0.1:80 -s lc\n-a -t 10.0.0.1:80 -r 10.0.0.2:80 -m -w 3\n-A -t 10.0.0.9:80 -s rr\n",
        "-A -u 10.0.0.1:53 -s wlc\n",
    ] {
        assert!(now.contains(part), "{part}: {now}");
    }
    let again = run(&mut apply_command(&guest, &["--prune=false"]), other).ok();
    assert_eq!(again, "");
    // With pruning, the document has a neighbor of a card that it removes.
    diff(&guest, other).assert_error(Kind::NotFound, "standard input:4:43: device 'eth1'");
}

#[test]
fn document_that_fails_is_undone() {
    let guest = Guest::start(Machine::Q35);
    guest.netns().ip("tuntap add tap4 mode tap").ok();
    apply(&guest, WHOLE).ok();
    let before = state(&guest);
    let exported = export(&guest);
    // Every section changes; the kernel refuses the scheduler, or the second setting.
    let changed = r#"
interfaces:
  - {device: tap1, name: eth1, hwAddr: "02:00:00:00:00:01", mtu: 1450, IPAddresses: [{address: 172.20.1.3, mask: 24}]}
  - {device: tap4, name: eth2, hwAddr: "02:00:00:00:00:02", mtu: 1500}
  - {device: tap5, name: eth5, hwAddr: "02:00:00:00:00:05", mtu: 1500, IPAddresses: [{address: 172.16.5.3, mask: 24}]}
routes:
  - {dest: default, gateway: 172.20.1.1, device: eth1}
  - {dest: 10.5.0.0/16, device: eth5, table: 200}
  - {dest: 10.6.0.0/16, device: eth1, table: 200}
neighbors:
  - {address: 172.16.5.9, device: eth5, lladdr: "02:00:00:00:05:09"}
  - {address: 172.16.1.9, device: eth1, lladdr: "02:00:00:00:01:0a"}
"#;
    let scheduler = "ipvs: [\"-A -t 10.0.0.7:80 -s rr\", \"-A -t 10.0.0.8:80 -s nosuch\"]\n";
    let gateway = changed.replace("172.20.1.1", "172.30.1.1");
    // The document doesn't concern the routes.
    let neighbors = r#"neighbors: [{address: 172.16.1.9, device: eth1, lladdr: "02:00:00:00:01:0b"}]
"#;
    for (document, kind, message) in [
        (format!("{changed}{scheduler}"), Kind::Unsupported, "nosuch"),
        (gateway, Kind::Kernel, "172.30.1.1"),
        (
            format!("{neighbors}{scheduler}"),
            Kind::Unsupported,
            "nosuch",
        ),
    ] {
        let done = apply(&guest, &document);
        assert_ne!(done.status, 0, "{done}");
        done.assert_error(kind, message);
        let end = "the changes before it were undone\n";
        assert!(done.err.ends_with(end), "{done}");
        assert_eq!(state(&guest), before, "{done}");
        assert_eq!(export(&guest), exported, "{done}");
    }
    apply(&guest, &exported).ok();
    let links = guest.netns().links();
    assert!(!links.iter().any(|link| link == "tap5"), "{links:?}");
}

#[test]
fn document_errors_change_nothing() {
    let guest = Guest::start(Machine::Q35);
    let before = guest.snapshot();
    for (document, kind, message) in [
        (
            "routes: [{dest: 10.0.0.0/8, device: eth7}]",
            Kind::NotFound,
            "standard input:1:37: device 'eth7'",
        ),
        (
            "routes:\n",
            Kind::Invalid,
            "standard input:1:1: routes has no value",
        ),
        (
            "mtu: 1\n",
            Kind::Invalid,
            "standard input:1:1: unknown section 'mtu'",
        ),
        (
            "sandbox: other\nroutes: []\n",
            Kind::NotFound,
            "has no document for the sandbox",
        ),
        (
            "routes: []\n---\nroutes: []\n",
            Kind::Invalid,
            "has two documents",
        ),
        (
            "ipvs: [\"-A -t 10.0.0.1:80\", \"-C\"]\n",
            Kind::Invalid,
            "standard input:1:29: ",
        ),
        (
            "interfaces: [{device: t1, name: eth1, hwAddr: \"02:00:00:00:00:01\", mtu: 1500, bridge: br7}]",
            Kind::NotFound,
            "standard input:1:14: bridge 'br7' doesn't exist",
        ),
        (
            "interfaces: [{link: net7}]",
            Kind::NotFound,
            "standard input:1:14: ",
        ),
    ] {
        apply(&guest, document).assert_error(kind, message);
        diff(&guest, document).assert_error(kind, message);
    }
    let id = guest.id();
    let both = format!(
        "sandbox: {id}\nsysctls: {{net.ipv4.ip_forward: 1}}\n---\nsandbox: other\nroutes: []\n"
    );
    let all = |words: &[&str]| run(&mut patchbay(guest.run_dir(), words), &both);
    all(&["apply", "-"]).assert_error(Kind::NotFound, "standard input:4:10: ");
    assert_eq!(guest.snapshot(), before);
    let changed = all(&["apply", id, "-"]).ok();
    assert_eq!(
        changed,
        format!("{id}: ~ sysctl net.ipv4.ip_forward: 0 -> 1\n")
    );
    assert_eq!(guest.exec("sysctl -n net.ipv4.ip_forward").ok(), "1\n");
}
