//! The incumbent's test cases for IPVS that need a command line or a guest. The grammar's unit tests
//! have the others.

use std::fmt::Write as _;

use patchbay_tests::{Configure, Done, FakeAgent, Guest, Machine, patchbay, run};
use patchbay_types::failure::{Failure, Kind};
use serde_json::Value;

const AREAS: [&str; 3] = ["ipvs-cli", "ipvs-agent", "ipvs-api"];

/// Inputs of the cases with another result than the incumbent's, and the decision.
const DECIDED: &[(&str, &str)] = &[
    (
        "(no subcommand)",
        "a command without its sub-command prints its help, and is a usage error",
    ),
    (
        "--parameters '-d 192.168.0.4' <id>",
        "a filter may stand alone",
    ),
    (
        "sandbox=<existing>, any text",
        "words are checked before they leave the host",
    ),
    (
        "",
        "no words at all list the table, as ipvsadm without words does",
    ),
];

/// Inputs of the cases that have no equivalent, and the reason.
const NOT_APPLICABLE: &[(&str, &str)] = &[
    (
        "(nil request)",
        "messages are typed: there is none without a command",
    ),
    (
        "restore|-A -t 10.10.11.12:100 -s rr -p 3000\n-a -t 10.10.11.12:100 -r 172.16.0.1:80 -m",
        "rules are a stream of typed messages: they have no count to be left out",
    ),
    (
        "restore|abc|-A -t 10.10.11.12:100 -s rr -p 3000\n-a -t 10.10.11.12:100 -r 172.16.0.1:80 -m",
        "nor one to be misspelt",
    ),
];

/// The guest that plays the cases, each with an empty table at the start.
struct CasePlayer(Guest);

const SERVICE: &str = "-A -t 17.2.0.7:80 -s rr -p 3000";
const TWO_RULES: &str =
    "-A -t 10.10.11.12:100 -s rr -p 3000\n-a -t 10.10.11.12:100 -r 172.16.0.1:80 -m";

impl CasePlayer {
    fn saved(&self) -> String {
        self.0.exec("ipvsadm -Sn").ok()
    }

    /// Runs a command with the limit at the number of existing rules.
    fn at_the_limit(&self, words: &str) -> Done {
        self.0.ipvsadm(SERVICE).ok();
        self.0.ipvsadm("-a -t 17.2.0.7:80 -r 10.0.0.2:80 -m").ok();
        let command = ["kata-ipvs", "ipvsadm", "--max-rules", "2"];
        let words = [&command[..], &["--parameters", words, self.0.id()]].concat();
        self.0.patchbay(&words)
    }

    /// Runs a cleanup against an agent that doesn't implement it.
    fn refused_cleanup(&self, words: &str) -> Done {
        let socket = self.0.run_dir().join("fake.sock");
        let refuse = Configure::Refuse(Failure::new(Kind::Kernel, "no"));
        let _agent = FakeAgent::serve(&socket, refuse);
        let url = format!("unix://{}", socket.display());
        let monitor = self.0.file("qmp.sock");
        let mut command = patchbay(self.0.run_dir(), &["--agent", &url, "--qmp"]);
        let words = ["kata-ipvs", "cleanup", "--parameters", words, "by-hand"];
        run(command.arg(monitor).args(words), "")
    }

    fn cli(&self, input: &str) -> Done {
        let quoted = || input.split('\'').nth(1).unwrap();
        let cleanup = input.contains("-d 192.168.0.4");
        match input {
            "(no subcommand)" => self.0.patchbay(&["kata-ipvs"]),
            "--restore abc <id>" => {
                let words = ["kata-ipvs", "ipvsadm", "--restore", "abc", self.0.id()];
                self.0.patchbay(&words)
            }
            "--restore - <id>  with empty stdin" => self.0.restore(&[], ""),
            _ if cleanup && input.contains("error") => self.refused_cleanup(quoted()),
            _ if cleanup => self.0.cleanup(quoted()),
            // The kernel in the guest refuses to add an existing object.
            _ if input.contains("error") => {
                self.0.ipvsadm(quoted()).ok();
                self.0.ipvsadm(quoted())
            }
            _ if quoted().starts_with("-a") => {
                self.0.ipvsadm("-A -t 192.168.0.7:80 -s rr").ok();
                let done = self.0.ipvsadm(quoted());
                let server = "-a -t 192.168.0.7:80 -r 192.168.0.4:80 -m -w 1\n";
                assert!(self.saved().ends_with(server), "{}", self.saved());
                done
            }
            _ => self.0.ipvsadm(quoted()),
        }
    }

    fn agent(&self, input: &str) -> Done {
        match input {
            "ipvsadm -C" => {
                self.0.restore(&[], TWO_RULES).ok();
                let done = self.0.ipvsadm("-C");
                assert_eq!(self.saved(), "");
                self.0.restore(&[], TWO_RULES).ok();
                done
            }
            "ipvsadm -D -t 17.2.0.7:80" => {
                self.0.ipvsadm(SERVICE).ok();
                self.0.ipvsadm("-D -t 17.2.0.7:80")
            }
            "-A svc, -a x3, then ipvsadm -D svc" => {
                self.0.ipvsadm(SERVICE).ok();
                for host in 1..=3 {
                    let server = format!("-a -t 17.2.0.7:80 -r 10.0.0.{host}:80 -m");
                    self.0.ipvsadm(&server).ok();
                }
                self.0.ipvsadm("-D -t 17.2.0.7:80").ok();
                // The count comes from the kernel, so deleted rules don't prevent a restore.
                self.0.restore(&["--max-rules", "2"], TWO_RULES)
            }
            _ if input.starts_with("counter=5; restore") => {
                self.0.restore(&[], TWO_RULES).ok();
                self.0.restore(&[], TWO_RULES)
            }
            _ if input.starts_with("restore|2|") => {
                let done = self.0.restore(&[], TWO_RULES);
                assert_eq!(self.saved().lines().count(), 2);
                done
            }
            _ => match input.strip_prefix("counter=20000; ipvsadm ") {
                Some(SERVICE) => self.at_the_limit("-A -t 17.2.0.8:80 -s rr -p 3000"),
                Some(words) => self.at_the_limit(words),
                None => self
                    .0
                    .ipvsadm(input.strip_prefix("ipvsadm ").unwrap_or(input)),
            },
        }
    }

    fn api(&self, input: &str) -> Done {
        let (text, id) = match input {
            "sandbox='aaa' (unknown)" => ("-C", "aaa"),
            "sandbox=''" => ("-C", ""),
            _ => ("any text", self.0.id()),
        };
        let words = ["kata-ipvs", "ipvsadm", "--parameters", text, id];
        self.0.patchbay(&words)
    }
}

/// Parts of inputs and the expected error messages.
const MESSAGES: &[(&str, &str)] = &[
    ("--restore abc", "use --restore -"),
    ("empty stdin", "no effective rule"),
    ("-p -3000", "option '-3' is not allowed"),
    ("-A -t 192.168.0.7:80 -s rr -p 3000' <id>", "it exists"),
    ("counter=20000; ipvsadm -A", "3 rules exceed the limit of 2"),
    ("counter=5; restore", "2 rules already"),
    ("sandbox='aaa'", "aaa"),
    ("ipvsa", "the first option must be a command"),
];

#[test]
fn incumbent_cases_end_as_decided() {
    let path = format!(
        "{}/fixtures/incumbent-ipvs.json",
        env!("CARGO_MANIFEST_DIR")
    );
    let file: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let player = CasePlayer(Guest::start(Machine::Q35));
    rule_limit_is_inclusive(&player.0);
    let (mut count, mut wrong) = (0, String::new());
    for vector in file.as_array().unwrap() {
        let area = vector["area"].as_str().unwrap();
        let input = vector["input"].as_str().unwrap();
        if !AREAS.contains(&area) || NOT_APPLICABLE.iter().any(|(text, _)| *text == input) {
            continue;
        }
        player.0.ipvsadm("-C").ok();
        let done = match area {
            "ipvs-cli" => player.cli(input),
            "ipvs-agent" => player.agent(input),
            _ => player.api(input),
        };
        count += 1;
        let decided = DECIDED.iter().any(|(text, _)| *text == input);
        let accept = (vector["expect"]["result"] == "accept") != decided;
        let message = MESSAGES.iter().find(|(part, _)| input.contains(part));
        let explained = accept || message.is_none_or(|(_, text)| done.err.contains(text));
        if (done.status == 0) != accept || !explained || (!accept && done.err.trim().is_empty()) {
            writeln!(wrong, "{area} {input:?}: {done}").unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert_eq!(count, 9 + 14 + 3 - NOT_APPLICABLE.len());
}

/// Returns rules that differ only by address and port.
fn services(count: u32) -> String {
    (0..count).fold(String::new(), |mut text, at| {
        writeln!(
            text,
            "-A -t 10.0.{}.1:{} -s rr",
            at / 60_000,
            1 + at % 60_000
        )
        .unwrap();
        text
    })
}

fn rule_limit_is_inclusive(guest: &Guest) {
    let done = guest.restore(&[], &services(20_001));
    assert_eq!(done.status, 2, "{done}");
    assert!(
        done.err.contains("20001 rules exceed the limit of 20000"),
        "{done}"
    );
    // The limit applies before the guest is asked, which has not loaded IPVS.
    let table = guest.exec("cat /proc/net/ip_vs").out;
    assert!(!table.contains("TCP"), "{table}");
    guest.restore(&[], &services(20_000)).ok();
    assert_eq!(
        guest.exec("wc -l /proc/net/ip_vs").ok(),
        "20003 /proc/net/ip_vs\n"
    );
}
