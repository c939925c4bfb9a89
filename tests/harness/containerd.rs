//! Containers of containerd and runc, with CNI plugins.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::{Cni, Done, bin, run, temp_dir};

/// Namespace of containerd, which is not one of the kernel.
const NAMESPACE: &str = "pb-test";
const LIMIT: Duration = Duration::from_secs(60);

/// containerd without the service for Kubernetes, which uses the host's folders; it ends when it is dropped.
#[derive(Debug)]
pub struct Containerd {
    dir: TempDir,
    daemon: Child,
}

/// A running container of one program that waits.
#[derive(Debug)]
pub struct Container {
    /// `ctr`, which adds its networks, waits for it and removes them.
    client: Child,
    id: String,
}

impl Containerd {
    /// Starts the daemon.
    pub fn start() -> Self {
        let dir = temp_dir();
        let path = |name: &str| dir.path().join(name);
        let config = format!(
            "version = 2\nroot = '{dir}/root'\nstate = '{dir}/state'\n\
             disabled_plugins = ['io.containerd.grpc.v1.cri']\n[grpc]\naddress = '{dir}/socket'\n\
             [plugins.'io.containerd.internal.v1.opt']\npath = '{dir}/opt'\n",
            dir = dir.path().display()
        );
        fs::write(path("config.toml"), config).unwrap();
        fs::create_dir_all(path("rootfs")).unwrap();
        fs::copy(bin("patchbay"), path("rootfs/patchbay")).unwrap();
        let log = fs::File::create(path("log")).unwrap();
        let daemon = Command::new("containerd")
            .arg("--config")
            .arg(path("config.toml"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let containerd = Self { dir, daemon };
        let deadline = Instant::now() + LIMIT;
        while containerd.ctr(&["version"]).status != 0 {
            let log = || fs::read_to_string(containerd.path("log"));
            assert!(Instant::now() < deadline, "{:?}", log());
        }
        containerd
    }

    /// Runs `ctr`.
    pub fn ctr(&self, words: &[&str]) -> Done {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(self.path("socket"));
        run(command.args(["--namespace", NAMESPACE]).args(words), "")
    }

    /// Runs a container with a network of these plugins, and returns it with its process once the
    /// program runs.
    pub fn run(&self, cni: &Cni, id: &str, plugins: &Value) -> (Container, u32) {
        let list = Cni::list(plugins);
        let file = self.path("list.conflist");
        fs::write(&file, list.to_string()).unwrap();
        // ctr reads the network from fixed folders of the host, which the script covers in a new mount
        // namespace.
        let script = "set -e; mount -t tmpfs tmpfs /opt; mkdir -p /opt/up/cni/net.d /opt/work /opt/cni/bin; \
            ln -s \"$1\"/* \"$2\" /opt/cni/bin; \
            mount -t overlay overlay -o lowerdir=/etc,upperdir=/opt/up,workdir=/opt/work /etc; \
            cp \"$3\" /etc/cni/net.d; shift 3; exec ctr \"$@\"";
        let mut command = cni.host_command(Path::new("sh"));
        command.args(["-c", script, "sh"]);
        command.args([Path::new(Cni::PLUGINS), &cni.file("patchbay-cni"), &file]);
        let (socket, rootfs) = (self.path("socket"), self.path("rootfs"));
        command.arg("--address").arg(socket);
        command.args([
            "--namespace",
            NAMESPACE,
            "run",
            "--rm",
            "--null-io",
            "--cni",
            "--rootfs",
        ]);
        command.arg(rootfs).args([id, "/patchbay", "cni", "wait"]);
        let log = fs::File::create(self.path("ctr.log")).unwrap();
        let client = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let mut container = Container {
            client: client.spawn().unwrap(),
            id: id.to_owned(),
        };
        let deadline = Instant::now() + LIMIT;
        loop {
            let log = || fs::read_to_string(self.path("ctr.log"));
            if let Some(pid) = self.pid(id) {
                return (container, pid);
            }
            let ended = container.client.try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < deadline, "{:?}", log());
        }
    }

    /// Returns the ID that containerd passes to plugins.
    pub fn runtime_id(container: &Container) -> String {
        format!("{NAMESPACE}-{}", container.id)
    }

    /// Ends the program of a container, and waits until its networks are removed.
    pub fn stop(&self, mut container: Container) {
        self.ctr(&["task", "kill", "--signal", "KILL", &container.id])
            .ok();
        container.client.wait().unwrap();
        let log = fs::read_to_string(self.path("ctr.log")).unwrap();
        assert_eq!(log, "");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Returns the process of a container that runs.
    fn pid(&self, id: &str) -> Option<u32> {
        let listed = self.ctr(&["task", "ls"]).out;
        let mut tasks = listed
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>());
        let task = tasks.find(|task| task.first() == Some(&id) && task.last() == Some(&"RUNNING"));
        task.and_then(|task| task[1].parse().ok())
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        // Containers outlive the daemon. Steps fail if it has exited already.
        let running = self.ctr(&["task", "ls", "--quiet"]).out;
        for id in running.lines() {
            self.ctr(&["task", "rm", "--force", id]);
        }
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}
