//! Examples and reference tables of the help texts and the manual pages.

use std::fmt::Write as _;

use clap::{Command, CommandFactory};

use super::CommandLine;

/// Examples by their command, without the program's name.
const EXAMPLES: &[(&str, &[&str])] = &[
    (
        "",
        &[
            "patchbay list",
            "patchbay nic add vm1 --name eth1 --tap tap1 --mac 02:00:00:00:00:01 --ip 10.0.0.2/24",
            "patchbay --qmp /run/vm/qmp.sock --agent vsock://3:961 nic list vm1",
            "patchbay doctor vm1",
        ],
    ),
    (
        "kata-network add-iface",
        &["patchbay kata-network add-iface 6ec7a98 card.json"],
    ),
    (
        "kata-network del-iface",
        &["patchbay kata-network del-iface 6ec7a98 card.json"],
    ),
    (
        "kata-network list-ifaces",
        &["patchbay kata-network list-ifaces 6ec7a98"],
    ),
    (
        "kata-network update-iface",
        &["patchbay kata-network update-iface 6ec7a98 -"],
    ),
    (
        "kata-network add-route",
        &["patchbay kata-network add-route 6ec7a98 route.json"],
    ),
    (
        "kata-network del-route",
        &["patchbay kata-network del-route 6ec7a98 route.json"],
    ),
    (
        "kata-network list-routes",
        &["patchbay kata-network list-routes 6ec7a98"],
    ),
    (
        "kata-network update-routes",
        &["patchbay kata-network update-routes 6ec7a98 routes.json"],
    ),
    (
        "kata-network add-neighbor",
        &["patchbay kata-network add-neighbor 6ec7a98 -"],
    ),
    (
        "kata-network del-neighbor",
        &["patchbay kata-network del-neighbor 6ec7a98 -"],
    ),
    (
        "kata-network list-neighbors",
        &["patchbay kata-network list-neighbors 6ec7a98"],
    ),
    (
        "nic add",
        &[
            "patchbay nic add vm1 --name eth1 --tap tap1 --mac 02:00:00:00:00:01 --ip fd00::2/64",
            "patchbay nic add vm1 eth1 --bridge br0 --ip 10.0.0.2/24",
            "patchbay nic add vm1 --link net1 --default-route take",
        ],
    ),
    ("nic del", &["patchbay nic del vm1 --name eth1"]),
    ("nic apply", &["patchbay nic apply vm1 --name eth1"]),
    (
        "nic list",
        &[
            "patchbay nic list vm1 --format table",
            "patchbay nic list --all --watch 1",
        ],
    ),
    (
        "metrics",
        &[
            "patchbay metrics --format prometheus",
            "patchbay metrics vm1 --top 100",
        ],
    ),
    ("exporter", &["patchbay exporter --listen 127.0.0.1:9961"]),
    ("nic show", &["patchbay nic show vm1 eth1"]),
    (
        "nic set",
        &[
            "patchbay nic set vm1 --name eth1 --mtu 9000",
            "patchbay nic set vm1 --name eth1 --no-ip",
            "patchbay nic set vm1 --name eth1 --state down",
            "patchbay nic set vm1 --name eth1 --rename wan0",
            "patchbay nic set vm1 --name eth1 --rx-limit 100mbit --tx-limit 20mbit",
            "patchbay nic set vm1 --name eth1 --cable down",
            "patchbay nic set vm1 --name eth1 --mac 02:00:00:00:00:07 --queues 4",
        ],
    ),
    (
        "route add",
        &["patchbay route add vm1 --dest default --via 10.0.0.1 --dev eth1"],
    ),
    ("route del", &["patchbay route del vm1 --dest default"]),
    ("route list", &["patchbay route list vm1"]),
    (
        "neighbor add",
        &["patchbay neighbor add vm1 --address 10.0.0.9 --lladdr 02:00:00:00:00:09 --dev eth1"],
    ),
    (
        "neighbor del",
        &["patchbay neighbor del vm1 --address 10.0.0.9"],
    ),
    ("neighbor list", &["patchbay neighbor list vm1"]),
    (
        "kata-ipvs ipvsadm",
        &[
            "patchbay kata-ipvs ipvsadm --parameters \"-A -t 10.0.0.1:80 -s rr\" 6ec7a98",
            "patchbay kata-ipvs ipvsadm --restore - 6ec7a98",
        ],
    ),
    (
        "kata-ipvs cleanup",
        &["patchbay kata-ipvs cleanup --parameters \"--orig-dst 10.0.0.1 --protonum tcp\" 6ec7a98"],
    ),
    (
        "ipvs",
        &[
            "patchbay ipvs vm1 -A -t 10.0.0.1:80 -s wrr",
            "patchbay ipvs vm1 -a -t 10.0.0.1:80 -r 10.0.1.1:8080 -m -w 2",
            "patchbay ipvs --replace vm1 -R",
            "patchbay ipvs vm1 drain --server 10.0.1.1",
        ],
    ),
    (
        "conntrack list",
        &["patchbay conntrack list vm1 -p tcp --dport 80"],
    ),
    (
        "conntrack delete",
        &["patchbay conntrack delete vm1 --orig-dst 10.0.0.1"],
    ),
    ("sysctl list", &["patchbay sysctl list vm1"]),
    ("sysctl set", &["patchbay sysctl set vm1 conn_reuse_mode 0"]),
    ("list", &["patchbay list --format table"]),
    ("export", &["patchbay export vm1"]),
    (
        "apply",
        &[
            "patchbay apply vm1 network.yaml",
            "patchbay apply --dry-run network.yaml",
        ],
    ),
    ("diff", &["patchbay diff vm1 network.yaml"]),
    (
        "watch",
        &[
            "patchbay watch --exclude 'cni*'",
            "patchbay watch --once",
            "patchbay watch --once --dry-run vm1",
        ],
    ),
    (
        "monitor",
        &["patchbay monitor", "patchbay monitor vm1 --format json"],
    ),
    (
        "wait",
        &[
            "patchbay wait vm1 --timeout 60",
            "patchbay wait vm1 --card eth1 --for address",
        ],
    ),
    ("doctor", &["patchbay doctor vm1 --json"]),
    ("gc", &["patchbay gc"]),
    (
        "completions",
        &[
            "patchbay completions bash",
            "patchbay completions zsh --program kata-runtime",
        ],
    ),
    ("man", &["patchbay man /usr/local/share/man/man1"]),
];

/// Exit codes.
pub(crate) const EXIT_STATUS: &[(&str, &str)] = &[
    ("0", "success"),
    ("1", "another failure; diff: there are changes"),
    ("2", "invalid input"),
    ("3", "not found"),
    ("4", "exists and differs"),
    ("5", "not yet"),
    ("6", "denied"),
    ("7", "unsupported"),
    ("8", "refused by the kernel or QEMU"),
    ("9", "timeout"),
    ("128 + N", "interrupted by signal N"),
];

/// Variables of the environment.
pub(crate) const ENVIRONMENT: &[(&str, &str)] = &[
    ("PATCHBAY_RUN_DIR", "run directory, as --run-dir"),
    (
        "PATCHBAY_CONFIG",
        "configuration file instead of /etc/patchbay/config.toml",
    ),
    (
        "PATCHBAY_KATA_ROOTS",
        "roots to search for the folders of Kata and libvirt, separated by colons",
    ),
    (
        "PATCHBAY_HOST_FILE",
        "file of patchbay-cni and patchbay-qemu instead of /etc/patchbay/cni.json",
    ),
];

/// Files.
pub(crate) const FILES: &[(&str, &str)] = &[
    (
        "/etc/patchbay/config.toml",
        "defaults, machines by name, the other kata-runtime",
    ),
    ("/run/patchbay/ID/sandbox.json", "registration of a sandbox"),
    ("/run/patchbay/.machines", "locks and journals of machines"),
];

impl CommandLine {
    /// Returns the commands with examples in their help, the program's also with its tables.
    pub(crate) fn command_with_examples() -> Command {
        let root = with_examples(Self::command(), &mut Vec::new());
        let tables = [
            ("Exit status", EXIT_STATUS),
            ("Environment", ENVIRONMENT),
            ("Files", FILES),
        ];
        let tables = tables.map(|(title, rows)| table(title, rows)).concat();
        append(root, &tables)
    }
}

/// Returns the examples of a command.
pub(crate) fn of(path: &[String]) -> &'static [&'static str] {
    let path = path.join(" ");
    let found = EXAMPLES.iter().find(|(command, _)| *command == path);
    found.map_or(&[], |(_, examples)| *examples)
}

fn with_examples(command: Command, path: &mut Vec<String>) -> Command {
    let examples = of(path);
    let text = if examples.is_empty() {
        String::new()
    } else {
        format!("Examples:\n  {}\n", examples.join("\n  "))
    };
    append(command, &text).mut_subcommands(|sub| {
        path.push(sub.get_name().to_owned());
        let sub = with_examples(sub, path);
        path.pop();
        sub
    })
}

/// Appends a text to the help of a command.
fn append(command: Command, text: &str) -> Command {
    let before = command.get_after_help().map(|help| format!("{help}\n"));
    let help = before.unwrap_or_default() + text;
    command.after_help(help.trim_end().to_owned())
}

fn table(title: &str, rows: &[(&str, &str)]) -> String {
    let width = rows.iter().map(|(key, _)| key.len()).max().unwrap_or(0);
    let mut text = format!("\n{title}:\n");
    for (key, meaning) in rows {
        // Writing to a String can't fail.
        let _ = writeln!(text, "  {key:width$}  {meaning}");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    /// Returns the paths of the commands without sub-commands.
    fn leaves(command: &Command, path: &str, found: &mut Vec<String>) {
        let mut subcommands = command.get_subcommands().peekable();
        if subcommands.peek().is_none() {
            found.push(path.trim_start().to_owned());
        }
        for sub in subcommands {
            leaves(sub, &format!("{path} {}", sub.get_name()), found);
        }
    }

    /// Splits a line as a shell; double quotes alone are special.
    fn split(line: &str) -> Vec<OsString> {
        let parts = line.split('"').enumerate();
        let words = parts.flat_map(|(number, part)| match number % 2 {
            0 => part.split_whitespace().collect(),
            _ => vec![part],
        });
        words.map(OsString::from).collect()
    }

    #[test]
    fn every_command_has_examples_that_parse_as_it() {
        let mut commands = Vec::new();
        leaves(&CommandLine::command(), "", &mut commands);
        commands.retain(|command| !command.starts_with("cni"));
        for command in &commands {
            assert!(
                EXAMPLES.iter().any(|(known, _)| known == command),
                "{command}"
            );
        }
        for (path, examples) in EXAMPLES {
            assert!(
                path.is_empty() || commands.iter().any(|known| known == path),
                "{path}"
            );
            for example in *examples {
                let parsed = CommandLine::command().try_get_matches_from(split(example));
                let mut matches = parsed.unwrap_or_else(|error| panic!("{example}: {error}"));
                for part in path.split_whitespace() {
                    let (name, inner) = matches.remove_subcommand().unwrap();
                    assert_eq!(name, part, "{example}");
                    matches = inner;
                }
            }
        }
    }

    #[test]
    fn help_has_global_options_examples_and_tables() {
        let mut root = CommandLine::command_with_examples();
        root.build();
        let help = root.render_long_help().to_string();
        for part in [
            "\nGlobal options:\n",
            "\nExamples:\n",
            "\nExit status:\n",
            "\nEnvironment:\n",
            "\nFiles:\n",
        ] {
            assert!(help.contains(part), "{part}: {help}");
        }
        let nic = root.find_subcommand_mut("nic").unwrap();
        let add = nic.find_subcommand_mut("add").unwrap();
        let help = add.render_long_help().to_string();
        let (own, global) = help.split_once("\nGlobal options:\n").unwrap();
        assert!(
            own.contains("--mac") && !own.contains("--run-dir"),
            "{help}"
        );
        assert!(
            global.contains("--timings") && global.contains("Examples:\n  patchbay nic add"),
            "{help}"
        );
    }
}
