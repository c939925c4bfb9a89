//! Kata's run directories around a live machine. patchbay finds and reads them, and never writes there.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use patchbay_tests::{Built, Card, Done, Guest, Machine, bin, journal, patchbay, run, temp_dir};
use serde_json::json;
use tempfile::TempDir;

pub(crate) const SANDBOX: &str = "6ec7a98b0c1d2e3f405162738495a6b7c8d9eafb0c1d2e3f405162738495a6b7";
const CONTAINER: &str = "77aa0c1d2e3f405162738495a6b7c8d9eafb0c1d2e3f405162738495a6b7c8d9";
const TASKS: &str = "run/containerd/io.containerd.runtime.v2.task/k8s.io";
fn card() -> Card {
    Card::named("eth1").address("172.16.0.3/16")
}

/// Kata's run directories, and an empty one of patchbay.
pub(crate) struct Host {
    pub(crate) root: TempDir,
    run_dir: TempDir,
}

impl Host {
    pub(crate) fn new() -> Self {
        Self {
            root: temp_dir(),
            run_dir: temp_dir(),
        }
    }

    fn write(&self, path: &str, content: &serde_json::Value) {
        let path = self.folder(path);
        fs::write(path, content.to_string()).unwrap();
    }

    fn link(&self, path: &str, to: &Path) {
        symlink(to, self.folder(path)).unwrap();
    }

    /// Returns the path after creating its parent.
    fn folder(&self, path: &str) -> PathBuf {
        let path = self.root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    fn kata_network(&self, command: &str, id: &str) -> Done {
        let words = ["kata-network", command, id, "-"];
        let words = &words[..if command == "list-ifaces" { 3 } else { 4 }];
        self.run(words)
    }

    fn run(&self, words: &[&str]) -> Done {
        let mut command = patchbay(self.run_dir.path(), words);
        run(
            command.env("PATCHBAY_KATA_ROOTS", self.root.path()),
            &card().json(),
        )
    }

    /// Creates the Go runtime's files for a sandbox with one container.
    pub(crate) fn go(&self, guest: &Guest) {
        let persist = json!({
            "PersistVersion": 2, "State": "running", "SandboxContainer": SANDBOX,
            "HypervisorState": {"Pid": guest.registered()["pid"], "Type": "qemu", "Bridges": []},
            "AgentState": {"URL": format!("hvsock://{}:1024", guest.file("vsock.sock").display())},
            "Network": {"NetworkID": format!("/run/netns/{}", guest.netns().name()), "Endpoints": []},
        });
        self.write(&format!("run/vc/sbs/{SANDBOX}/persist.json"), &persist);
        let container = format!("run/vc/sbs/{SANDBOX}/{CONTAINER}/persist.json");
        self.write(&container, &json!({"State": "running"}));
        let qmp = format!("run/vc/vm/{SANDBOX}/qmp.sock");
        self.link(&qmp, &guest.file("qmp.sock"));
    }

    /// Creates the Rust runtime's files; only containerd's name the container.
    fn rust(&self, guest: &Guest) {
        let state =
            json!({"sandbox_type": "VIRTCONTAINER", "hypervisor": {"hypervisor_type": "qemu"}});
        self.write(&format!("run/kata/{SANDBOX}/state.json"), &state);
        let hvsock = format!("run/kata/{SANDBOX}/root/kata.hvsock");
        self.link(&hvsock, &guest.file("vsock.sock"));
        let netns = format!("/run/netns/{}", guest.netns().name());
        let network = json!({"type": "network", "path": netns});
        let bundle = json!({"linux": {"namespaces": [{"type": "ipc"}, network]}});
        self.write(&format!("{TASKS}/{SANDBOX}/config.json"), &bundle);
        self.link(
            &format!("{TASKS}/{SANDBOX}/qmp.sock"),
            &guest.file("qmp.sock"),
        );
        let container = json!({"annotations": {"io.kubernetes.cri.sandbox-id": SANDBOX}});
        self.write(&format!("{TASKS}/{CONTAINER}/config.json"), &container);
    }

    /// Returns paths, modification times and contents of Kata's files.
    fn snapshot(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut folders = vec![self.root.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let metadata = path.symlink_metadata().unwrap();
                let content = metadata.is_file().then(|| fs::read(&path).unwrap());
                lines.push(format!(
                    "{} {:?} {content:?}",
                    path.display(),
                    metadata.modified().unwrap()
                ));
                if metadata.is_dir() {
                    folders.push(path);
                }
            }
        }
        lines.sort();
        lines
    }

    /// Plugs and unplugs a card by the container's ID; asserts that Kata's files don't change.
    fn plug_by_container(&self, guest: &Guest) {
        let (before, inside) = (self.snapshot(), guest.snapshot());
        let added = self.kata_network("add-iface", "77aa0c1d").json();
        assert_eq!(added["pciAddr"], "01.0/00");
        guest.netns().ip("addr add 172.16.0.1/16 dev tap1").ok();
        guest.netns().exec("ping -c 1 -W 5 172.16.0.3").ok();
        let listed = self.kata_network("list-ifaces", SANDBOX).json();
        assert_eq!(listed[0]["name"], "eth1");
        assert_eq!(journal(self.run_dir.path()).len(), 1);
        assert_eq!(self.kata_network("del-iface", &SANDBOX[..7]).ok(), "null\n");
        assert_eq!(guest.snapshot(), inside);
        assert_eq!(self.snapshot(), before);
    }
}

#[test]
fn plug_into_go_runtime_sandbox() {
    let guest = Guest::start(Machine::Q35);
    let host = Host::new();
    host.go(&guest);
    host.plug_by_container(&guest);
}

/// The path of the QMP socket is longer than the address of a Unix socket can be.
#[test]
fn plug_into_rust_runtime_sandbox() {
    let guest = Guest::start(Machine::Q35);
    let host = Host::new();
    host.rust(&guest);
    let qmp = host.root.path().join(TASKS).join(SANDBOX).join("qmp.sock");
    assert!(qmp.as_os_str().len() > 107);
    host.plug_by_container(&guest);
}

#[test]
fn occupied_monitor_falls_back_to_extra_monitor() {
    let host = Host::new();
    let extra = host.folder("qemu/extra.sock");
    let listener = format!("unix:{},server=on,wait=off", extra.display());
    let words = ["--extra-qemu-arg", "-qmp", "--extra-qemu-arg", &listener];
    let guest = Guest::start_with(Machine::Q35, &words);
    host.go(&guest);
    let snapshot = guest.snapshot();
    let shim = guest.monitor();
    let begun = Instant::now();
    let done = host.kata_network("add-iface", SANDBOX);
    assert!(
        begun.elapsed() < Duration::from_secs(7),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!((done.status, done.out.as_str()), (5, "null\n"), "{done}");
    for part in [
        "gave no greeting in 5 s",
        "qmp.sock",
        "shim",
        "enable_debug",
        "extra_monitor_socket",
    ] {
        assert!(done.err.contains(part), "{part}: {done}");
    }
    let blocked = host.run(&["doctor", SANDBOX, "--json"]);
    assert_eq!(blocked.status, 5, "{blocked}");
    assert!(blocked.out.contains("\"free\":false"), "{blocked}");

    host.link(&format!("run/vc/vm/{SANDBOX}/extra-monitor.sock"), &extra);
    let report = host.run(&["doctor", SANDBOX, "--json"]).json();
    assert_eq!(report["id"], SANDBOX);
    assert_eq!(report["monitor"]["free"], true);
    host.kata_network("add-iface", SANDBOX).ok();
    host.kata_network("del-iface", SANDBOX).ok();
    drop(shim);
    assert_eq!(guest.snapshot(), snapshot);
}

/// As in `docs/kata.md`: the archive is appended to an initrd of any length.
#[test]
fn overlay_archive_extends_initrd() {
    let folder = temp_dir();
    let overlay = folder.path().join("overlay");
    let words = ["overlay", overlay.to_str().unwrap(), "--bin-dir"];
    let programs = bin("patchbay-agent");
    let mut command = Command::new(bin("patchbay-sandbox"));
    run(command.args(words).arg(programs.parent().unwrap()), "").ok();
    let agent = overlay.join("rootfs/usr/bin/patchbay-agent");
    assert_eq!(fs::read(&agent).unwrap(), fs::read(&programs).unwrap());
    let unit = "/usr/lib/systemd/system/patchbay-agent.service";
    let text = fs::read_to_string(overlay.join(format!("rootfs{unit}"))).unwrap();
    let start = "ExecStart=/usr/bin/patchbay-agent --undo-log /run/patchbay-agent/undo \
                 --card-marks /run/patchbay-agent/cards ";
    assert!(text.contains(start), "{text}");

    let image = Built::Image.dir().canonicalize().unwrap();
    symlink(image.join("vmlinux"), folder.path().join("vmlinux")).unwrap();
    let mut initrd = fs::read(image.join("initrd-with-tools.cpio")).unwrap();
    initrd.push(0);
    initrd.resize(initrd.len().next_multiple_of(4), 0);
    initrd.extend(fs::read(overlay.join("overlay.cpio")).unwrap());
    fs::write(folder.path().join("initrd-with-tools.cpio"), initrd).unwrap();
    let words = ["--image", folder.path().to_str().unwrap()];
    let guest = Guest::start_with(Machine::Q35, &words);
    let both = guest
        .exec("sha256sum /bin/patchbay-agent /usr/bin/patchbay-agent")
        .ok();
    let sums: Vec<&str> = both.lines().map(|line| &line[..64]).collect();
    assert_eq!(sums[0], sums[1]);
    let link =
        "readlink -f /etc/systemd/system/kata-containers.target.wants/patchbay-agent.service";
    assert_eq!(guest.exec(link).ok().trim_end(), unit);
}
