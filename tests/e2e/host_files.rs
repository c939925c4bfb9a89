//! Files and folders of the host that another user has prepared, or that can't be written.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use patchbay_tests::{Card, Done, Guest, Machine, Netns, bin, patchbay, run, temp_dir};
use patchbay_types::failure::Kind;

/// User without rights.
const NOBODY: u32 = 65534;
const SANDBOX: &str = "6ec7a98b";

/// Creates the folders of Kata and of patchbay for a sandbox, which all belong to another user.
fn forge(root: &Path) {
    let persist = r#"{"AgentState":{"URL":"hvsock:///tmp/forged.sock:1024"}}"#;
    let registration = r#"{"qmp":"/tmp/forged.sock","agent":"unix:///tmp/forged","netns":null}"#;
    let kata = format!("run/vc/sbs/{SANDBOX}");
    for (folder, name, text) in [
        (kata.as_str(), "persist.json", persist),
        (SANDBOX, "sandbox.json", registration),
    ] {
        let mut path = root.join(folder);
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join(name), text).unwrap();
        chown(path.join(name), Some(NOBODY), None).unwrap();
        while path != root {
            chown(&path, Some(NOBODY), None).unwrap();
            path.pop();
        }
    }
    chown(root, Some(NOBODY), None).unwrap();
}

#[test]
fn folders_of_another_user_are_not_believed() {
    let (forged, own) = (temp_dir(), temp_dir());
    forge(forged.path());
    let words = ["kata-network", "list-ifaces", SANDBOX];
    let list = |run_dir: &Path, variable: &str, value: &Path| {
        run(patchbay(run_dir, &words).env(variable, value), "")
    };
    // Not even opened.
    let found = list(own.path(), "XDG_RUNTIME_DIR", forged.path());
    found.assert_null_error(Kind::NotFound, "no such container ID");
    let found = list(own.path(), "PATCHBAY_KATA_ROOTS", forged.path());
    found.assert_null_error(
        Kind::Denied,
        "is not trusted: root or the caller must own it",
    );
    let found = list(forged.path(), "PATCHBAY_KATA_ROOTS", own.path());
    found.assert_null_error(
        Kind::Denied,
        "is not trusted: root or the caller must own it",
    );
    // Through a link, and in a folder of root that everybody can change.
    let link = own.path().join("link");
    symlink(forged.path(), &link).unwrap();
    let found = list(&link, "PATCHBAY_KATA_ROOTS", own.path());
    found.assert_null_error(
        Kind::Denied,
        "is not trusted: root or the caller must own it",
    );
    let open = own.path().join("open");
    fs::create_dir_all(open.join(SANDBOX)).unwrap();
    fs::set_permissions(&open, Permissions::from_mode(0o777)).unwrap();
    let found = list(&open, "PATCHBAY_KATA_ROOTS", own.path());
    found.assert_null_error(Kind::Denied, "no other user may have write access to it");
}

#[test]
fn lock_of_the_run_directory_is_private_and_no_link_is_followed() {
    let dir = temp_dir();
    let (run_dir, secret) = (dir.path().join("run"), dir.path().join("secret"));
    let start = |mask: &str| {
        let line =
            format!("umask {mask} && exec \"$0\" start a --netns /nonexistent --run-dir \"$1\"");
        let mut command = Command::new("sh");
        command.args(["-c", &line]).arg(bin("patchbay-sandbox"));
        run(command.arg(&run_dir), "")
    };
    start("0").assert_error(Kind::Invalid, "/nonexistent");
    // `stop` takes the lock, too.
    fs::create_dir_all(run_dir.join("a")).unwrap();
    fs::write(&secret, "secret").unwrap();
    symlink(&secret, run_dir.join(".lock")).unwrap();
    let stop = || {
        let mut command = Command::new(bin("patchbay-sandbox"));
        run(command.args(["stop", "a", "--run-dir"]).arg(&run_dir), "")
    };
    assert_ne!(stop().status, 0);
    assert_eq!(fs::read_to_string(&secret).unwrap(), "secret");
    fs::remove_file(run_dir.join(".lock")).unwrap();
    stop().ok();
    let mode = fs::metadata(run_dir.join(".lock")).unwrap().permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
}

#[test]
fn result_that_cannot_be_printed_is_an_error() {
    let run_dir = temp_dir();
    for words in [&["completions", "bash"][..], &["--help"], &["--version"]] {
        let mut command = patchbay(run_dir.path(), words);
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = command.stdout(full).stderr(Stdio::piped()).output();
        let output = output.unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{words:?}: {error}");
        let sentence =
            "patchbay: the result could not be written to standard output: No space left";
        assert!(error.starts_with(sentence), "{words:?}: {error}");
    }
}

/// Runs a script with the folder of machines on a small file system in a new mount namespace.
fn on_small_file_system(guest: &Guest, script: &str) -> Done {
    let machines = guest.run_dir().join(".machines");
    fs::create_dir_all(&machines).unwrap();
    let line = format!(
        "set -e; mount -t tmpfs -o size=64k,mode=755 none {0}; cd {0}; patchbay() {{ {1} \"$@\"; }}; {script}",
        machines.display(),
        bin("patchbay").display()
    );
    let mut command = Command::new("unshare");
    command.env("PATCHBAY_RUN_DIR", guest.run_dir());
    command.env("ID", guest.id());
    run(
        command.args(["-m", "sh", "-c", &line]),
        &Card::named("eth1").json(),
    )
}

#[test]
fn unplug_on_a_full_run_directory_succeeds() {
    let guest = Guest::start(Machine::Q35);
    let done = on_small_file_system(
        &guest,
        "patchbay kata-network add-iface $ID - >../card.json; \
         dd if=/dev/zero of=fill bs=4k status=none || true; \
         patchbay kata-network del-iface $ID ../card.json; ls */cards",
    );
    assert_eq!(done.status, 0, "{done}");
    assert_eq!(done.out, "null\n", "{done}");
    assert!(done.err.contains("No space left on device"), "{done}");
    assert_eq!(guest.monitor().backends(), "");
    // Nothing is plugged that the journal can't record.
    let done = on_small_file_system(
        &guest,
        "dd if=/dev/zero of=fill bs=4k status=none || true; \
         patchbay kata-network add-iface $ID -",
    );
    assert!(done.err.contains("No space left on device"), "{done}");
    assert_ne!(done.status, 0, "{done}");
    assert_eq!(guest.monitor().backends(), "");
}

/// The successor of a deleted namespace has its name, and in it a TAP with the name and the index of the
/// card's.
#[test]
fn unplug_in_deleted_namespace_leaves_its_successor_alone() {
    let guest = Guest::start(Machine::Q35);
    let netns = Netns::new();
    let add_tap = |state: &str| {
        netns.ip("tuntap add tap1 mode tap").ok();
        netns.ip(&format!("link set tap1 mtu 1400 {state}")).ok();
    };
    let tap = || netns.ip("-j link show tap1").json()[0].take();
    add_tap("down");
    let agent = guest.registered()["agent"].as_str().unwrap().to_owned();
    let mut add = patchbay(guest.run_dir(), &["kata-network", "add-iface", "any", "-"]);
    add.args(["--agent", &agent, "--netns", netns.name(), "--qmp"]);
    add.arg(guest.file("qmp.sock"));
    run(&mut add, &Card::named("eth1").json()).ok();
    let before = tap();
    assert_eq!(before["mtu"], 1500);
    for word in ["del", "add"] {
        let mut ip = Command::new("ip");
        run(ip.args(["netns", word, netns.name()]), "").ok();
    }
    add_tap("up");
    assert_eq!(tap()["ifindex"], before["ifindex"]);
    let deleted = guest.unplug(&Card::named("eth1"));
    let warning = "the TAP device 'tap1' of the card eth1 was not restored";
    assert!(deleted.err.contains(warning), "{deleted}");
    deleted.assert_null();
    assert_eq!(tap()["mtu"], 1400);
    assert!(tap()["flags"].as_array().unwrap().contains(&"UP".into()));
    assert_eq!(guest.monitor().backends(), "");
}
