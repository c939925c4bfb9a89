//! `patchbay-cni` behind plugins of Debian, run through libcni, with a guest.

use std::fs;
use std::process::Command;
use std::thread;

use patchbay_tests::{Card, Cni, Done, Guest, Machine, Pod, run};
use serde_json::{Value, json};

const SUBNETS: [&str; 2] = ["10.88.0.0/24", "fd88::/64"];

/// Pings an address from inside the guest. Outside, the namespace itself can answer.
#[track_caller]
fn ping_from_guest(guest: &Guest, address: &str) {
    guest.exec(&format!("ping -c 1 -W 5 {address}")).ok();
}

/// Returns the configuration of patchbay's plugin alone, with the result of `add`.
fn with_result(result: &str) -> String {
    let mut config = Cni::patchbay();
    config["cniVersion"] = json!("1.0.0");
    config["name"] = json!("blue");
    let result = result.trim_end();
    config
        .to_string()
        .replacen('{', &format!(r#"{{"prevResult":{result},"#), 1)
}

/// Returns devices of the machine, addresses in the guest except for the kernel's, and the journal.
fn state(guest: &Guest) -> (Vec<String>, Vec<String>, Vec<String>) {
    let devices = guest.monitor().devices();
    let inside = guest.exec("ip -o addr show scope global").ok();
    let inside = inside.lines().map(str::to_owned).collect();
    (devices, inside, guest.journal())
}

#[track_caller]
fn assert_code(done: &Done, code: u32, message: &str) {
    assert_eq!(done.status, 1, "{done}");
    let error: Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!(error["code"], code, "{done}");
    assert!(done.out.contains(message), "{message}: {done}");
}

#[test]
fn bridge_network_reaches_guest_until_del() {
    let guest = Guest::start(Machine::Q35);
    let cni = Cni::new(guest.run_dir());
    let before = state(&guest);
    let pod = Pod::of(&guest, "net1");
    let plugins = json!([cni.bridge(&SUBNETS), Cni::patchbay()]);
    let added = cni.run("add", &plugins, &pod).json();
    let mac = added["interfaces"][2]["mac"].as_str().unwrap();
    let link = &guest.ip("link show net1")[0];
    assert_eq!(
        (link["address"].as_str(), &link["mtu"]),
        (Some(mac), &json!(1500))
    );
    for ip in added["ips"].as_array().unwrap() {
        let inside = guest.exec("ip -o addr show net1").ok();
        assert!(inside.contains(ip["address"].as_str().unwrap()), "{inside}");
        ping_from_guest(&guest, ip["gateway"].as_str().unwrap());
    }
    cni.run("check", &plugins, &pod).ok();

    // A repeated ADD changes nothing, and returns the text of the result.
    let text = serde_json::to_string_pretty(&added).unwrap();
    let again = run(&mut cni.plugin("ADD", &pod), &with_result(&text));
    assert_eq!(
        (again.err.as_str(), again.out.as_str()),
        ("", text.as_str()),
        "{again}"
    );
    // The link is that of this attachment, not of another one.
    let mut other = pod.clone();
    other.container = "other".to_owned();
    let done = run(&mut cni.plugin("ADD", &other), &with_result(&text));
    assert_code(&done, 101, "of another attachment");
    run(&mut cni.plugin("DEL", &other), &with_result(&text)).ok();

    // CHECK notices what is missing.
    let address = added["ips"][0]["address"].as_str().unwrap();
    guest.exec(&format!("ip addr del {address} dev net1")).ok();
    let done = cni.run("check", &plugins, &pod);
    assert_code(
        &done,
        101,
        "the card net1 differs from its link in its address",
    );
    guest.exec(&format!("ip addr add {address} dev net1")).ok();
    cni.run("check", &plugins, &pod).ok();
    // A card that was unplugged by hand is one that the machine does not need; ADD plugs it again.
    guest
        .patchbay(&["nic", "del", guest.id(), "--name", "net1"])
        .ok();
    cni.run("check", &plugins, &pod).ok();
    run(&mut cni.plugin("ADD", &pod), &with_result(&text)).ok();
    guest.netns().exec("tc filter del dev net1 ingress").ok();
    let done = cni.run("check", &plugins, &pod);
    assert_code(&done, 100, "the card net1 is not wired to its link");
    for _ in 0..3 {
        cni.run("del", &plugins, &pod).ok();
    }
    assert_eq!(state(&guest), before);
    assert_eq!(guest.netns().links(), Vec::<String>::new());
}

#[test]
fn point_to_point_network_reaches_guest() {
    let guest = Guest::start(Machine::Q35);
    let cni = Cni::new(guest.run_dir());
    let before = state(&guest);
    let pod = Pod::of(&guest, "net1");
    let mut ptp = cni.bridge(&["10.65.0.0/24"]);
    ptp["type"] = json!("ptp");
    ptp["mtu"] = json!(1400);
    let plugins = json!([ptp, {"type": "tuning", "allmulti": true}, Cni::patchbay()]);
    let added = cni.run("add", &plugins, &pod).json();
    assert_eq!(guest.ip("link show net1")[0]["mtu"], 1400);
    ping_from_guest(&guest, "10.65.0.1");
    assert_eq!(added["ips"][0]["gateway"], "10.65.0.1");
    cni.run("check", &plugins, &pod).ok();
    cni.run("del", &plugins, &pod).ok();
    assert_eq!(state(&guest), before);
}

#[test]
fn del_removes_only_card_of_attachment() {
    let guest = Guest::start(Machine::Q35);
    let cni = Cni::new(guest.run_dir());
    let plugins = json!([cni.bridge(&SUBNETS), Cni::patchbay()]);
    let pod = Pod::of(&guest, "net1");
    // Plugged by hand under the name of the interface.
    guest
        .plug(&Card::named("net2").address("172.16.0.3/16"))
        .ok();
    let by_hand = state(&guest);
    let second = Pod::of(&guest, "net2");
    cni.run("del", &plugins, &second).ok();
    assert_eq!(state(&guest), by_hand);
    let done = cni.run("add", &plugins, &second);
    assert_code(&done, 101, "of another attachment or plugged by hand");
    cni.run("del", &plugins, &second).ok();
    assert_eq!(state(&guest), by_hand);

    // The runtime has forgotten the namespace, and the container has another id.
    let mut renamed = pod.clone();
    renamed.container = "cnitool-1".to_owned();
    cni.run("add", &plugins, &renamed).ok();
    renamed.netns = String::new();
    cni.run("del", &plugins, &renamed).ok();
    assert_eq!(state(&guest), by_hand);
}

#[test]
fn del_of_ended_machine_succeeds() {
    let guest = Guest::start(Machine::Q35);
    let cni = Cni::new(guest.run_dir());
    let plugins = json!([cni.bridge(&SUBNETS), Cni::patchbay()]);
    let pod = Pod::of(&guest, "net1");
    cni.run("add", &plugins, &pod).ok();
    kill_machine(&guest);
    for _ in 0..2 {
        let done = run(&mut cni.plugin("DEL", &pod), &with_result("null"));
        assert_eq!((done.status, done.out.as_str()), (0, ""), "{done}");
    }
    assert_eq!(guest.journal(), Vec::<String>::new());
    // The wire is cut, so the link works for the next machine.
    assert_eq!(
        guest.netns().exec("tc filter show dev net1 ingress").ok(),
        ""
    );
    cni.run("del", &plugins, &pod).ok();
}

/// Ends QEMU and waits until its TAP is gone.
fn kill_machine(guest: &Guest) {
    let pid = guest.registered()["pid"].to_string();
    run(Command::new("kill").args(["-9", &pid]), "").ok();
    let is_tap = |link: &String| link.starts_with("pbt");
    while guest.netns().links().iter().any(is_tap) {
        thread::yield_now();
    }
}

#[test]
fn redirection_without_record_is_removed_by_gc_command() {
    let guest = Guest::start(Machine::Q35);
    let cni = Cni::new(guest.run_dir());
    let plugins = json!([cni.bridge(&SUBNETS), Cni::patchbay()]);
    cni.run("add", &plugins, &Pod::of(&guest, "net1")).ok();
    let filters = || guest.netns().exec("tc filter show dev net1 ingress").ok();
    let wired = filters();
    // The wire of a card stays.
    guest.patchbay(&["gc"]).ok();
    assert_eq!(filters(), wired);
    kill_machine(&guest);
    fs::remove_dir_all(guest.run_dir().join(".machines")).unwrap();
    let done = guest.patchbay(&["gc"]);
    assert!(done.err.contains("removed the redirection"), "{done}");
    done.ok();
    assert_eq!(filters(), "");
    let again = guest.patchbay(&["gc"]);
    assert_eq!((again.status, again.err.as_str()), (0, ""));
}

#[test]
fn eight_networks_at_once_reach_guest() {
    let guest = Guest::start_with(Machine::Q35, &["--ports", "8"]);
    let cni = Cni::new(guest.run_dir());
    let before = state(&guest);
    let plugins = json!([cni.bridge(&SUBNETS), Cni::patchbay()]);
    let pods = (1..=8).map(|number| Pod::of(&guest, &format!("net{number}")));
    let pods: Vec<_> = pods.collect();
    let all = |command: &str| {
        thread::scope(|scope| {
            let (cni, plugins) = (&cni, &plugins);
            let run = |pod| scope.spawn(move || cni.run(command, plugins, pod));
            let running: Vec<_> = pods.iter().map(run).collect();
            let done = running
                .into_iter()
                .map(|thread| thread.join().unwrap().ok());
            done.collect::<Vec<_>>()
        })
    };
    all("add");
    for pod in &pods {
        let name = &pod.ifname;
        let words = format!("ping -c 1 -W 5 -I {name} 10.88.0.1");
        guest.exec(&words).ok();
    }
    let full = state(&guest);
    let ninth = Pod::of(&guest, "net9");
    let done = cni.run("add", &plugins, &ninth);
    assert_code(&done, 100, "the machine has no free PCI slot for hot-plug");
    let filters = guest.netns().exec("tc filter show dev net9 ingress").ok();
    assert_eq!(filters, "");
    cni.run("del", &plugins, &ninth).ok();
    assert_eq!(state(&guest), full);
    all("del");
    assert_eq!(state(&guest), before);
}

#[test]
fn gc_removes_attachments_that_are_not_listed() {
    let guest = Guest::start(Machine::Q35);
    let cni = Cni::new(guest.run_dir());
    let plugins = json!([cni.bridge(&SUBNETS), Cni::patchbay()]);
    let pods = ["net1", "net2"].map(|ifname| Pod::of(&guest, ifname));
    for pod in &pods {
        cni.run("add", &plugins, pod).ok();
    }
    let gc = |members: &str| {
        let config = format!(r#"{{"cniVersion":"1.1.0","name":"blue"{members}}}"#);
        let mut command = cni.plugin("GC", &pods[0]);
        for name in ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"] {
            command.env_remove(name);
        }
        run(&mut command, &config).ok();
        guest.journal()
    };
    assert_eq!(gc(""), ["net1.json", "net2.json"]);
    let listed = json!([{"containerID": guest.id(), "ifname": "net2"}]);
    let key = "cni.dev/valid-attachments";
    let other = r#","name2":1"#;
    assert_eq!(gc(&format!(r#"{other},"{key}":{listed}"#)), ["net2.json"]);
    assert_eq!(gc(&format!(r#","{key}":[]"#)), Vec::<String>::new());
}
