//! A sandbox with its guest.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use patchbay_host::agent::Agent;
use patchbay_host::interrupt::Interrupt;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::leftovers;
use crate::{Built, Card, Done, Monitor, Netns, bin, journal, patchbay, run, temp_dir};

/// QEMU's machine types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Machine {
    /// PCI Express, cards in root ports.
    Q35,
    /// Conventional PCI, cards in a bridge.
    Pc,
    /// arm64's machine, cards in root ports.
    Virt,
}

/// Returns the arguments of [`Guest::start_with`] for a guest with Linux 6.12.
pub fn linux_6_12() -> [String; 2] {
    let image = Built::Image6_12.dir();
    ["--image".to_owned(), image.display().to_string()]
}

/// Arguments of [`Guest::start_debian`] for a card at boot, `enp0s28`. QEMU serves DHCP on it, and nothing
/// beyond it can be reached.
pub const BOOT_CARD: [&str; 8] = [
    "--extra-qemu-arg",
    "-netdev",
    "--extra-qemu-arg",
    "user,id=boot,restrict=on",
    "--extra-qemu-arg",
    "-device",
    "--extra-qemu-arg",
    "virtio-net-pci,netdev=boot,addr=0x1c",
];

/// Shell words for the process id of the agent in the guest. Its helper has the same executable, by which
/// `pidof` finds both.
pub const AGENT_PID: &str = "$(grep -lx patchbay-agent /proc/[0-9]*/comm | cut -d/ -f3)";

/// Memory for the unpacked root file system of the guest with Debian, in MiB.
const DEBIAN_MEMORY: &str = "512";

/// A running sandbox in a separate network namespace; both end when it is dropped.
#[derive(Debug)]
pub struct Guest {
    id: String,
    run_dir: Arc<TempDir>,
    netns: Netns,
}

impl Guest {
    /// Starts a sandbox whose guest has the reference tools (iproute2, ipvsadm, conntrack, ethtool).
    pub fn start(machine: Machine) -> Self {
        Self::start_with(machine, &[])
    }

    /// The same, with more arguments for `patchbay-sandbox start`.
    pub fn start_with(machine: Machine, words: &[&str]) -> Self {
        let arm64;
        let machine = match machine {
            Machine::Q35 => &["--machine", "q35"][..],
            Machine::Pc => &["--machine", "pc"],
            Machine::Virt => {
                arm64 = Built::ImageArm64.dir().display().to_string();
                &["--image", &arm64]
            }
        };
        let id = format!("6ec7a98-{}", std::process::id());
        let words = [machine, words].concat();
        Self::launch(Arc::new(temp_dir()), id, Netns::new(), &words)
    }

    /// Starts a sandbox in a network namespace, with the run directory of a node that has several.
    pub fn start_on(node: &Arc<TempDir>, netns: Netns, words: &[&str]) -> Self {
        let id = format!("6ec7a98-{}", netns.name());
        Self::launch(Arc::clone(node), id, netns, words)
    }

    fn launch(run_dir: Arc<TempDir>, id: String, netns: Netns, words: &[&str]) -> Self {
        leftovers::sweep();
        let guest = Self { id, run_dir, netns };
        leftovers::claim(guest.run_dir());
        let netns = guest.netns.name();
        let start = ["start", &guest.id, "--netns", netns, "--tools"];
        guest.sandbox(&[&start[..], words].concat()).ok();
        guest
    }

    /// Starts a q35 sandbox with Debian, where systemd runs udevd and networkd, and waits until its boot
    /// is complete. `NetworkManager`, ifupdown, dhcpcd, dhclient and udhcpc are installed, not started.
    pub fn start_debian(words: &[&str]) -> Self {
        Self::start_debian_from(&Built::ImageDebian.dir(), DEBIAN_MEMORY, words)
    }

    /// The same with an image to which files were added, and with memory for these, in MiB.
    pub fn start_debian_from(image: &Path, memory: &str, words: &[&str]) -> Self {
        let image = image.display().to_string();
        // It boots in twenty seconds, and in a minute on a busy machine.
        let boot = ["--image", &image, "--timeout", "180"];
        let start = [&boot[..], &["--memory", memory]].concat();
        let guest = Self::start_with(Machine::Q35, &[&start[..], words].concat());
        let booted = guest.exec("systemctl is-system-running --wait");
        let failed = || guest.exec("systemctl --failed --no-legend").out;
        assert_eq!(booted.out, "running\n", "{booted}\n{}", failed());
        guest
    }

    /// Waits until udevd and networkd have handled a link, and returns networkd's setup state of it:
    /// `configured`, `configuring` or `unmanaged`.
    pub fn networkd_state(&self, link: &str) -> String {
        self.exec("udevadm settle").ok();
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let listed = self.exec(&format!("networkctl list --no-legend {link}"));
            let state = listed.out.split_whitespace().last();
            match state {
                Some(state) if state != "pending" => return state.to_owned(),
                _ => assert!(Instant::now() < deadline, "{listed}"),
            }
        }
    }

    /// Runs `patchbay-sandbox` with this guest's run directory.
    pub fn sandbox(&self, words: &[&str]) -> Done {
        sandbox(self.run_dir(), words, "")
    }

    /// Returns the sandbox ID.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the network namespace of the TAP devices.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// Returns the run directory.
    pub fn run_dir(&self) -> &Path {
        self.run_dir.path()
    }

    /// Returns the path of a file of the sandbox in the run directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.run_dir.path().join(&self.id).join(name)
    }

    /// Runs a program in the guest; arguments are separated by blanks.
    pub fn exec(&self, words: &str) -> Done {
        let words = words.split_whitespace();
        self.sandbox(
            &["exec", &self.id, "--"]
                .into_iter()
                .chain(words)
                .collect::<Vec<_>>(),
        )
    }

    /// Runs a shell script in the guest.
    pub fn shell(&self, script: &str) -> Done {
        self.sandbox(&["exec", &self.id, "--", "sh", "-c", script])
    }

    /// Writes a file in the guest.
    pub fn write_file(&self, path: &str, content: &str) {
        let script = format!("cat >{path}");
        let words = ["exec", &self.id, "--", "sh", "-c", &script];
        sandbox(self.run_dir(), &words, content).ok();
    }

    /// Starts a second agent in the guest by a shell command, waits until it answers on this port and
    /// returns its URL.
    pub fn second_agent(&self, words: &str, port: u32) -> String {
        let start = format!("{words} --listen vsock:{port} >/dev/null 2>&1 &");
        self.shell(&start).ok();
        let url = format!("hvsock://{}:{port}", self.file("vsock.sock").display());
        let endpoint = url.parse().unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        let greeting =
            || Agent::connect(&endpoint, &Interrupt::default()).and_then(|agent| agent.greeting());
        while let Err(failure) = greeting() {
            assert!(Instant::now() < deadline, "{failure}");
        }
        url
    }

    /// Runs `ip -j -d` in the guest.
    pub fn ip(&self, words: &str) -> Value {
        self.exec(&format!("ip -j -d {words}")).json()
    }

    /// Returns the addresses of global scope of a link, with their prefixes.
    pub fn addresses(&self, link: &str) -> Vec<String> {
        let shown = self.ip(&format!("addr show {link}"));
        let infos = shown[0]["addr_info"].as_array().unwrap().iter();
        let global = infos.filter(|info| info["scope"] == "global");
        global
            .map(|info| format!("{}/{}", info["local"].as_str().unwrap(), info["prefixlen"]))
            .collect()
    }

    /// Runs `patchbay kata-network COMMAND ID [-]` with this document as standard input.
    pub fn kata_network(&self, command: &str, document: &str) -> Done {
        let file: &[&str] = if command.starts_with("list") {
            &[]
        } else {
            &["-"]
        };
        let words = [&["kata-network", command, &self.id], file].concat();
        run(&mut patchbay(self.run_dir(), &words), document)
    }

    /// Runs `patchbay kata-network add-iface`.
    pub fn plug(&self, card: &Card) -> Done {
        self.kata_network("add-iface", &card.json())
    }

    /// Runs `patchbay kata-network del-iface`.
    pub fn unplug(&self, card: &Card) -> Done {
        self.kata_network("del-iface", &card.json())
    }

    /// Runs `patchbay` with this guest's run directory.
    pub fn patchbay(&self, words: &[&str]) -> Done {
        run(&mut patchbay(self.run_dir(), words), "")
    }

    /// Opens a session of QEMU's monitor. Until it is dropped, every other client waits.
    pub fn monitor(&self) -> Monitor {
        Monitor::connect(&self.file("qmp.sock"))
    }

    /// Continues a paused machine, and waits for its vsock proxy. QEMU returns the queues without waiting
    /// for vhost-device-vsock 0.3, which forgets a connection that comes before them.
    pub fn resume(&self) {
        self.monitor().run("cont", json!({}));
        std::thread::sleep(Duration::from_secs(2));
    }

    /// Resets the machine and waits until its agent serves again.
    pub fn reset(&self) {
        let before = self.boots();
        self.begin_reset();
        let deadline = Instant::now() + Duration::from_secs(40);
        while self.boots() == before {
            assert!(Instant::now() < deadline, "the guest does not come back");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Resets the machine, whose agent serves some seconds later.
    pub fn begin_reset(&self) {
        let mut monitor = self.monitor();
        // The launcher configures QEMU to exit on a reset.
        monitor.run("set-action", json!({"reboot": "reset"}));
        monitor.run("system_reset", json!({}));
    }

    /// Returns how often the agent has begun to serve.
    pub fn boots(&self) -> usize {
        let console = self.sandbox(&["console", &self.id]).out;
        console.matches("the agent serves").count()
    }

    /// Returns the content of `sandbox.json`.
    pub fn registered(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.file("sandbox.json")).unwrap()).unwrap()
    }

    /// Returns the number of descriptors open in QEMU.
    pub fn qemu_descriptors(&self) -> usize {
        let pid = &self.registered()["pid"];
        std::fs::read_dir(format!("/proc/{pid}/fd"))
            .unwrap()
            .count()
    }

    /// Returns the names of the journal's files.
    pub fn journal(&self) -> Vec<String> {
        let files = journal(self.run_dir()).into_iter();
        let names = files.map(|file| file.file_name().unwrap().to_str().unwrap().to_owned());
        names.collect()
    }

    /// Returns everything that plugging can change, as text: devices, backends, host links, the
    /// guest's links, addresses and routes, and the journal.
    pub fn snapshot(&self) -> String {
        let mut monitor = self.monitor();
        let devices = monitor.devices();
        let backends = monitor.backends();
        drop(monitor);
        let links = without_transient_state(&self.netns.ip("-d link show").ok());
        let inside = without_transient_state(&self.exec("ip -d addr show").ok())
            + &self.exec("ip route show").ok();
        let journal = self.journal();
        format!("{devices:#?}\n{backends}\n{links}\n{inside}\n{journal:?}")
    }
}

/// Runs `patchbay-sandbox` with this run directory and standard input.
pub(crate) fn sandbox(run_dir: &Path, words: &[&str], input: &str) -> Done {
    let mut command = Command::new(bin("patchbay-sandbox"));
    command
        .env("PATCHBAY_RUN_DIR", run_dir)
        .env("PATCHBAY_IMAGE_DIR", Built::Image.dir())
        .args(words);
    run(&mut command, input)
}

/// Removes from the output of `ip` what the kernel changes on its own: link-local addresses and the
/// operational state.
fn without_transient_state(shown: &str) -> String {
    let lines = shown
        .lines()
        .filter(|line| !line.contains("fe80::") && !line.contains("valid_lft"));
    let lines = lines.map(|line| {
        line.replace("NO-CARRIER,", "")
            .replace("state DOWN", "state UP")
            .replace("state UNKNOWN", "state UP")
    });
    lines.collect::<Vec<_>>().join("\n")
}

impl Drop for Guest {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let console = self.sandbox(&["console", &self.id]).out;
            let from = console.len().saturating_sub(4000);
            eprintln!(
                "console of {}: …{}",
                self.id,
                String::from_utf8_lossy(&console.as_bytes()[from..])
            );
        }
        self.sandbox(&["stop", &self.id]);
    }
}
