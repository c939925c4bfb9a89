//! Container engines with their networks, each in a network and a mount namespace of the test. Neither needs
//! a registry: the image has one static program.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::{Done, Netns, bin, run, temp_dir};

const LIMIT: Duration = Duration::from_secs(60);
/// Parent of the cgroups of containers, that of containerd's too.
const CGROUP: &str = "/pb-test";
/// The daemon's options that keep it off the host's folders and links.
/// It starts a containerd, too, since it does not see that of the host.
const DOCKERD: &str = "mkdir -p /run/containerd /etc/docker && mount -t tmpfs tmpfs /run/containerd && \
    mount -t tmpfs tmpfs /etc/docker && exec dockerd --config-file $DIR/daemon.json --data-root $DIR/data --exec-root $DIR/exec \
    --pidfile $DIR/pid --host unix://$DIR/socket --bridge none --storage-driver vfs \
    --exec-opt native.cgroupdriver=cgroupfs --cgroup-parent $CGROUP";
/// podman has no daemon: this process holds the mount namespace, with the folders that no option moves.
const HOLDER: &str = "mkdir -p /run/netns /run/containers && mount -t tmpfs tmpfs /run/netns && \
    mount -t tmpfs tmpfs /run/containers && touch $DIR/ready && exec sleep infinity";
const PODMAN: &str = "exec podman --root $DIR/root --runroot $DIR/run --tmpdir $DIR/tmp \
    --network-config-dir $DIR/net --storage-driver vfs --cgroup-manager cgroupfs \
    --events-backend file --runtime runc --network-backend netavark \"$@\"";

/// Kind of an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Docker,
    Podman,
}

/// An engine; its containers and processes end when it is dropped.
#[derive(Debug)]
pub struct Engine {
    kind: Kind,
    dir: TempDir,
    /// Namespace of the bridges and of the rules for packets.
    host: Netns,
    /// The daemon, or the holder of the mount namespace.
    process: Child,
}

/// Interface of a container as its engine describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// MAC address.
    pub mac: String,
    /// IPv4 address with its prefix.
    pub address: String,
    /// Address of the bridge.
    pub gateway: String,
}

impl Engine {
    /// Starts Docker's daemon.
    pub fn docker() -> Self {
        let engine = Self::start(Kind::Docker, DOCKERD);
        engine.await_success(|| engine.run(&["info"]).status == 0);
        engine.import();
        engine
    }

    /// Prepares podman with netavark.
    pub fn podman() -> Self {
        let engine = Self::start(Kind::Podman, HOLDER);
        engine.await_success(|| engine.dir.path().join("ready").exists());
        engine.import();
        engine
    }

    fn start(kind: Kind, script: &str) -> Self {
        let (dir, host) = (temp_dir(), Netns::new());
        fs::write(dir.path().join("daemon.json"), "{}").unwrap();
        let log = fs::File::create(dir.path().join("log")).unwrap();
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", host.name()));
        command.args(["unshare", "--mount", "--propagation", "private"]);
        command.args(["sh", "-c", script]);
        command.env("DIR", dir.path()).env("CGROUP", CGROUP);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let process = command.stderr(log).spawn().unwrap();
        Self {
            kind,
            dir,
            host,
            process,
        }
    }

    fn await_success(&self, is_ready: impl Fn() -> bool) {
        let deadline = Instant::now() + LIMIT;
        while !is_ready() {
            let log = || fs::read_to_string(self.dir.path().join("log"));
            assert!(Instant::now() < deadline, "{:?}", log());
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Makes the image, which has `patchbay` alone.
    fn import(&self) {
        let archive = self.dir.path().join("image.tar");
        let programs = bin("patchbay");
        let mut tar = Command::new("tar");
        tar.arg("-cf").arg(&archive);
        tar.arg("-C").arg(programs.parent().unwrap());
        run(tar.arg("patchbay"), "").ok();
        let archive = archive.to_str().unwrap();
        self.run(&["import", archive, "image"]).ok();
    }

    /// Runs a command of the engine.
    pub fn run(&self, words: &[&str]) -> Done {
        let dir = self.dir.path();
        let mut command = match self.kind {
            Kind::Docker => {
                let mut command = Command::new("docker");
                command.arg("--config").arg(dir);
                command.arg("--host").arg(socket(dir));
                command
            }
            Kind::Podman => {
                let mut command = Command::new("nsenter");
                command.args(["--target", &self.process.id().to_string()]);
                command.args(["--mount", "--net", "sh", "-c", PODMAN, "sh"]);
                command.env("DIR", dir);
                command
            }
        };
        run(command.args(words), "")
    }

    /// Returns the namespace of the bridges.
    pub fn host(&self) -> &Netns {
        &self.host
    }

    /// Creates a network with this subnet.
    pub fn create_network(&self, name: &str, subnet: &str) {
        let words = ["network", "create", "--subnet", subnet, name];
        self.run(&words).ok();
    }

    /// Starts a container of one program that waits, and returns its process.
    pub fn start_container(&self, name: &str, network: &str) -> u32 {
        let mut words = vec!["run", "--detach", "--name", name, "--network", network];
        if self.kind == Kind::Podman {
            words.extend(["--cgroup-parent", CGROUP]);
            // The defaults are above the limits of root without CAP_SYS_RESOURCE.
            for limit in ["nofile=1024:1024", "nproc=1024:1024"] {
                words.extend(["--ulimit", limit]);
            }
        }
        words.extend(["image", "/patchbay", "cni", "wait"]);
        self.run(&words).ok();
        let pid = self.run(&["inspect", "--format", "{{.State.Pid}}", name]);
        pid.ok().trim().parse().unwrap()
    }

    /// Runs `network connect` or `network disconnect`.
    pub fn network(&self, command: &str, network: &str, container: &str) {
        self.run(&["network", command, network, container]).ok();
    }

    /// Returns the interface of a container in a network.
    pub fn endpoint(&self, network: &str, container: &str) -> Endpoint {
        let inspected = self.run(&["inspect", container]).json();
        let endpoint = &inspected[0]["NetworkSettings"]["Networks"][network];
        let text = |key: &str| endpoint[key].as_str().unwrap().to_owned();
        let length: &Value = &endpoint["IPPrefixLen"];
        Endpoint {
            mac: text("MacAddress"),
            address: format!("{}/{length}", text("IPAddress")),
            gateway: text("Gateway"),
        }
    }
}

fn socket(dir: &Path) -> String {
    format!("unix://{}/socket", dir.display())
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Steps fail if the engine has ended already.
        let listed = self.run(&["ps", "--all", "--quiet"]).out;
        for id in listed.lines() {
            self.run(&["rm", "--force", id]);
        }
        // The daemon stops containerd on this signal.
        let pid = self.process.id().to_string();
        run(Command::new("kill").arg(pid), "");
        let _ = self.process.wait();
    }
}
