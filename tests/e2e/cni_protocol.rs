//! `patchbay-cni` without a guest: commands, errors, and containers without a machine.

use std::fs;
use std::process::{Child, Command, Stdio};

use patchbay_tests::{Cni, Done, Netns, Pod, run, temp_dir};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Result of a plugin, with unknown members, odd numbers and blanks.
const RESULT: &str = r#"{ "ips":[{"address":"10.0.0.2/24","gateway":"10.0.0.1"}],
  "cniVersion":"1.0.0", "unknown":{"b":9007199254740993,"a":1.10},
  "interfaces":[{"name":"br1"},{"name":"net1","mac":"02:00:00:00:00:01","sandbox":"/run/netns/x","pciID":"7"}] }"#;

struct Host {
    cni: Cni,
    netns: Netns,
    run_dir: TempDir,
}

impl Host {
    fn new() -> Self {
        let run_dir = temp_dir();
        let cni = Cni::new(run_dir.path());
        let netns = Netns::new();
        Self {
            cni,
            netns,
            run_dir,
        }
    }

    fn pod(&self) -> Pod {
        Pod {
            container: "6ec7a98".to_owned(),
            netns: format!("/run/netns/{}", self.netns.name()),
            ifname: "net1".to_owned(),
            capabilities: Value::Null,
        }
    }

    fn run(&self, command: &str, config: &str) -> Done {
        run(&mut self.cni.plugin(command, &self.pod()), config)
    }
}

/// Returns a configuration with these members.
fn config(members: &str) -> String {
    format!(r#"{{"cniVersion":"1.0.0","name":"blue","type":"patchbay-cni",{members}}}"#)
}

fn with_result() -> String {
    config(&format!(r#""prevResult":{RESULT}"#))
}

/// Asserts the code and a part of the message, on standard output and standard error.
#[track_caller]
fn assert_error(done: &Done, code: u32, message: &str) {
    assert_eq!(done.status, 1, "{done}");
    let error: Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!(error["code"], code, "{done}");
    let whole = format!(
        "{}: {}",
        error["msg"].as_str().unwrap(),
        error["details"].as_str().unwrap()
    );
    assert!(whole.contains(message), "{message}: {done}");
    assert!(done.err.contains(message), "{message}: {done}");
    assert_eq!(done.err.lines().count(), 1, "{done}");
}

#[test]
fn version_and_status_need_no_machine() {
    let host = Host::new();
    let version = host.run("VERSION", "").json();
    let versions = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
    assert_eq!(
        version,
        json!({"cniVersion": "1.1.0", "supportedVersions": versions})
    );
    assert_eq!(host.run("STATUS", &config(r#""x":1"#)).ok(), "");
    let file = host.cni.file("file");
    fs::write(&file, "").unwrap();
    let mut command = host.cni.plugin("STATUS", &host.pod());
    command.env("PATCHBAY_RUN_DIR", file.join("run"));
    let done = run(&mut command, &config(r#""x":1"#));
    assert_error(&done, 50, "could not create the run directory");
}

/// A pod of another runtime, or one that is starting.
#[test]
fn container_without_machine_passes_through() {
    let host = Host::new();
    for version in ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        let config = with_result().replacen("1.0.0", version, 1);
        let done = host.run("ADD", &config);
        assert_eq!(
            (done.err.as_str(), done.out.as_str(), done.status),
            ("", RESULT, 0)
        );
        for command in ["CHECK", "DEL", "DEL", "GC"] {
            let done = host.run(command, &config);
            assert_eq!(
                (done.err.as_str(), done.out.as_str(), done.status),
                ("", "", 0)
            );
        }
    }
    assert_eq!(host.netns.links(), Vec::<String>::new());
    let required = with_result().replace("\"type\"", r#""machine":"required","type""#);
    let done = host.run("ADD", &required);
    assert_error(
        &done,
        100,
        "no machine runs in the network namespace of the container",
    );
    // Neither a namespace nor a valid configuration is left.
    let mut pod = host.pod();
    for netns in ["", "/run/netns/pb-none", "/proc/version"] {
        pod.netns = netns.to_owned();
        run(
            &mut host.cni.plugin("DEL", &pod),
            &config(r#""queues":"x""#),
        )
        .ok();
    }
    let left = fs::read_dir(host.run_dir.path()).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, [".durations"], "no state but that of metrics");
}

#[test]
fn invalid_input_has_code_of_its_kind() {
    let host = Host::new();
    let done = host.run("ADD", &" ".repeat((1 << 20) + 1));
    assert_error(
        &done,
        5,
        "could not read standard input: it has more than 1 MiB",
    );
    assert_error(
        &host.run("ADD", "{"),
        6,
        "standard input is no configuration: invalid JSON",
    );
    let done = host.run("ADD", &config(r#""prevResult":null"#));
    assert_error(
        &done,
        7,
        "missing field prevResult: patchbay-cni follows a plugin",
    );
    let done = host.run(
        "ADD",
        &with_result().replace("\"type\"", r#""queues":"2","type""#),
    );
    assert_error(&done, 7, "queues");
    let done = host.run("ADD", &with_result().replacen("1.0.0", "2.0.0", 1));
    assert_error(
        &done,
        1,
        "cniVersion '2.0.0' is not allowed: it must be one of",
    );
    let done = host.run("add", &with_result());
    assert_error(&done, 4, "CNI_COMMAND 'add' is not allowed");
    for (netns, message) in [
        ("", "missing field CNI_NETNS"),
        ("/proc/version", "/proc/version is not a network namespace"),
        (
            "/run/netns/pb-none",
            "could not enter the network namespace",
        ),
    ] {
        let mut pod = host.pod();
        pod.netns = netns.to_owned();
        let done = run(&mut host.cni.plugin("ADD", &pod), &with_result());
        assert_error(&done, 4, message);
    }
    fs::write(host.cni.file("cni.json"), r#"{"maxQueues":0}"#).unwrap();
    assert_error(
        &host.run("ADD", &with_result()),
        104,
        "maxQueues '0' is not allowed",
    );
    fs::write(host.cni.file("cni.json"), r#"{"maxQueues":2}"#).unwrap();
    let done = host.run(
        "ADD",
        &with_result().replace("\"type\"", r#""queues":4,"type""#),
    );
    assert_error(
        &done,
        7,
        "queues '4' is not allowed: this host allows 1 to 2 (maxQueues)",
    );
}

/// A process in a namespace, killed when it is dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn machine_that_is_unknown_is_an_error() {
    let host = Host::new();
    let mut command = Command::new("ip");
    command.args(["netns", "exec", host.netns.name(), "qemu-system-x86_64"]);
    command.args(["-display", "none", "-S", "-nodefaults", "-m", "16"]);
    let _machine = Process(command.stdin(Stdio::null()).spawn().unwrap());
    let config = with_result().replace("\"type\"", r#""timeout":1,"type""#);
    // `ip` becomes QEMU a moment later.
    let begun = std::time::Instant::now();
    let mut done = host.run("ADD", &config);
    while done.status == 0 && begun.elapsed().as_secs() < 10 {
        done = host.run("ADD", &config);
    }
    assert_error(
        &done,
        100,
        "a machine runs in the network namespace that patchbay can't reach",
    );
    assert!(done.err.contains("(qemu-system-x86_64)"), "{done}");
    host.run("DEL", &config).ok();
}
