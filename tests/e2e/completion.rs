//! Completion in the shells themselves, and `make install`.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use patchbay_tests::{Done, Guest, bin, run, temp_dir};

/// Asks each shell for the words that can follow a line, and asserts that these are among them.
const EXPECTED: [(&str, &[&str]); 8] = [
    ("patchbay nic l", &["list"]),
    ("patchbay nic list 6ec", &["ID"]),
    ("patchbay nic del ID --name ", &["eth1"]),
    ("patchbay wait ID --card ", &["eth1"]),
    (
        "patchbay sysctl set ID net.netf",
        &["net.netfilter.nf_conntrack_max"],
    ),
    ("patchbay ipvs ID -A -t 10.0.0.1 -s w", &["wrr", "wlc"]),
    ("kata-runtime kata-n", &["kata-network"]),
    ("patchbay-sandbox stop 6ec", &["ID"]),
];

/// Programs by their names, as they are in a `PATH`.
struct Shells<'a> {
    guest: &'a Guest,
    programs: tempfile::TempDir,
}

/// Asserts the completions for a guest that has the card eth1.
pub(crate) fn assert_words_of_host(guest: &Guest) {
    let programs = temp_dir();
    for (program, name) in [
        ("patchbay", "patchbay"),
        ("patchbay", "kata-runtime"),
        ("patchbay-sandbox", "patchbay-sandbox"),
    ] {
        symlink(bin(program), programs.path().join(name)).unwrap();
    }
    let shells = Shells { guest, programs };
    for (line, words) in EXPECTED {
        let line = line.replace("ID", guest.id());
        for shell in ["bash", "zsh", "fish"] {
            let found = match shell {
                "bash" => shells.bash(&line),
                "zsh" => shells.zsh(&line),
                _ => shells.fish(&line),
            };
            for word in words {
                let word = word.replace("ID", guest.id());
                let is_found = found.split_whitespace().any(|one| one == word);
                assert!(is_found, "{shell}: {line}: {word}: {found}");
            }
        }
    }
}

impl Shells<'_> {
    /// Runs a shell with a script. `$SETUP` has the script of completions.
    fn run(&self, shell: &str, words: &[&str], line: &str) -> Done {
        let program = line.split(' ').next().unwrap();
        let mut command = self.command(if program == "patchbay-sandbox" {
            program
        } else {
            "patchbay"
        });
        command.args(["completions", shell]);
        if program == "kata-runtime" {
            command.args(["--program", program]);
        }
        let setup = run(&mut command, "").ok();
        let mut command = self.command(shell);
        command
            .env("SETUP", setup)
            .env("LINE", line)
            .env("TERM", "xterm");
        run(command.args(words), "")
    }

    fn command(&self, program: &str) -> Command {
        let programs = self.programs.path().display();
        let mut command = Command::new("env");
        command.env("PATH", format!("{programs}:/usr/bin:/bin"));
        command
            .env("PATCHBAY_RUN_DIR", self.guest.run_dir())
            .arg(program);
        command
    }

    fn bash(&self, line: &str) -> String {
        // The function that readline calls, with its variables.
        let script = r#"
            eval "$SETUP"
            read -ra COMP_WORDS <<<"$LINE"
            case $LINE in *' ') COMP_WORDS+=('');; esac
            COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMP_TYPE=9
            program=${COMP_WORDS[0]} current=${COMP_WORDS[COMP_CWORD]}
            entry=$(complete -p "$program")
            [[ $entry =~ -F\ ([^ ]+) ]]
            "${BASH_REMATCH[1]}" "$program" "$current" "${COMP_WORDS[COMP_CWORD - 1]}"
            printf '%s\n' "${COMPREPLY[@]}"
        "#;
        self.run("bash", &["--norc", "-c", script], line).ok()
    }

    fn zsh(&self, line: &str) -> String {
        // An interactive shell on another terminal prints the words that a Tab adds.
        let script = r#"
            zmodload zsh/zpty
            zpty z 'PS1= zsh -f -i'
            zpty -w z 'autoload -Uz compinit && compinit -u -D; eval "$SETUP"
            compadd() {
              if [[ ${@[1,(i)(-|--)]} != *-(O|A|D)\ * ]]; then
                local -a hits; builtin compadd -A hits "$@"; print -rl -- "HIT "$^hits
              fi
              builtin compadd "$@"
            }
            finish() { print -r DO""NE }; zle -N finish; bindkey "^T" finish; echo RE""ADY'
            zpty -r z seen '*READY*'
            zpty -w -n z "$LINE"$'\t\C-t'
            zpty -r z seen '*DONE*'
            print -r -- "$seen"
        "#;
        let shown = self.run("zsh", &["-f", "-c", script], line).ok();
        let hits = shown.split("HIT ").skip(1);
        hits.filter_map(|hit| hit.lines().next())
            .collect::<Vec<_>>()
            .join("\n")
    }

    fn fish(&self, line: &str) -> String {
        let script = "printf '%s' $SETUP | source; complete -C \"$LINE\"";
        self.run("fish", &["--no-config", "-c", script], line).ok()
    }
}

/// A packager's tree has everything, and its programs run.
#[test]
fn install_into_a_tree_has_programs_pages_and_completions() {
    let dir = temp_dir();
    let repository = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let mut make = Command::new("sh");
    let bin_dir = bin("patchbay").parent().unwrap().display().to_string();
    // The files are for everybody whatever the umask.
    make.current_dir(repository)
        .args(["-c", "umask 077 && exec make install \"$@\"", "make"])
        .arg("PREFIX=/usr")
        .arg(format!("DESTDIR={}", dir.path().display()))
        .arg(format!("BIN={bin_dir}"))
        .arg(format!("BUILT={bin_dir}"));
    run(&mut make, "").ok();
    let file = |path: &str| dir.path().join("usr").join(path);
    for (path, mode) in [
        ("bin/patchbay", 0o755),
        ("bin/patchbay-agent", 0o755),
        ("bin/patchbay-sandbox", 0o755),
        ("share/man/man1/patchbay-nic-add.1", 0o644),
        ("share/man/man8/patchbay-agent.8", 0o644),
        ("share/bash-completion/completions/patchbay-sandbox", 0o644),
        ("share/zsh/site-functions/_patchbay", 0o644),
        ("share/fish/vendor_completions.d/patchbay.fish", 0o644),
        ("share/doc/patchbay/config.toml", 0o644),
        ("lib/systemd/system/patchbay-agent.socket", 0o644),
        ("lib/systemd/system/patchbay-netns.socket", 0o644),
        ("lib/systemd/system/patchbay-watch.service", 0o644),
        ("lib/systemd/system-preset/90-patchbay.preset", 0o644),
    ] {
        let found = file(path)
            .metadata()
            .unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(found.permissions().mode() & 0o777, mode, "{path}");
    }
    let version = run(Command::new(file("bin/patchbay")).arg("--version"), "").ok();
    assert_eq!(version, format!("patchbay {}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!(
        file("bin/patchbay-cni").read_link().unwrap(),
        Path::new("patchbay")
    );
    for (unit, start) in [
        ("patchbay-agent", "ExecStart=/usr/bin/patchbay-agent "),
        ("patchbay-watch", "ExecStart=/usr/bin/patchbay watch\n"),
        ("patchbay-modules@", "ExecStart=@/usr/bin/patchbay-agent "),
        ("patchbay-netns@", "ExecStart=@/usr/bin/patchbay-agent "),
    ] {
        let path = file(&format!("lib/systemd/system/{unit}.service"));
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.contains(start), "{text}");
    }
}
