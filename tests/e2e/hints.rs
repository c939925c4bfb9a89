//! Messages that name the cause and the next step, where no guest is needed.

use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::fcntl::{Flock, FlockArg};
use patchbay_tests::{bin, patchbay, run, temp_dir};
use patchbay_types::failure::Kind;
use serde_json::json;

/// An unprivileged user, `nobody` of Debian.
const NOBODY: u32 = 65534;

const NO_LINES: [&str; 0] = [];

/// Registers a sandbox of this name, as its launcher does.
fn register(run_dir: &Path, id: &str, qmp: &Path, pid: u32) {
    let folder = run_dir.join(id);
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, Permissions::from_mode(0o700)).unwrap();
    let file = json!({"qmp": qmp, "agent": "vsock://4294967294:1061", "netns": null, "pid": pid});
    fs::write(folder.join("sandbox.json"), file.to_string()).unwrap();
}

/// A folder of a sandbox, and Kata's folders, are readable by root only.
#[test]
fn unprivileged_caller_is_denied() {
    let dir = temp_dir();
    for folder in [
        dir.path(),
        &dir.path().join("run"),
        &dir.path().join("kata"),
    ] {
        fs::create_dir_all(folder).unwrap();
        fs::set_permissions(folder, Permissions::from_mode(0o755)).unwrap();
    }
    // The folder of the build can be closed to other users.
    let program = dir.path().join("patchbay");
    fs::copy(bin("patchbay"), &program).unwrap();
    let run_dir = dir.path().join("run");
    register(&run_dir, "6ec7a98", &dir.path().join("qmp.sock"), 1);
    let sandboxes = dir.path().join("kata/run/vc/sbs/77aa");
    fs::create_dir_all(&sandboxes).unwrap();
    fs::write(sandboxes.join("persist.json"), "{}").unwrap();
    let closed = |id: &str, folder: &Path| {
        let mut command = Command::new(&program);
        command.env("PATCHBAY_RUN_DIR", &run_dir).uid(NOBODY);
        command.env("PATCHBAY_KATA_ROOTS", dir.path().join("kata"));
        let done = run(command.args(["kata-network", "list-ifaces", id]), "");
        done.assert_null_error(Kind::Denied, "is not readable: run as root");
        assert!(done.err.contains(folder.to_str().unwrap()), "{done}");
    };
    closed("6ec7a98", &run_dir.join("6ec7a98"));
    closed("6e", &run_dir.join("6ec7a98"));
    fs::remove_dir_all(run_dir.join("6ec7a98")).unwrap();
    let vc = dir.path().join("kata/run/vc");
    for folder in [sandboxes.as_path(), vc.as_path()] {
        fs::set_permissions(folder, Permissions::from_mode(0o700)).unwrap();
        closed("77aa", folder);
    }
}

#[test]
fn ended_qemu_is_named_with_its_pid() {
    let dir = temp_dir();
    let mut ended = Command::new("true").spawn().unwrap();
    ended.wait().unwrap();
    let qmp = dir.path().join("qmp.sock");
    register(dir.path(), "vm1", &qmp, ended.id());
    let warning = format!("QEMU of sandbox vm1 has ended (process {})", ended.id());
    let list = || {
        run(
            &mut patchbay(dir.path(), &["kata-network", "list-ifaces", "vm1"]),
            "",
        )
    };
    list().assert_null_error(Kind::NotFound, &warning);
    // The socket of a process that was killed stays.
    drop(UnixListener::bind(&qmp).unwrap());
    list().assert_null_error(Kind::NotFound, &warning);
    list().assert_null_error(Kind::NotFound, "no QEMU answers at");
}

#[test]
fn holder_of_lock_is_named_while_waiting() {
    let dir = temp_dir();
    let qmp = dir.path().join("qmp.sock");
    let _listener = UnixListener::bind(&qmp).unwrap();
    register(dir.path(), "vm1", &qmp, std::process::id());
    let socket = fs::metadata(&qmp).unwrap();
    let machine = format!(".machines/{}-{}", socket.dev(), socket.ino());
    let machine = dir.path().join(machine);
    fs::create_dir_all(&machine).unwrap();
    let file = File::create(machine.join("lock")).unwrap();
    let held = Flock::lock(file, FlockArg::LockExclusive).unwrap();

    let mut command = patchbay(dir.path(), &["nic", "del", "vm1", "--name", "eth1"]);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stderr.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let waiting = format!(
        "patchbay: warning: waiting for process {} (",
        std::process::id()
    );
    child.kill().unwrap();
    child.wait().unwrap();
    drop(held);
    assert!(line.starts_with(&waiting), "{line}");
    assert!(
        line.ends_with("), which is changing this sandbox\n"),
        "{line}"
    );
}

#[test]
fn log_level_selects_the_lines_on_standard_error() {
    let dir = temp_dir();
    let mut ended = Command::new("true").spawn().unwrap();
    ended.wait().unwrap();
    register(dir.path(), "vm1", &dir.path().join("qmp.sock"), ended.id());
    let lines = |words: &[&str]| {
        let done = run(&mut patchbay(dir.path(), words), "");
        assert_eq!(done.status, 3, "{done}");
        let lines = done
            .err
            .lines()
            .map(|line| line.split(": ").nth(1).unwrap().to_owned());
        let known = ["info", "warning"];
        lines
            .filter(|level| known.contains(&level.as_str()))
            .collect::<Vec<_>>()
    };
    let list = ["nic", "list", "vm1"];
    assert_eq!(lines(&list), ["warning"]);
    assert_eq!(
        lines(&[&["--log-level", "error"], &list[..]].concat()),
        NO_LINES
    );
    let informed = lines(&[&list[..], &["--log-level=info"]].concat());
    assert_eq!(informed[..2], ["info", "warning"]);
    assert_eq!(lines(&[&["-v"], &list[..]].concat()), informed);
    // Behind the ID it is ipvsadm's.
    let version = run(&mut patchbay(dir.path(), &["ipvs", "vm1", "-v"]), "").ok();
    assert!(version.starts_with("ipvsadm v"), "{version}");
}

/// The document of the user guide promises `null` for every failure of `kata-network`.
#[test]
fn usage_error_of_kata_network_prints_null() {
    let dir = temp_dir();
    for words in [
        ["kata-network", "add-iface", "6ec7a98"].as_slice(),
        &["--nonsense", "kata-network", "list-ifaces", "6ec7a98"],
        &["kata-network", "nonsense", "6ec7a98"],
    ] {
        run(&mut patchbay(dir.path(), words), "").assert_null_error(Kind::Invalid, "error: ");
    }
    let other = run(&mut patchbay(dir.path(), &["nic", "list"]), "");
    assert_eq!((other.status, other.out.as_str()), (2, ""));
}
