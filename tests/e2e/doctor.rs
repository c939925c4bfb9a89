//! `doctor` reports the state of a sandbox, what is missing and its impact, and changes nothing.

use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use patchbay_tests::{
    Card, Configure, Done, FakeAgent, FakeQmp, Guest, Machine, patchbay, run, temp_dir,
};
use patchbay_types::failure::{Failure, Kind};
use serde_json::{Value, json};

fn card() -> Card {
    Card::named("eth1")
}

fn json(done: &Done) -> Value {
    serde_json::from_str(&done.out).unwrap_or_else(|error| panic!("{error}: {done}"))
}

/// Returns the missing parts, with an exclamation mark where one prevents plugging.
fn missing(report: &Value) -> Vec<String> {
    let missing = report["missing"].as_array().unwrap().iter();
    let line = |lack: &Value| {
        let mark = if lack.get("blocks").is_some() {
            "!"
        } else {
            ""
        };
        assert!(lack["cost"].as_str().unwrap().len() > 20, "{lack}");
        format!("{}{mark}", lack["part"].as_str().unwrap())
    };
    missing.map(line).collect()
}

/// Returns the entry for vhost-net where the host lacks it, as test machines do.
fn vhost_net() -> Vec<String> {
    let there = std::fs::File::open("/dev/vhost-net").is_ok();
    let names = ["/dev/vhost-net".to_owned()].into_iter();
    names.filter(|_| !there).collect()
}

#[test]
fn doctor_complete_sandbox_lacks_nothing() {
    let guest = Guest::start_with(Machine::Q35, &["--ports", "2"]);
    let begun = Instant::now();
    let idle = guest
        .patchbay(&["doctor", &guest.id()[..5], "--json"])
        .json();
    assert!(
        begun.elapsed() < Duration::from_secs(3),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(idle["id"], guest.id());
    assert!(
        idle["machine"]["type"]
            .as_str()
            .unwrap()
            .starts_with("pc-q35-")
    );
    assert_eq!(idle["machine"]["state"], "running");
    assert_eq!(idle["machine"]["hotplug"], "acpi");
    assert_eq!(idle["machine"]["sharedMemory"], true);
    assert_eq!(
        idle["machine"]["slots"],
        json!([{"bus": "rp1", "free": 1}, {"bus": "rp2", "free": 1}])
    );
    let kernel = guest.exec("uname -r").ok();
    assert_eq!(idle["agent"]["kernel"], kernel.trim_end());
    assert_eq!(idle["cards"], json!([]));
    assert_eq!(missing(&idle), vhost_net());

    guest.plug(&card()).ok();
    let snapshot = guest.snapshot();
    let busy = guest.patchbay(&["doctor", guest.id(), "--json"]).json();
    let card = json!([{"name": "eth1", "device": "tap1", "hwAddr": "02:42:20:6f:a3:69",
                       "pciAddr": "01.0/00", "phase": "plugged"}]);
    assert_eq!(busy["cards"], card);
    assert_eq!(busy["machine"]["slots"], json!([{"bus": "rp2", "free": 1}]));
    let text = guest.patchbay(&["doctor", guest.id()]).ok();
    for part in [
        "monitor    ",
        "running",
        "memory     shared",
        "1 free: 1 on rp2",
        "by ACPI",
        "eth1: 02:42:20:6f:a3:69 at 01.0/00, from tap1, plugged",
        "verdict    cards can be plugged",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(guest.snapshot(), snapshot);
}

#[test]
fn doctor_distinguishes_full_from_paused_machine() {
    let guest = Guest::start_with(Machine::Q35, &["--ports", "1"]);
    guest.plug(&card()).ok();
    let full = guest.patchbay(&["doctor", guest.id(), "--json"]);
    assert_eq!(full.status, 7, "{full}");
    assert!(full.err.contains("pcie-root-port"), "{full}");
    assert_eq!(missing(&json(&full))[0], "free slot!");
    guest.unplug(&card()).ok();

    guest.monitor().run("stop", json!({}));
    let standing = guest.patchbay(&["doctor", guest.id(), "--json"]);
    assert_eq!(standing.status, 5, "{standing}");
    let report = json(&standing);
    assert_eq!(report["machine"]["state"], "paused");
    assert_eq!(report["agent"]["version"], Value::Null);
    assert_eq!(missing(&report)[0], "running machine!");
    // The doctor did not connect to the paused guest, which vhost-device-vsock would not survive.
    guest.resume();
    guest.plug(&card()).ok();
}

#[test]
fn doctor_nat_without_settings_lacks_them() {
    let guest = Guest::start(Machine::Q35);
    let lacks = || missing(&json(&guest.patchbay(&["doctor", guest.id(), "--json"])));
    let rest = lacks();
    assert!(!guest.exec("cat /proc/modules").ok().contains("ip_vs"));
    let set = |name: &str| {
        guest
            .patchbay(&["sysctl", "set", guest.id(), name, "1"])
            .ok()
    };
    let with = |parts: &[&str]| {
        let parts = parts.iter().map(|part| (*part).to_owned());
        let mut all: Vec<String> = parts.chain(rest.clone()).collect();
        all.sort();
        all
    };
    let lacks = || {
        let mut lacks = lacks();
        lacks.sort();
        lacks
    };
    guest.ipvsadm("-A -t 10.0.0.1:80 -s rr").ok();
    guest.ipvsadm("-a -t 10.0.0.1:80 -r 10.0.0.2:80 -g").ok();
    assert_eq!(lacks(), with(&[]), "direct routing");
    guest.ipvsadm("-a -t 10.0.0.1:80 -r 10.0.0.3:80 -m").ok();
    assert_eq!(lacks(), with(&["IPv4 forwarding", "conntrack of IPVS"]));
    guest.ipvsadm("-A -t [fd00::1]:80 -s rr").ok();
    guest.ipvsadm("-a -t [fd00::1]:80 -r [fd00::2]:80 -m").ok();
    set("net.ipv4.ip_forward");
    assert_eq!(lacks(), with(&["IPv6 forwarding", "conntrack of IPVS"]));
    let text = guest.patchbay(&["doctor", guest.id()]).ok();
    assert!(text.contains("missing    IPv6 forwarding: clients get no answers"));
    set("net.ipv6.conf.all.forwarding");
    set("conntrack");
    assert_eq!(lacks(), with(&[]));
}

#[test]
fn doctor_occupied_monitor_reports_the_rest() {
    let guest = Guest::start(Machine::Pc);
    let held = guest.monitor();
    let begun = Instant::now();
    let done = guest.patchbay(&["doctor", guest.id()]);
    assert!(
        begun.elapsed() < Duration::from_secs(8),
        "{:?}",
        begun.elapsed()
    );
    drop(held);
    assert_eq!(done.status, 5, "{done}");
    for part in [
        "does not serve us",
        "extra_monitor_socket",
        "no card can be plugged now",
    ] {
        assert!(done.out.contains(part), "{part}: {done}");
    }
    // The agent is contacted only if the monitor answers.
    assert!(!done.out.contains("kernel 6"), "{done}");
}

/// A machine without shared memory, ACPI and ports, and with a journal of an unfinished operation.
#[test]
fn doctor_reports_impact_of_each_lack() {
    let dir = temp_dir();
    let answer = |request: &Value| {
        let returned = match (
            request["execute"].as_str()?,
            request["arguments"]["path"].as_str(),
        ) {
            ("query-version", _) => {
                json!({"qemu": {"major": 10, "minor": 0, "micro": 2}, "package": ""})
            }
            ("query-status", _) => json!({"status": "running", "running": true}),
            ("query-memdev", _) => json!([{"share": true}, {"share": false}]),
            ("qom-get", Some("/machine")) => json!("virt-10.0-machine"),
            ("human-monitor-command", _) => json!(""),
            ("qom-list", Some("/machine/i440fx")) | ("x-query-virtio-status", _) => {
                return Some(json!({"error": {"class": "DeviceNotFound", "desc": "no"}}));
            }
            _ => json!([]),
        };
        Some(json!({ "return": returned }))
    };
    let _monitor = FakeQmp::serve(&dir.path().join("qmp.sock"), answer);
    let socket = dir.path().join("agent.sock");
    let _agent = FakeAgent::serve(&socket, Configure::Refuse(Failure::new(Kind::Kernel, "no")));
    let registered = json!({"qmp": dir.path().join("qmp.sock"), "netns": "/run/netns/pb-test-none", "pid": 1,
                            "agent": format!("unix://{}", socket.display())});
    std::fs::create_dir(dir.path().join("vm1")).unwrap();
    std::fs::write(dir.path().join("vm1/sandbox.json"), registered.to_string()).unwrap();
    let socket = std::fs::metadata(dir.path().join("qmp.sock")).unwrap();
    let state = format!(".machines/{}-{}", socket.dev(), socket.ino());
    let state = dir.path().join(state);
    std::fs::create_dir_all(state.join("cards")).unwrap();
    let card = json!({"phase": "removing", "name": "eth1", "device": "tap1", "attempt": "1", "fds": [], "behind":"own_tap"});
    std::fs::write(state.join("cards/eth1.json"), card.to_string()).unwrap();

    let done = run(&mut patchbay(dir.path(), &["doctor", "vm1", "--json"]), "");
    let report = json(&done);
    let mut expected = vec![
        "free slot!",
        "shared memory",
        "ACPI hot-plug",
        "network namespace!",
    ];
    let vhost_net = vhost_net();
    expected.extend(vhost_net.iter().map(String::as_str));
    expected.push("finished operation");
    assert_eq!(missing(&report), expected);
    assert_eq!(done.status, 7, "{done}");
    assert_eq!(report["cards"][0]["phase"], "removing");
    assert!(!state.join("lock").exists());
    // An unreadable journal prevents every change.
    std::fs::write(state.join("cards/eth1.json"), "{").unwrap();
    let done = run(&mut patchbay(dir.path(), &["doctor", "vm1", "--json"]), "");
    assert_eq!(missing(&json(&done)).last().unwrap(), "journal!");
}

/// The QEMU of openEuler on arm64. Debian's QEMU does not have the property (`arm64`, `machines`).
#[test]
fn doctor_of_native_ports_with_fast_unplug_names_no_wait() {
    const PORT: &str = "/machine/peripheral/rp1";
    for (fast_unplug, is_missing) in [(json!(true), false), (json!(false), true)] {
        let dir = temp_dir();
        let answer = move |request: &Value| {
            let arguments = &request["arguments"];
            let returned = match (
                request["execute"].as_str()?,
                arguments["path"].as_str(),
                arguments["property"].as_str(),
            ) {
                ("qmp_capabilities", ..) => json!({}),
                ("query-version", ..) => json!({"qemu": {"major": 8, "minor": 2, "micro": 0}}),
                ("query-status", ..) => json!({"status": "running", "running": true}),
                ("query-memdev", ..) => json!([{"share": true}]),
                ("qom-get", Some("/machine"), Some("type")) => json!("virt-8.2-machine"),
                ("qom-list", Some("/machine/peripheral"), _) => {
                    json!([{"name": "rp1", "type": "child<pcie-root-port>"}])
                }
                ("qom-list", Some("/machine/peripheral-anon"), _) => json!([]),
                ("qom-get", Some(PORT), Some("parent_bus")) => json!("/machine/host/pcie.0"),
                ("qom-get", Some(PORT), Some("addr")) => json!(8),
                ("qom-get", Some(PORT), Some("hotplug")) => json!(true),
                ("qom-get", Some(PORT), Some("fast-unplug")) => fast_unplug.clone(),
                ("human-monitor-command", ..) => json!(""),
                _ => return Some(json!({"error": {"class": "DeviceNotFound", "desc": "no"}})),
            };
            Some(json!({ "return": returned }))
        };
        let monitor = dir.path().join("qmp.sock");
        let _monitor = FakeQmp::serve(&monitor, answer);
        let agent = format!("unix://{}/agent.sock", dir.path().display());
        let options = ["--qmp", monitor.to_str().unwrap(), "--agent", &agent];
        let done = run(
            patchbay(dir.path(), &options).args(["doctor", "vm1", "--json"]),
            "",
        );
        let report = json(&done);
        assert_eq!(report["machine"]["fastUnplug"], !is_missing, "{done}");
        let missing = missing(&report);
        let names_acpi = missing.iter().any(|part| part == "ACPI hot-plug");
        assert_eq!(names_acpi, is_missing, "{done}");
    }
}

#[test]
fn doctor_unknown_sandbox_is_not_found() {
    let dir = temp_dir();
    let done = run(&mut patchbay(dir.path(), &["doctor", "none"]), "");
    assert_eq!((done.status, done.out.as_str()), (3, ""), "{done}");
    assert!(done.err.contains("no such container ID"), "{done}");
}
