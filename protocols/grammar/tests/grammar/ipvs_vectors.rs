//! Every recorded command line and rule file of ipvsadm 1.31. Lists name those that differ on
//! purpose.
use std::net::Ipv4Addr;

use patchbay_grammar::ipvsadm::{
    Grammar, IpvsCommand, SaveFormat, numeric, parse, read_rules, server_line, service_line,
};
use patchbay_grammar::{Resolver, split};
use patchbay_types::ipvs::{Change, Forward};
use serde_json::Value;

/// Names on the machine where the vectors were recorded.
#[derive(Debug)]
struct Recorded;

impl Resolver for Recorded {
    fn host(&self, name: &str) -> Option<Ipv4Addr> {
        (name == "testhost").then_some(Ipv4Addr::new(10, 9, 8, 7))
    }

    fn service(&self, name: &str, _: &str) -> Option<u16> {
        match name {
            "http" => Some(80),
            "domain" => Some(53),
            _ => None,
        }
    }
}

/// Grammar with ipvsadm's default forwarding method.
const ROUTE: Grammar<'_> = Grammar {
    names: &Recorded,
    forward: Forward::Route,
};

/// Lines that ipvsadm sends although the kernel refuses them.
const REFUSED_EARLIER: &[(&str, &str)] = &[(
    "-a -t 10.0.0.1:80 -r 10.0.0.2:80 -x 50 -y 100",
    "the kernel returns ERANGE; the error here names both options",
)];

/// Saved lines that differ on purpose.
const SAVED_DIFFERENTLY: &[(&str, &str)] = &[
    ("-A -f 4294967295 -s rr", "-A -f 4294967295 -s rr"),
    ("-A -f 2147483648 -s rr", "-A -f 2147483648 -s rr"),
];

fn vectors(file: &str) -> Value {
    let path = format!("{}/../../tests/fixtures/{file}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn read(grammar: &Grammar<'_>, args: &str) -> Result<IpvsCommand, String> {
    let words = split(args).map_err(|error| error.to_string())?;
    parse(grammar, &words).map_err(|error| error.to_string())
}

fn saved(command: &IpvsCommand) -> Option<String> {
    match command {
        IpvsCommand::Change(Change::AddService(service) | Change::EditService(service)) => {
            Some(service_line(service, &numeric, SaveFormat::Ipvsadm))
        }
        IpvsCommand::Change(Change::AddServer(id, server) | Change::EditServer(id, server)) => {
            Some(server_line(*id, server, &numeric, SaveFormat::Ipvsadm))
        }
        _ => None,
    }
}

#[test]
fn parse_recorded_line_matches_ipvsadm() {
    let mut wrong = Vec::new();
    let file = vectors("ipvs.json");
    for vector in file["vectors"].as_array().unwrap() {
        let args = vector["args"].as_str().unwrap();
        let expected =
            vector["stage"] != "parse" && !REFUSED_EARLIER.iter().any(|(line, _)| *line == args);
        let read = read(&ROUTE, args);
        if read.is_ok() != expected {
            wrong.push(format!("{args}: {read:?}, recorded {}", vector["stderr"]));
        }
        let other = SAVED_DIFFERENTLY.iter().find(|(line, _)| *line == args);
        let line = other.map(|(_, line)| *line);
        let line = line.or(vector["normalized_save_line"].as_str());
        if let (Some(line), Ok(command)) = (line, &read) {
            let ours = saved(command).unwrap_or_default();
            if ours.trim_end() != line.trim_end() {
                wrong.push(format!("{args}: {ours:?}, recorded {line:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}

/// Lines and their error messages.
const MESSAGES: &[(&str, &str)] = &[
    (
        "-A -t 10.0.0.256:80",
        "-t/--tcp-service '10.0.0.256:80' is not allowed: an address is",
    ),
    (
        "-A -t 10.0.0.1:80 -p 0",
        "-p/--persistent '0' is not allowed: persistence lasts 1 to 2678400 seconds",
    ),
    (
        "-A -t 10.0.0.1:80 -m",
        "-A/--add-service does not take -m/--masquerading",
    ),
    ("-A -t 10.0.0.1:80 -h", "-h/--help must be the first option"),
    (
        "-A -t 10.0.0.1:80 -u 10.0.0.1:53",
        "-u/--udp-service can't be combined with -t/--tcp-service",
    ),
    ("-A", "-A/--add-service needs a service"),
    (
        "-a -t 10.0.0.1:80",
        "-a/--add-server needs -r/--real-server",
    ),
    (
        "-A -t 10.0.0.1",
        "port 0 (every port) is only for a persistent service (-p)",
    ),
    ("-A -t", "-t/--tcp-service needs a value"),
    ("-L --numeric=1", "-n/--numeric takes no value"),
    ("-n -L", "the first option must be a command"),
    (
        "-L -c --timeout",
        "--timeout can't be combined with -c/--connection",
    ),
    (
        "-A -t 10.0.0.1:80 -s rr -b sh-port",
        "-b/--sched-flags sh-port: the scheduler rr has no such flag",
    ),
    (
        "-A -t 10.0.0.1:80 -s sh -b ,",
        "-b/--sched-flags ,: the scheduler sh has no such flag",
    ),
    ("-A -6", "-6/--ipv6 must follow -f/--fwmark-service"),
    ("--set 1 2", "--set needs three timeouts"),
    ("-C x", "argument 'x' is not allowed"),
    ("--clea", "option '--clea' is not allowed: no such option"),
    (
        "-a -t 10.0.0.1:80 -r 10.0.0.2 -m --tun-csum",
        "--tun-csum needs a tunnel (-i/--ipip)",
    ),
    (
        "-a -t 10.0.0.1:80 -r 10.0.0.2 -i --tun-csum",
        "--tun-type ipip does not take --tun-csum",
    ),
    (
        "-a -t 10.0.0.1:80 -r 10.0.0.2 -i --tun-type gue",
        "--tun-type needs --tun-port for a gue tunnel",
    ),
    ("-a -t 10.0.0.1:80 -r [::1]:80", "of another address family"),
    (
        "-a -t 10.0.0.1:80 -r 10.0.0.2 -y 5",
        "the lower threshold (-y) is above the upper one (-x)",
    ),
];

#[test]
fn parse_error_names_option_and_rule() {
    for (args, message) in MESSAGES {
        let error = read(&ROUTE, args).unwrap_err();
        assert!(error.contains(message), "{args}: {error}");
    }
}

#[test]
fn parse_empty_name_is_the_default() {
    for (args, line) in [
        ("-A -t 10.0.0.1:80 -s=", "-A -t 10.0.0.1:80 -s wlc"),
        ("-A -t 10.0.0.1:80 --pe=", "-A -t 10.0.0.1:80 -s wlc"),
        (
            "-E -u 10.0.0.1:80 -p 5 --pe=",
            "-A -u 10.0.0.1:80 -s wlc -p 5",
        ),
    ] {
        let command = read(&ROUTE, args).unwrap();
        assert_eq!(saved(&command).unwrap(), line, "{args}");
    }
    let read_daemon = |args: &str| match read(&ROUTE, args).unwrap() {
        IpvsCommand::Change(Change::StartDaemon(daemon)) => daemon,
        other => panic!("{other:?}"),
    };
    let daemon = read_daemon("--start-daemon master --mcast-interface=");
    assert_eq!(daemon, read_daemon("--start-daemon master"));
}

/// Other addresses can have the forms of `inet_aton`.
#[test]
fn parse_mcast_group_is_a_dotted_quad() {
    let line = |group: &str| format!("--start-daemon master --mcast-group {group}");
    for group in ["224.1", "0xe0000001", "3758096385", "224.0.0.010"] {
        let error = read(&ROUTE, &line(group)).unwrap_err();
        assert!(
            error.contains("a sync group is a multicast address"),
            "{error}"
        );
    }
    read(&ROUTE, &line("224.0.0.10")).unwrap();
    read(&ROUTE, &line("ff05::4")).unwrap();
}

#[test]
fn parse_bracketed_ipv4_keeps_port() {
    let command = read(&ROUTE, "-A -t [10.0.0.1]:80 -s rr").unwrap();
    assert_eq!(saved(&command).unwrap(), "-A -t 10.0.0.1:80 -s rr");
}

#[test]
fn parse_default_forward_keeps_server_port() {
    let guide = Grammar {
        names: &Recorded,
        forward: Forward::Masquerade,
    };
    let line = |args: &str| saved(&read(&guide, args).unwrap()).unwrap();
    let service = "--tcp-service 172.17.0.7:80";
    assert_eq!(
        line(&format!(
            "--add-server {service} --real-server 172.17.0.4:8080 --weight 100"
        )),
        "-a -t 172.17.0.7:80 -r 172.17.0.4:8080 -m -w 100"
    );
    assert_eq!(
        line(&format!(
            "--edit-server {service} --real-server 172.17.0.4:8080 -g"
        )),
        "-a -t 172.17.0.7:80 -r 172.17.0.4:80 -g -w 1"
    );
}

/// Files that ipvsadm restores in part, or with an error that its exit status hides. The grammar
/// refuses them as a whole.
const RESTORE_REFUSED: &[(&str, &str)] = &[
    ("popt error (unknown option) does not stop", "line 2"),
    ("popt missing argument does not stop", "line 2"),
];

/// Files that ipvsadm refuses because of a comment, which patchbay allows.
const RESTORE_COMMENTS: &[&str] = &["comment first line", "comment middle"];

#[test]
fn read_rules_recorded_file_matches_ipvsadm() {
    for vector in vectors("restore.json").as_array().unwrap() {
        let name = vector["name"].as_str().unwrap();
        let read = read_rules(&ROUTE, vector["stdin"].as_str().unwrap());
        if let Some((_, line)) = RESTORE_REFUSED.iter().find(|(refused, _)| *refused == name) {
            assert!(read.unwrap_err().to_string().starts_with(line), "{name}");
            continue;
        }
        let kernel = vector["stderr"] == "Service already exists\n";
        let accepted = vector["rc"] == 0 || kernel || RESTORE_COMMENTS.contains(&name);
        assert_eq!(read.is_ok(), accepted, "{name}: {read:?}");
    }
}

#[test]
fn read_rules_other_command_fails_with_line() {
    for line in ["-R", "-h", "-v"] {
        let bad = read_rules(&ROUTE, &format!("# a comment\n-C\n\n{line}\n")).unwrap_err();
        let expected = "line 4: -R, -h and -v are not allowed in a rule file";
        assert_eq!(bad.to_string(), expected, "{line}");
    }
}

#[test]
fn read_rules_only_lists_fail() {
    let with_rule = read_rules(&ROUTE, "-L -n\n-C\n-S\n").unwrap();
    assert_eq!(with_rule.len(), 1);
    let error = read_rules(&ROUTE, "# a comment\n-L -n\n-S\n").unwrap_err();
    assert_eq!(
        error.to_string(),
        "line 2: -L and -S change nothing, and the rule file has no effective rule"
    );
}
