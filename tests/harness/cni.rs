//! A CNI network for the namespace of a guest, with plugins of Debian and patchbay's.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::built::REPOSITORY;
use crate::{Done, Guest, Netns, bin, run, temp_dir};

/// Host of a pod: a namespace for bridges, and the files of a runtime.
#[derive(Debug)]
pub struct Cni {
    dir: TempDir,
    run_dir: PathBuf,
    host: Netns,
}

/// Interface of a pod.
#[derive(Debug, Clone)]
pub struct Pod {
    /// Id of the sandbox.
    pub container: String,
    /// Path of the network namespace; can be empty.
    pub netns: String,
    /// Name of the interface.
    pub ifname: String,
    /// Values of capabilities, an object; `null` without any.
    pub capabilities: Value,
}

impl Pod {
    /// Returns an interface of the namespace of a guest.
    pub fn of(guest: &Guest, ifname: &str) -> Self {
        Self {
            container: guest.id().to_owned(),
            netns: format!("/run/netns/{}", guest.netns().name()),
            ifname: ifname.to_owned(),
            capabilities: Value::Null,
        }
    }
}

impl Cni {
    /// Plugins of Debian's containernetworking-plugins.
    pub const PLUGINS: &str = "/usr/lib/cni";

    /// Creates a host whose sandboxes are registered in this run directory.
    pub fn new(run_dir: &Path) -> Self {
        let cni = Self {
            dir: temp_dir(),
            run_dir: run_dir.to_owned(),
            host: Netns::new(),
        };
        symlink(bin("patchbay"), cni.file("patchbay-cni")).unwrap();
        cni
    }

    /// Returns the path of a file of the runtime.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Returns the namespace of the bridges.
    pub fn host(&self) -> &Netns {
        &self.host
    }

    /// Returns the object of a bridge with addresses from these subnets. Its own are the first ones.
    pub fn bridge(&self, subnets: &[&str]) -> Value {
        let ranges = subnets.iter().map(|subnet| json!([{"subnet": subnet}]));
        let ipam = json!({"type": "host-local", "dataDir": self.file("ipam"), "ranges": ranges.collect::<Value>()});
        json!({"type": "bridge", "bridge": "br1", "isGateway": true, "ipam": ipam})
    }

    /// Lists the addresses that pods have of the network.
    pub fn leases(&self) -> Vec<String> {
        let files = fs::read_dir(self.file("ipam/blue")).into_iter().flatten();
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("10.")).collect()
    }

    /// Returns the object of patchbay's plugin.
    pub fn patchbay() -> Value {
        json!({"type": "patchbay-cni", "timeout": 60})
    }

    /// Returns the list of these plugins.
    pub fn list(plugins: &Value) -> Value {
        json!({"cniVersion": "1.0.0", "name": "blue", "plugins": plugins})
    }

    /// Runs a list of plugins through libcni: `add`, `check` or `del`.
    pub fn run(&self, command: &str, plugins: &Value, pod: &Pod) -> Done {
        let file = self.file(&format!("{}-{}.conflist", pod.container, pod.ifname));
        fs::write(&file, Self::list(plugins).to_string()).unwrap();
        let mut process = self.host_command(&driver());
        process.arg(command).arg(file);
        process.args([&pod.container, &pod.netns, &pod.ifname]);
        if !pod.capabilities.is_null() {
            process.env("CNI_CAPABILITIES", pod.capabilities.to_string());
        }
        run(&mut process, "")
    }

    /// Returns the command of a runtime, in the namespace of the bridges.
    pub(crate) fn host_command(&self, program: &Path) -> Command {
        let mut process = Command::new("ip");
        process
            .args(["netns", "exec", self.host.name()])
            .arg(program);
        self.environment(&mut process);
        process
    }

    /// Returns the command of patchbay's plugin alone.
    pub fn plugin(&self, command: &str, pod: &Pod) -> Command {
        let mut process = Command::new(self.file("patchbay-cni"));
        self.environment(&mut process);
        process.env("CNI_COMMAND", command);
        for (name, value) in [
            ("CNI_CONTAINERID", &pod.container),
            ("CNI_NETNS", &pod.netns),
            ("CNI_IFNAME", &pod.ifname),
        ] {
            process.env(name, value);
        }
        process
    }

    fn environment(&self, process: &mut Command) {
        let path = format!("{}:{}", self.dir.path().display(), Self::PLUGINS);
        process.env("CNI_PATH", path);
        process.env("CNI_CACHE", self.file("cache"));
        process.env("PATCHBAY_RUN_DIR", &self.run_dir);
        process.env("PATCHBAY_KATA_ROOTS", self.dir.path());
        process.env("PATCHBAY_HOST_FILE", self.file("cni.json"));
    }
}

/// Returns the program that runs lists through libcni.
fn driver() -> PathBuf {
    let (source, program) = ("tests/cni-driver/main.go", "target/cni-driver");
    let path = |name| Path::new(REPOSITORY).join(name);
    let modified = |name| {
        fs::metadata(path(name))
            .and_then(|file| file.modified())
            .ok()
    };
    assert!(
        modified(program) >= modified(source),
        "{program} is missing or stale: run `make cni-driver`"
    );
    path(program)
}
