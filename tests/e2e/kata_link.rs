//! `kata-runtime` as a link to patchbay, and the configuration of the host, without a guest.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use patchbay_tests::{Done, bin, patchbay, run, temp_dir};
use patchbay_types::failure::Kind;
use tempfile::TempDir;

/// An unprivileged user, `nobody` of Debian.
const NOBODY: u32 = 65534;

/// Stand-in for the other program: prints its words, and its standard input on standard error.
const REAL: &str = "#!/bin/sh\nprintf '<%s>' \"$0\" \"$@\"\ncat >&2\nexit 42\n";

/// Link, configuration and the program that it names.
struct Host(TempDir);

impl Host {
    fn new() -> Self {
        let host = Self(temp_dir());
        symlink(bin("patchbay"), host.file("kata-runtime")).unwrap();
        fs::write(host.file("real"), REAL).unwrap();
        fs::set_permissions(host.file("real"), Permissions::from_mode(0o755)).unwrap();
        host.name(&host.file("real"));
        host
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes the configuration with this path.
    fn name(&self, path: &Path) {
        self.configure(&format!("[kata-runtime]\npath = \"{}\"\n", path.display()));
    }

    fn configure(&self, text: &str) {
        fs::write(self.file("config.toml"), text).unwrap();
    }

    fn link(&self, words: &[&str]) -> Done {
        let mut command = Command::new(self.file("kata-runtime"));
        let command = command.env("PATCHBAY_CONFIG", self.file("config.toml"));
        let command = command.env("PATCHBAY_RUN_DIR", self.file("run"));
        run(command.args(words), "input")
    }
}

#[test]
fn link_runs_configured_program_for_other_words() {
    let host = Host::new();
    for words in [
        &["kata-env", "--json"][..],
        &["list"],
        &["--log", "/dev/null", "--root", "kata-network", "state", "a"],
        &["--version"],
        &["delete", "--force", "kata-network", "a b", ""],
        &[],
    ] {
        let done = host.link(words);
        let shown: Vec<_> = words.iter().map(|word| format!("<{word}>")).collect();
        let expected = Done {
            status: 42,
            out: format!("<{}>{}", host.file("real").display(), shown.concat()),
            err: "input".to_owned(),
        };
        assert_eq!(done, expected);
    }
    // Patchbay's commands, also behind options of the other program.
    for words in [
        &["kata-network", "list-ifaces", "a"][..],
        &[
            "--log",
            "/dev/null",
            "--debug",
            "kata-network",
            "list-ifaces",
            "a",
        ],
    ] {
        let done = host.link(words);
        done.assert_null_error(Kind::NotFound, "no such container ID (a)");
    }
}

#[test]
fn link_without_usable_program_fails() {
    let host = Host::new();
    host.configure("");
    host.link(&["kata-env"]).assert_error(
        Kind::NotFound,
        "kata-runtime: kata-env: patchbay has kata-network and kata-ipvs only: name the program",
    );
    // Itself, also by another link, would run forever.
    symlink(bin("patchbay"), host.file("other")).unwrap();
    for path in [
        host.file("other"),
        host.file("kata-runtime"),
        bin("patchbay"),
    ] {
        host.name(&path);
        let done = host.link(&["kata-env"]);
        done.assert_error(Kind::Invalid, "is not allowed: it is patchbay itself");
    }
    host.name(&host.file("absent"));
    let done = host.link(&["kata-env"]);
    done.assert_error(Kind::NotFound, "could not run");
}

#[test]
fn config_of_another_user_or_with_unknown_key_is_refused() {
    let host = Host::new();
    let config = host.file("config.toml");
    let network = ["kata-network", "list-ifaces", "a"];
    let mode = |mode| fs::set_permissions(&config, Permissions::from_mode(mode)).unwrap();
    mode(0o666);
    let rule = "config.toml is not trusted: no other user may have write access to it";
    host.link(&["kata-env"]).assert_error(Kind::Denied, rule);
    host.link(&network).assert_null_error(Kind::Denied, rule);
    mode(0o644);
    chown(&config, Some(NOBODY), None).unwrap();
    let rule = "config.toml is not trusted: root or the caller must own it";
    host.link(&["kata-env"]).assert_error(Kind::Denied, rule);
    chown(&config, Some(0), None).unwrap();

    host.configure("[defaults]\n\nretries = 3\n");
    let rule = "config.toml: line 3: unknown field `retries`";
    host.link(&network).assert_null_error(Kind::Invalid, rule);
    let mut command = patchbay(host.0.path(), &["list"]);
    let done = run(command.env("PATCHBAY_CONFIG", &config), "");
    done.assert_error(Kind::Invalid, rule);
    assert_eq!(done.out, "");
}
