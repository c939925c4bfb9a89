//! `patchbay-qemu` in front of a real QEMU, without a guest.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use patchbay_tests::{Done, Monitor, bin, patchbay, run, temp_dir};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::kata::SANDBOX;

const QEMU: &str = "/usr/bin/qemu-system-x86_64";

/// Wrapper, host file and run directory.
struct Host(TempDir);

impl Host {
    fn new() -> Self {
        let host = Self(temp_dir());
        symlink(bin("patchbay"), host.file("patchbay-qemu")).unwrap();
        host
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn settings(&self, settings: &Value) {
        fs::write(self.file("cni.json"), settings.to_string()).unwrap();
    }

    fn wrapper(&self, words: &[&str]) -> Command {
        let mut command = Command::new(self.file("patchbay-qemu"));
        command
            .env("PATCHBAY_HOST_FILE", self.file("cni.json"))
            .env("PATCHBAY_RUN_DIR", self.file("run"))
            .args(words);
        command
    }

    /// Runs the wrapper in front of a program that prints its words.
    fn words(&self, words: &[&str]) -> Done {
        run(&mut self.wrapper(words), "")
    }

    fn second_monitor(&self) -> PathBuf {
        self.file("run")
            .join(".kata")
            .join(SANDBOX)
            .join("qmp.sock")
    }

    fn monitor_word(&self) -> String {
        format!(
            "unix:{},server=on,wait=off",
            self.second_monitor().display()
        )
    }

    /// Starts a machine with the monitor that Kata's shim would hold.
    fn start(&self) -> Machine {
        let shim = format!(
            "unix:{},server=on,wait=off",
            self.file("shim.sock").display()
        );
        let name = format!("sandbox-{SANDBOX},debug-threads=on");
        let mut command = self.wrapper(&["-name", &name, "-machine", "q35", "-nodefaults", "-S"]);
        command.args(["-display", "none", "-m", "64", "-qmp", &shim]);
        command.stdin(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stderr = child.stderr.take().unwrap();
        let machine = Machine { child, stderr };
        // QEMU binds the monitors one after another, and the wrapper's comes last.
        await_server(&self.file("shim.sock"));
        await_server(&self.second_monitor());
        machine
    }
}

fn await_server(socket: &Path) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while std::os::unix::net::UnixStream::connect(socket).is_err() {
        assert!(
            Instant::now() < deadline,
            "{} is not served",
            socket.display()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// QEMU, killed when it is dropped.
struct Machine {
    child: Child,
    stderr: ChildStderr,
}

impl Machine {
    /// Ends the machine and returns its standard error.
    fn end(mut self) -> String {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let mut text = String::new();
        std::io::Read::read_to_string(&mut self.stderr, &mut text).unwrap();
        text
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ports(monitor: &mut Monitor) -> Vec<String> {
    let mut devices = monitor.devices();
    devices.retain(|device| device.starts_with("pbp"));
    devices
}

/// Writes the files of Kata's Go runtime for the machine.
fn write_kata_files(root: &Path, machine: &Machine) {
    let folder = root.join("run/vc/sbs").join(SANDBOX);
    fs::create_dir_all(&folder).unwrap();
    let persist = json!({
        "HypervisorState": {"Pid": machine.child.id()}, "AgentState": {"URL": "vsock://1234567:1024"},
        "Network": {"NetworkID": "/proc/self/ns/net"},
    });
    fs::write(folder.join("persist.json"), persist.to_string()).unwrap();
    let monitors = root.join("run/vc/vm").join(SANDBOX);
    fs::create_dir_all(&monitors).unwrap();
    symlink(root.join("shim.sock"), monitors.join("qmp.sock")).unwrap();
}

#[test]
fn wrapped_machine_has_second_monitor_and_ports() {
    let host = Host::new();
    host.settings(&json!({"qemu": QEMU, "ports": 3}));
    let machine = host.start();
    let exe = fs::read_link(format!("/proc/{}/exe", machine.child.id())).unwrap();
    assert_eq!(exe, fs::canonicalize(QEMU).unwrap());
    // The shim keeps its monitor.
    let mut shim = Monitor::connect(&host.file("shim.sock"));
    let expected = ["pbp0", "pbp1", "pbp2"];
    assert_eq!(
        ports(&mut Monitor::connect(&host.second_monitor())),
        expected
    );

    // A command for the sandbox uses the second monitor.
    write_kata_files(host.0.path(), &machine);
    let mut command = patchbay(&host.file("run"), &["doctor", SANDBOX, "--json"]);
    let done = run(command.env("PATCHBAY_KATA_ROOTS", host.0.path()), "");
    let report: Value = serde_json::from_str(&done.out).unwrap();
    let path = host.second_monitor().display().to_string();
    assert_eq!(report["monitor"]["path"], path, "{done}");
    assert_eq!(report["monitor"]["free"], true, "{done}");
    assert_eq!(report["machine"]["slots"][0]["bus"], "pbp0", "{done}");
    assert_eq!(ports(&mut shim), expected);
    assert_eq!(machine.end(), "");
    // The next machine with this id replaces the socket of the killed one.
    drop(shim);
    let again = host.start();
    assert_eq!(
        ports(&mut Monitor::connect(&host.second_monitor())),
        expected
    );
    assert_eq!(again.end(), "");
}

#[test]
fn wrapper_passes_words_on() {
    let host = Host::new();
    host.settings(&json!({"qemu": "/bin/echo", "ports": 1}));
    let name = format!("sandbox-{SANDBOX}");
    let words = [
        "-name",
        &name,
        "-machine",
        "q35,accel=kvm",
        "-append",
        "a  b=\"c\"",
    ];
    let port = "-device pcie-root-port,id=pbp0,bus=pcie.0,chassis=64";
    let expected = format!("{} -qmp {} {port}\n", words.join(" "), host.monitor_word());
    assert_eq!(host.words(&words).ok(), expected);
    for probe in [
        &["-version"][..],
        &["-machine", "none", "-qmp", "stdio"],
        &[],
    ] {
        assert_eq!(host.words(probe).ok(), probe.join(" ") + "\n");
    }
}

/// No fault of the host keeps a machine from starting.
#[test]
fn wrapper_with_faults_runs_qemu_unchanged() {
    let host = Host::new();
    let name = format!("sandbox-{SANDBOX}");
    let words = ["-name", &name, "-machine", "pc", "-version"];
    let version = run(Command::new(QEMU).arg("-version"), "").ok();
    // Without a host file, and with one that is unusable, QEMU is found.
    let done = host.words(&words);
    assert_eq!(done.err, "");
    assert_eq!(done.ok(), version);
    for (settings, reason) in [
        (
            json!([]),
            "cni.json: the document '[...]' is not allowed: it must be an object",
        ),
        (
            json!({"qemu": 7}),
            "qemu '7' is not allowed: it must be a string",
        ),
        (
            json!({"qemu": "/nonexistent"}),
            "could not run /nonexistent: No such file",
        ),
        (json!({"qemu": host.file("patchbay-qemu")}), ""),
    ] {
        host.settings(&settings);
        let done = host.words(&words);
        assert_eq!(
            done.err.lines().count(),
            usize::from(!reason.is_empty()),
            "{done}"
        );
        assert!(done.err.contains(reason), "{reason}: {done}");
        assert_eq!(done.ok(), version);
    }
    // Without a run directory, the words are unchanged.
    host.settings(&json!({"qemu": "/bin/echo"}));
    fs::write(host.file("run-file"), "").unwrap();
    let mut command = host.wrapper(&words);
    let done = run(command.env("PATCHBAY_RUN_DIR", host.file("run-file")), "");
    let reason = format!(
        "patchbay-qemu: could not create {}/.kata/{SANDBOX}",
        host.file("run-file").display()
    );
    assert!(done.err.starts_with(&reason), "{done}");
    assert_eq!(done.ok(), words.join(" ") + "\n");
}
