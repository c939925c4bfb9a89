//! Command line and log of the agent.

use std::time::{Duration, Instant};

use patchbay_tests::{Card, Guest, Machine};
use patchbay_types::failure::Kind;
use serde_json::Value;

/// Restarts the service's agent with level debug.
const DEBUG: &str = "mkdir -p /run/systemd/system/patchbay-agent.service.d && \
    { echo [Service]; echo ExecStart=; \
      sed -n '/^ExecStart=/,/[^\\\\]$/p' /usr/lib/systemd/system/patchbay-agent.service | \
      sed '$ s/$/ --log-level debug/'; \
    } >/run/systemd/system/patchbay-agent.service.d/level.conf && \
    systemctl daemon-reload && systemctl restart patchbay-agent.service";

/// Returns the records of the console's requests, once it has this text: the serial line is slower than a reply.
fn requests(guest: &Guest, last: &str) -> Vec<Value> {
    let deadline = Instant::now() + Duration::from_secs(20);
    let console = loop {
        let console = guest.sandbox(&["console", guest.id()]).ok();
        if console.contains(last) {
            break console;
        }
        assert!(Instant::now() < deadline, "{console}");
    };
    let lines = console.lines().filter_map(|line| {
        let line = line.get(line.find('{')?..)?;
        serde_json::from_str::<Value>(line.trim_end()).ok()
    });
    lines.filter(|line| line["msg"] == "request").collect()
}

fn of<'a>(requests: &'a [Value], name: &str) -> Vec<&'a Value> {
    let found = requests.iter();
    found.filter(|record| record["request"] == name).collect()
}

#[test]
fn agent_prints_help_version_and_the_rule_of_options() {
    let guest = Guest::start(Machine::Q35);
    let help = guest.exec("patchbay-agent --help").ok();
    assert!(
        help.starts_with("Usage: patchbay-agent [OPTIONS]\n"),
        "{help}"
    );
    assert!(
        help.contains("--log-level error | warn | info | debug\n"),
        "{help}"
    );
    let version = guest.exec("patchbay-agent --version").ok();
    let of_host = guest.patchbay(&["--version"]).ok();
    let number = of_host.split_whitespace().nth(1).unwrap();
    assert_eq!(version, format!("patchbay-agent {number}\n"));
    let refused = guest.exec("patchbay-agent --log-level loud");
    assert_eq!(refused.status, 1, "{refused}");
    let line: Value = serde_json::from_str(&refused.out).unwrap();
    assert_eq!(line["level"], "CRIT");
    assert_eq!(
        line["error"],
        "'loud' is not allowed: --log-level must be error, warn, info or debug"
    );
}

#[test]
fn log_has_the_changes_and_no_request_that_reads() {
    let guest = Guest::start(Machine::Q35);
    let card = Card::named("eth-test").address("172.16.0.3/16");
    guest.plug(&card).ok();
    guest.kata_network("list-ifaces", "").ok();
    let routes = r#"[{"dest":"10.1.0.0/16","device":"eth-test"},{"dest":"10.2.0.0/16","device":"eth-test"}]"#;
    guest.kata_network("add-route", routes).ok();
    guest.kata_network("list-routes", "").ok();
    guest.ipvsadm("-A -t 10.0.0.1:80 -s rr").ok();
    guest
        .ipvsadm("-a -t 10.0.0.1:80 -r 172.16.0.9:8080 -m")
        .ok();
    guest.ipvsadm("-L -n").ok();
    let again = guest.ipvsadm("-A -t 10.0.0.1:80 -s rr");
    again.assert_error(Kind::Exists, "10.0.0.1:80");

    let requests = requests(&guest, r#""outcome":"Exists""#);
    let plugged = of(&requests, "configure_interface");
    assert_eq!(plugged.len(), 1, "{requests:#?}");
    assert_eq!(plugged[0]["level"], "INFO");
    assert_eq!(plugged[0]["interface"], "eth-test");
    let link = &guest.ip("link show dev eth-test")[0];
    assert_eq!(plugged[0]["mac"], link["address"]);
    assert_eq!(of(&requests, "add_routes")[0]["routes"], 2);
    let changes = of(&requests, "ipvs_change");
    let fields = |record: &Value| {
        ["level", "change", "service", "server"]
            .map(|field| record[field].as_str().unwrap_or("-").to_owned())
    };
    let shown: Vec<_> = changes.into_iter().map(fields).collect();
    assert_eq!(
        shown,
        [
            ["INFO", "-A", "-t 10.0.0.1:80", "-"],
            ["INFO", "-a", "-t 10.0.0.1:80", "172.16.0.9:8080"],
            ["WARN", "-A", "-t 10.0.0.1:80", "-"],
        ]
    );
    let reads = requests.iter().filter(|record| {
        let name = record["request"].as_str().unwrap();
        name.starts_with("list_") || name == "ipvs_table"
    });
    assert_eq!(reads.count(), 0, "{requests:#?}");
}

/// Priorities of the agent's lines in the journal, by a field of the line.
fn priorities(guest: &Guest, part: &str) -> Vec<String> {
    let journal = guest
        .shell("journalctl --sync && journalctl -o json --no-pager -u patchbay-agent.service _COMM=patchbay-agent")
        .ok();
    let entries = journal
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let found = entries.filter(|entry| {
        entry["MESSAGE"]
            .as_str()
            .is_some_and(|text| text.contains(part))
    });
    found
        .map(|entry| entry["PRIORITY"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn journal_has_the_priority_of_each_line() {
    let guest = Guest::start_debian(&[]);
    guest.plug(&Card::named("eth-test")).ok();
    guest.kata_network("list-ifaces", "").ok();
    let missing = r#"[{"dest":"10.1.0.0/16","device":"absent"}]"#;
    guest
        .kata_network("add-route", missing)
        .assert_error(Kind::NotFound, "absent");
    assert_eq!(priorities(&guest, "the agent serves"), ["6"]);
    assert_eq!(priorities(&guest, "configure_interface"), ["6"]);
    assert_eq!(priorities(&guest, "add_routes"), ["4"]);
    assert_eq!(priorities(&guest, "list_interfaces"), Vec::<String>::new());

    guest.shell(DEBUG).ok();
    guest.kata_network("list-ifaces", "").ok();
    let reads = priorities(&guest, "list_interfaces");
    assert!(!reads.is_empty());
    assert!(reads.iter().all(|priority| priority == "7"), "{reads:?}");
}
