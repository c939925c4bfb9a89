//! The image and the manifests of `deploy`, built by buildah and kubectl, without a cluster.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use patchbay_tests::{Done, bin, run, temp_dir};
use serde_json::Value;
use tempfile::TempDir;

const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const SIGTERM: u32 = 15;
/// Makes a list of YAML documents a JSON document.
const TO_JSON: &str =
    "import json, sys, yaml; json.dump(list(yaml.safe_load_all(sys.stdin)), sys.stdout)";

fn repository(name: &str) -> PathBuf {
    Path::new(REPOSITORY).join(name)
}

/// Returns the only object of an overlay.
fn object(overlay: &str) -> Value {
    let tool = |name: &str| {
        let path = repository("target/kubernetes/bin").join(name);
        let shown = path.display();
        assert!(path.exists(), "{shown} is missing: run `make setup-lint`");
        Command::new(path)
    };
    let folder = repository("deploy/kubernetes").join(overlay);
    let built = run(tool("kubectl").arg("kustomize").arg(folder), "").ok();
    let objects = run(tool("python").args(["-c", TO_JSON]), &built).json();
    assert_eq!(objects.as_array().unwrap().len(), 1, "{built}");
    objects[0].clone()
}

/// Image of `deploy/Containerfile` in a store of the test.
struct Image {
    dir: TempDir,
    /// Root of a container.
    root: PathBuf,
}

impl Image {
    /// Builds the image, from nothing but the program.
    fn build(tag: &str) -> Self {
        let dir = temp_dir();
        let program = dir
            .path()
            .join("context/target/x86_64-unknown-linux-gnu/release");
        fs::create_dir_all(&program).unwrap();
        fs::copy(bin("patchbay"), program.join("patchbay")).unwrap();
        let mut image = Self {
            dir,
            root: PathBuf::new(),
        };
        let (file, context) = (
            repository("deploy/Containerfile"),
            image.dir.path().join("context"),
        );
        let (file, context) = (file.to_str().unwrap(), context.to_str().unwrap());
        image
            .buildah(&[
                "build",
                "--isolation",
                "chroot",
                "-f",
                file,
                "-t",
                tag,
                context,
            ])
            .ok();
        let container = image.buildah(&["from", "--pull-never", tag]).ok();
        let root = image.buildah(&["mount", container.trim()]).ok();
        image.root = PathBuf::from(root.trim());
        image
    }

    fn buildah(&self, words: &[&str]) -> Done {
        let mut command = Command::new("buildah");
        let store = |name: &str| self.dir.path().join(name);
        command.arg("--root").arg(store("store"));
        command.arg("--runroot").arg(store("run"));
        run(command.args(["--storage-driver", "vfs"]).args(words), "")
    }

    /// Returns the command of a container of a pod, with the node's directories, and without capabilities but
    /// that to enter the image.
    fn container(&self, pod: &Value, container: &Value, node: &Path) -> Command {
        let mut mounts = vec![format!("mount -t proc proc {}/proc", self.root.display())];
        fs::create_dir_all(self.root.join("proc")).unwrap();
        for mount in container["volumeMounts"].as_array().into_iter().flatten() {
            let mut volumes = pod["volumes"].as_array().unwrap().iter();
            let volume = volumes.find(|volume| volume["name"] == mount["name"]);
            let below = |root: &Path, path: &Value| {
                root.join(path.as_str().unwrap().trim_start_matches('/'))
            };
            let from = below(node, &volume.unwrap()["hostPath"]["path"]);
            let to = below(&self.root, &mount["mountPath"]);
            fs::create_dir_all(&to).unwrap();
            if volume.unwrap()["hostPath"]["type"] == "DirectoryOrCreate" {
                fs::create_dir_all(&from).unwrap();
            }
            let bind = format!("mount --bind {} {}", from.display(), to.display());
            mounts.push(bind);
        }
        let user = &container["securityContext"]["runAsUser"];
        let script = format!(
            "{} && exec setpriv --no-new-privs --bounding-set=-all,+sys_chroot,+setuid,+setgid \
             chroot --userspec={user}:{user} {} /patchbay \"$@\"",
            mounts.join(" && "),
            self.root.display()
        );
        let mut command = Command::new("unshare");
        // The process of a container is the first of its namespace, where signals need a handler.
        command.args(["--mount", "--pid", "--fork", "sh", "-c", &script, "sh"]);
        let arguments = container["args"].as_array().unwrap().iter();
        command.args(arguments.map(|argument| argument.as_str().unwrap()));
        command
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        self.buildah(&["umount", "--all"]);
    }
}

/// Directories of a node with Kata.
struct Node(TempDir);

impl Node {
    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

#[test]
fn image_has_program_and_nothing_else() {
    let tag = concat!("patchbay:", env!("CARGO_PKG_VERSION"));
    let image = Image::build(tag);
    let names = fs::read_dir(&image.root).unwrap();
    let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["patchbay"]);
    let mode = fs::metadata(image.root.join("patchbay")).unwrap();
    assert_eq!(mode.permissions().mode() & 0o777, 0o755);
    let inspected = image.buildah(&["inspect", "--type", "image", tag]).json();
    let config = &inspected["OCIv1"]["config"];
    assert_eq!(config["Entrypoint"], serde_json::json!(["/patchbay"]));
    // Both overlays run it.
    for overlay in ["install", "uninstall"] {
        let pod = object(overlay)["spec"]["template"]["spec"].take();
        for container in [&pod["initContainers"][0], &pod["containers"][0]] {
            assert_eq!(container["image"], tag, "{overlay}");
        }
    }
}

/// Returns whether `/proc/PID/status` is that of the program, and it has blocked the signal.
fn waits_for(status: &str, signal: u32) -> bool {
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    let blocked = field("SigBlk:").and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    field("Name:").map(str::trim) == Some("patchbay")
        && blocked.is_some_and(|mask| mask & (1 << (signal - 1)) != 0)
}

#[test]
fn daemon_sets_install_and_uninstall() {
    let image = Image::build("patchbay:test");
    let node = Node(temp_dir());
    let kata = "opt/kata/share/defaults/kata-containers/runtimes/qemu";
    fs::create_dir_all(node.file(kata)).unwrap();
    let configuration = "[hypervisor.qemu]\npath = \"/opt/kata/bin/qemu-system-x86_64\"\n";
    fs::write(
        node.file(kata).join("configuration-qemu.toml"),
        configuration,
    )
    .unwrap();
    let mut install = object("install");
    let pod = install["spec"]["template"]["spec"].take();
    let init = &pod["initContainers"][0];
    // Again, after an update of the DaemonSet.
    for _ in 0..2 {
        run(&mut image.container(&pod, init, node.0.path()), "").ok();
    }
    let drop_in = node.file(kata).join("config.d/60-patchbay.toml");
    let text = fs::read_to_string(&drop_in).unwrap();
    assert_eq!(
        text,
        "[hypervisor.qemu]\npath = \"/opt/patchbay/bin/patchbay-qemu\"\n"
    );
    let plugin = node.file("opt/cni/bin/patchbay-cni");
    let version = run(Command::new(&plugin).env("CNI_COMMAND", "VERSION"), "").json();
    assert_eq!(version["cniVersion"], "1.1.0");
    let wrapper = node.file("opt/patchbay/bin/patchbay-qemu");
    let version = run(Command::new(&wrapper).arg("--version"), "").ok();
    assert!(version.contains("QEMU"), "{version}");

    // The other container has no rights, and ends by the signal of the kubelet.
    let mut wait = image.container(&pod, &pod["containers"][0], node.0.path());
    let mut waiting = wait.stdin(Stdio::null()).spawn().unwrap();
    let pid = loop {
        let outer = waiting.id();
        let children = fs::read_to_string(format!("/proc/{outer}/task/{outer}/children"));
        let pid = children.unwrap().trim().to_owned();
        // Until the program has blocked the signal, the kernel discards it for the first process of a namespace.
        let status = fs::read_to_string(format!("/proc/{pid}/status"));
        if status.is_ok_and(|status| waits_for(&status, SIGTERM)) {
            break pid;
        }
        assert_eq!(waiting.try_wait().unwrap(), None);
    };
    run(Command::new("kill").args(["-TERM", &pid]), "").ok();
    assert_eq!(waiting.wait().unwrap().code(), Some(128 + 15));

    let mut uninstall = object("uninstall");
    assert_eq!(uninstall["metadata"]["name"], "patchbay-uninstall");
    let pod = uninstall["spec"]["template"]["spec"].take();
    let init = &pod["initContainers"][0];
    run(&mut image.container(&pod, init, node.0.path()), "").ok();
    assert!(!plugin.exists() && !wrapper.exists() && !drop_in.exists());
}
