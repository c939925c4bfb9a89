//! Finding sandboxes in folder trees as Kata's runtimes and containerd create them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use patchbay_types::failure::{Failure, Kind};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::interrupt::Interrupt;
use crate::sandbox::{Lookup, Sandbox, find};

const GO: &str = "6ec7a98b0c1d2e3f405162738495a6b7c8d9eafb0c1d2e3f405162738495a6b7";
const RUST: &str = "b8a0c1d2e3f405162738495a6b7c8d9eafb0c1d2e3f405162738495a6b7c8d9e";
const CONTAINER: &str = "77aa0c1d2e3f405162738495a6b7c8d9eafb0c1d2e3f405162738495a6b7c8d9";
const TASKS: &str = "run/containerd/io.containerd.runtime.v2.task/k8s.io";

/// Root folder of a host, empty at first.
struct Host(TempDir);

impl Host {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Adds a sandbox of the Go runtime, with an abridged `persist.json` of 3.x.
    fn go(&self, vc: &str, id: &str) {
        let text = format!(
            r#"{{"PersistVersion":2,"StateDir":"running","SandboxContainer":"{id}",
                 "HypervisorState":{{"Pid":4194305,"Type":"qemu","Bridges":[]}},
                 "AgentState":{{"ProxyPid":0,"URL":"vsock://1234567:1024"}},
                 "Network":{{"NetworkID":"/run/netns/cni-1","NetworkCreated":false}},"Config":{{}}}}"#
        );
        self.write(&format!("{vc}/sbs/{id}/persist.json"), &text);
        self.write(&format!("{vc}/sbs/{id}/shim-monitor.sock"), "");
        self.write(&format!("{vc}/vm/{id}/qmp.sock"), "");
    }

    /// Adds a sandbox of the Rust runtime with the hybrid vsock of Dragonball.
    fn rust(&self, id: &str, hypervisor: &str) {
        let state = format!(r#"{{"sandbox_type":"VIRTCONTAINER","hypervisor":{hypervisor}}}"#);
        self.write(&format!("run/kata/{id}/state.json"), &state);
        self.write(&format!("run/kata/{id}/root/kata.hvsock"), "");
        self.write(&format!("{TASKS}/{id}/qmp.sock"), "");
    }

    fn bundle(&self, container: &str, config: &str) {
        self.write(&format!("{TASKS}/{container}/config.json"), config);
    }

    fn find(&self, id: &str) -> Result<Sandbox, Failure> {
        let lookup = Lookup {
            interrupt: Interrupt::default(),
            machine: None,
            named: BTreeMap::new(),
            run_dir: self.path("patchbay"),
            kata_roots: vec![self.path(""), self.path("user")],
        };
        find(&lookup, id)
    }

    fn kind(&self, id: &str) -> Kind {
        self.find(id).unwrap_err().kind()
    }
}

fn in_sandbox(key: &str, sandbox: &str) -> String {
    format!(r#"{{"ociVersion":"1.1.0","annotations":{{"{key}":"{sandbox}"}}}}"#)
}

#[test]
fn go_runtime_files_describe_the_sandbox() {
    let host = Host::new();
    host.go("run/vc", GO);
    let found = host.find("6ec7a98").unwrap();
    assert_eq!(found.id.as_str(), GO);
    assert_eq!(found.qmp, host.path(&format!("run/vc/vm/{GO}/qmp.sock")));
    assert_eq!(found.agent.to_string(), "vsock://1234567:1061");
    assert_eq!(found.netns.as_deref(), Some(Path::new("/run/netns/cni-1")));
    // The lock and the journal are kept outside of Kata's folders.
    let state = found.state().unwrap();
    assert!(state.path().starts_with(host.path("patchbay")));
    assert!(!state.path().exists());
    // The shim holds qmp.sock.
    host.write(&format!("run/vc/vm/{GO}/extra-monitor.sock"), "");
    let extra = host.path(&format!("run/vc/vm/{GO}/extra-monitor.sock"));
    assert_eq!(host.find(GO).unwrap().qmp, extra);
}

#[test]
fn monitor_of_wrapper_is_preferred() {
    let host = Host::new();
    host.go("run/vc", GO);
    host.write(&format!("run/vc/vm/{GO}/extra-monitor.sock"), "");
    host.rust(RUST, r#"{"hypervisor_type":"qemu","netns":"/run/netns/a"}"#);
    for id in [GO, RUST] {
        let own = format!("patchbay/.kata/{id}/qmp.sock");
        assert_ne!(host.find(id).unwrap().qmp, host.path(&own));
        host.write(&own, "");
        assert_eq!(host.find(id).unwrap().qmp, host.path(&own));
    }
}

#[test]
fn older_and_rootless_runtimes_are_found() {
    for vc in ["var/lib/vc", "user/run/vc"] {
        let host = Host::new();
        host.go(vc, GO);
        let qmp = host.path(&format!("{vc}/vm/{GO}/qmp.sock"));
        assert_eq!(host.find("6ec7a98").unwrap().qmp, qmp);
    }
    let host = Host::new();
    let old = r#"{"AgentState":{"URL":"vsock://9:1024"},"Network":{"NetNsPath":"/run/netns/old"}}"#;
    host.write(&format!("run/vc/sbs/{GO}/persist.json"), old);
    let netns = host.find(GO).unwrap().netns;
    assert_eq!(netns.as_deref(), Some(Path::new("/run/netns/old")));
}

#[test]
fn rust_runtime_and_bundle_describe_the_sandbox() {
    let host = Host::new();
    host.rust(RUST, r#"{"hypervisor_type":"qemu","pid":null}"#);
    let network =
        r#"{"linux":{"namespaces":[{"type":"pid"},{"type":"network","path":"/run/netns/cni-2"}]}}"#;
    host.bundle(RUST, network);
    let found = host.find("b8a").unwrap();
    assert_eq!(found.qmp, host.path(&format!("{TASKS}/{RUST}/qmp.sock")));
    let agent = host.path(&format!("run/kata/{RUST}/root/kata.hvsock"));
    assert_eq!(
        found.agent.to_string(),
        format!("hvsock://{}:1061", agent.display())
    );
    assert_eq!(found.netns.as_deref(), Some(Path::new("/run/netns/cni-2")));
    // A newer runtime writes the namespace itself.
    host.rust(
        RUST,
        r#"{"hypervisor_type":"qemu","netns":"/run/netns/cni-3"}"#,
    );
    let netns = host.find(RUST).unwrap().netns;
    assert_eq!(netns.as_deref(), Some(Path::new("/run/netns/cni-3")));
    // Rootless: the working directory of the shim is another.
    fs::remove_dir_all(host.path(TASKS)).unwrap();
    let own = host.path(&format!("run/kata/{RUST}/root/qmp.sock"));
    assert_eq!(host.find(RUST).unwrap().qmp, own);
    // Without the hybrid socket the address is that of QEMU, which has ended.
    fs::remove_file(host.path(&format!("run/kata/{RUST}/root/kata.hvsock"))).unwrap();
    let failure = host.find(RUST).unwrap_err();
    assert_eq!(failure.kind(), Kind::NotFound);
    assert!(
        failure
            .to_string()
            .contains("could not find the vsock address"),
        "{failure}"
    );
}

#[test]
fn container_id_finds_its_sandbox() {
    let host = Host::new();
    host.go("run/vc", GO);
    host.write(&format!("run/vc/sbs/{GO}/{CONTAINER}/persist.json"), "{}");
    assert_eq!(host.find("77aa").unwrap().id.as_str(), GO);
    for key in [
        "io.kubernetes.cri.sandbox-id",
        "io.kubernetes.cri-o.SandboxID",
        "io.kubernetes.sandbox.id",
    ] {
        let host = Host::new();
        host.rust(RUST, "null");
        host.bundle(CONTAINER, &in_sandbox(key, RUST));
        assert_eq!(host.find("77aa").unwrap().id.as_str(), RUST, "{key}");
        assert_eq!(host.find(CONTAINER).unwrap().id.as_str(), RUST, "{key}");
    }
    // A container of runc does not belong to a sandbox.
    host.bundle("99", "{}");
    assert_eq!(host.kind("99"), Kind::NotFound);
}

#[test]
fn ambiguous_prefix_lists_the_sandboxes() {
    let host = Host::new();
    host.go("run/vc", "6ec7a98");
    host.rust("6ec7a99", "null");
    host.write("run/vc/sbs/6ec7a98/6ec7/persist.json", "{}");
    // Exact ids win, also those of containers.
    assert_eq!(host.find("6ec7a99").unwrap().id.as_str(), "6ec7a99");
    assert_eq!(host.find("6ec7").unwrap().id.as_str(), "6ec7a98");
    let failure = host.find("6ec7a").unwrap_err();
    assert_eq!(
        (failure.kind(), failure.field()),
        (Kind::Invalid, Some("id"))
    );
    let (go, rust) = (
        host.path("run/vc/sbs/6ec7a98"),
        host.path("run/kata/6ec7a99"),
    );
    let named = format!("6ec7a98 ({}), 6ec7a99 ({})", go.display(), rust.display());
    assert_eq!(
        failure.to_string(),
        format!("multiple containers found (6ec7a): {named}")
    );
    // Several matching ids of one sandbox are not ambiguous.
    host.go("run/vc", "77");
    host.write("run/vc/sbs/77/771/persist.json", "{}");
    assert_eq!(host.find("7").unwrap().id.as_str(), "77");
}

#[test]
fn registration_overrides_kata_files() {
    let host = Host::new();
    host.go("run/vc", GO);
    let registration = r#"{"qmp":"/q","agent":"vsock://8:1061","netns":null}"#;
    host.write(&format!("patchbay/{GO}/sandbox.json"), registration);
    assert_eq!(host.find("6ec7a98").unwrap().qmp, Path::new("/q"));
}

#[test]
fn invalid_kata_files_are_named() {
    let host = Host::new();
    let file = format!("run/vc/sbs/{GO}/persist.json");
    for (text, part, kind) in [
        ("{", "could not read", Kind::Invalid),
        ("[]", "could not read", Kind::Invalid),
        (
            r#"{"AgentState":{"URL":7}}"#,
            "could not read",
            Kind::Invalid,
        ),
        (
            r#"{"AgentState":{"URL":"vsock://1:1024"}}"#,
            "could not use",
            Kind::Invalid,
        ),
        (
            r#"{"AgentState":{"URL":"vsock://9:1024"},"Network":{"NetworkID":"../../etc"}}"#,
            "NetworkID",
            Kind::Invalid,
        ),
        ("{}", "could not find the vsock address", Kind::NotFound),
        (
            r#"{"HypervisorState":{"Pid":-5}}"#,
            "could not find the vsock address",
            Kind::NotFound,
        ),
    ] {
        host.write(&file, text);
        let failure = host.find(GO).unwrap_err();
        assert_eq!(failure.kind(), kind, "{text}");
        assert!(failure.to_string().contains(part), "{text}: {failure}");
        assert!(
            failure.to_string().contains("persist.json"),
            "{text}: {failure}"
        );
    }
    // An annotation that points out of the folder.
    host.bundle(
        CONTAINER,
        &in_sandbox("io.kubernetes.cri.sandbox-id", "../../x"),
    );
    let failure = host.find(CONTAINER).unwrap_err();
    assert_eq!(failure.field(), Some("io.kubernetes.cri.sandbox-id"));
    assert!(failure.to_string().contains("config.json"), "{failure}");
}

#[test]
fn unreadable_folder_fails_only_prefix_lookups() {
    let host = Host::new();
    let registration = r#"{"qmp":"/q","agent":"vsock://8:1061","netns":null}"#;
    host.write("patchbay/vm1/sandbox.json", registration);
    let sandboxes = host.path("run/vc/sbs");
    fs::create_dir_all(sandboxes.parent().unwrap()).unwrap();
    // A symbolic link to itself, which not even root can read.
    std::os::unix::fs::symlink("sbs", &sandboxes).unwrap();
    assert_eq!(host.find("vm1").unwrap().qmp, Path::new("/q"));
    let failure = host.find("vm").unwrap_err();
    let sentence = format!("could not read {}", sandboxes.display());
    assert_eq!(failure.to_string(), sentence);
}

/// Wording of serde, and names of types, that no message may have.
const LEAKS: [&str; 15] = [
    "invalid type",
    "invalid value",
    "invalid length",
    "expected ",
    "struct",
    "enum",
    "variant",
    "sequence",
    "a map",
    "u32",
    "i64",
    "bool",
    "Persist",
    "SandboxFile",
    "Specification",
];

/// Returns the JSON pointers of the parts of a value.
fn pointers(value: &Value) -> Vec<String> {
    let below = |(key, value): (String, &Value)| {
        let inner = pointers(value).into_iter();
        let parts = inner
            .map(|inner| format!("/{key}{inner}"))
            .collect::<Vec<_>>();
        [vec![format!("/{key}")], parts].concat()
    };
    match value {
        Value::Object(members) => {
            let members = members.iter().map(|(key, value)| (key.clone(), value));
            members.flat_map(below).collect()
        }
        Value::Array(values) => {
            let values = values.iter().enumerate();
            let values = values.map(|(index, value)| (index.to_string(), value));
            values.flat_map(below).collect()
        }
        _ => Vec::new(),
    }
}

/// Replaces each part of a document by values of other types, and checks every message.
fn check_mistyped(document: &Value, mut read: impl FnMut(&str) -> Result<(), Failure>) {
    let mut refused = 0;
    for pointer in pointers(document) {
        for wrong in [
            json!(true),
            json!(-1),
            json!(1.5),
            json!("x"),
            json!([1]),
            json!({"x": []}),
        ] {
            let mut document = document.clone();
            *document.pointer_mut(&pointer).unwrap() = wrong;
            let text = document.to_string();
            if let Err(failure) = read(&text) {
                let line = failure.line();
                let leak = LEAKS.iter().find(|leak| line.contains(**leak));
                assert_eq!(leak, None, "{text}: {line}");
                refused += 1;
            }
        }
    }
    assert!(refused > 5, "{refused} of {document}");
}

#[test]
fn mistyped_files_leak_no_names() {
    let host = Host::new();
    let find = |id: &str| host.find(id).map(drop);
    let registration =
        json!({"qmp": "/q", "agent": "vsock://8:1061", "netns": "/n", "pid": 4_194_305});
    check_mistyped(&registration, |text| {
        host.write("patchbay/vm1/sandbox.json", text);
        find("vm1")
    });
    host.go("run/vc", GO);
    let file = format!("run/vc/sbs/{GO}/persist.json");
    let persist = fs::read_to_string(host.path(&file)).unwrap();
    check_mistyped(&serde_json::from_str(&persist).unwrap(), |text| {
        host.write(&file, text);
        find(GO)
    });
    host.go("run/vc", GO);
    let namespaces = json!([{"type": "network", "path": "/run/netns/a"}]);
    let config = json!({"annotations": {"io.kubernetes.cri.sandbox-id": GO},
                        "linux": {"namespaces": namespaces}});
    check_mistyped(&config, |text| {
        host.bundle(CONTAINER, text);
        find(CONTAINER)
    });
    fs::remove_dir_all(host.path(TASKS)).unwrap();
    host.rust(RUST, r#"{"pid":7,"netns":"/run/netns/a"}"#);
    let file = format!("run/kata/{RUST}/state.json");
    let state = fs::read_to_string(host.path(&file)).unwrap();
    check_mistyped(&serde_json::from_str(&state).unwrap(), |text| {
        host.write(&file, text);
        find(RUST)
    });
}
