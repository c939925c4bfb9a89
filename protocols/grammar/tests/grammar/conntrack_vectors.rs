//! Every recorded `conntrack -D`: the grammar and the filter leave the same flows.
use patchbay_grammar::conntrack::parse;
use patchbay_grammar::split;
use patchbay_types::conntrack::{Filter, Flow, Tuple};
use serde_json::Value;

/// Lines that differ from conntrack on purpose, with the reason.
const DIFFERENT: &[(&str, &str)] = &[
    (
        "--timeout 5",
        "not a property of a flow; conntrack ignores it and deletes everything",
    ),
    ("--timeout abc", "the same"),
    ("--protonum tcp --dport abc", "conntrack reads port 0"),
    ("--id 1", "a filter here; conntrack crashes"),
    (
        "--status UNREPLIED",
        "deletes only flows without a reply; conntrack deletes everything",
    ),
    (
        "--orig-zone 1",
        "a flow has two zones, so one zone is ambiguous",
    ),
    ("--orig-dst 10.0.0.1 --sport 1001", "refused by both"),
];

/// Parses the fixture's format, `src>dst/protocol:sport>dport`.
fn flow(text: &str) -> Flow {
    let (addresses, rest) = text.split_once('/').unwrap();
    let (src, dst) = addresses.split_once('>').unwrap();
    let (protocol, ports) = rest.split_once(':').unwrap();
    let (src_port, dst_port) = ports.split_once('>').unwrap();
    let orig = Tuple {
        src: src.parse().unwrap(),
        dst: dst.parse().unwrap(),
        src_port: Some(src_port.parse().unwrap()),
        dst_port: Some(dst_port.parse().unwrap()),
    };
    let protocol = protocol.parse().unwrap();
    Flow {
        orig,
        reply: Tuple {
            src: orig.dst,
            dst: orig.src,
            src_port: orig.dst_port,
            dst_port: orig.src_port,
        },
        protocol,
        tcp_state: (protocol == 6).then_some(3),
        // Confirmed, seen both ways, assured.
        status: 14,
        mark: 0,
        zone: 0,
        id: 7,
        timeout: None,
    }
}

fn read(args: &str) -> Result<Filter, String> {
    let words = split(args).unwrap();
    parse(&words).map_err(|error| error.to_string())
}

#[test]
fn parse_recorded_delete_leaves_same_flows() {
    let path = format!(
        "{}/../../tests/fixtures/conntrack.json",
        env!("CARGO_MANIFEST_DIR")
    );
    let file: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let texts = |value: &Value| -> Vec<String> {
        let items = value.as_array().unwrap().iter();
        items
            .map(|text| text.as_str().unwrap().to_owned())
            .collect()
    };
    let fixture = texts(&file["fixture"]);
    let mut tried = 0;
    for vector in file["vectors"].as_array().unwrap() {
        let args = vector["args"].as_str().unwrap();
        // The grammar begins after the command.
        let Some(args) = args.strip_prefix("-D ").or(args.strip_prefix("--delete ")) else {
            continue;
        };
        if DIFFERENT.iter().any(|(line, _)| *line == args) {
            continue;
        }
        tried += 1;
        let filter = read(args);
        assert_eq!(filter.is_ok(), vector["rc"] != 2, "{args}: {filter:?}");
        let Ok(filter) = filter else { continue };
        let left: Vec<_> = fixture
            .iter()
            .filter(|text| !filter.matches(&flow(text)))
            .collect();
        assert_eq!(
            left,
            texts(&vector["left"]).iter().collect::<Vec<_>>(),
            "{args}"
        );
    }
    assert!(tried > 60, "{tried}");
}

#[test]
fn parse_error_names_option_and_rule() {
    for (args, sentence) in [
        ("", "no filter is given"),
        ("-L", "option '-L' is not allowed: no such option"),
        ("--orig-dst", "--orig-dst needs a value"),
        ("-d 10.0.0.1 -d 10.0.0.2", "--orig-dst given more than once"),
        (
            "-d 10.0.0.1/33",
            "--orig-dst '10.0.0.1/33' is not allowed: a prefix",
        ),
        ("--dport 80", "--orig-port-dst must follow -p/--protonum"),
        (
            "-p icmp --dport 80",
            "--orig-port-dst must follow -p/--protonum",
        ),
        (
            "-p udp --state CLOSE",
            "--state must follow -p/--protonum tcp",
        ),
        ("-p tcp --state OPEN", "--state 'OPEN' is not allowed"),
        ("-d 10.0.0.1 -s ::1", "not all of one family"),
        ("--mask-dst 255.0.0.0", "--mask-dst needs an address"),
        (
            "-d 10.0.0.1 --mask-dst 255.0.255.0",
            "--mask-dst '255.0.255.0' is not allowed",
        ),
    ] {
        let error = read(args).unwrap_err();
        assert!(error.contains(sentence), "{args}: {error}");
    }
}

#[test]
fn nat_filter_matches_translated_address() {
    let mut flow = flow("10.0.0.8>10.0.0.2/6:1001>80");
    flow.reply.src = "10.9.0.2".parse().unwrap();
    flow.reply.src_port = Some(8080);
    // Replies from another address are not NAT by themselves: IPVS has them too.
    assert!(!read("--dst-nat").unwrap().matches(&flow));
    flow.status |= 1 << 8;
    for (args, matches) in [
        ("--dst-nat", true),
        ("-g 10.9.0.2", true),
        ("-g10.9.0.2", true),
        ("--dst-nat=10.9.0.2:8080", true),
        ("--dst-nat :8080 -p tcp", true),
        ("--dst-nat 10.9.0.2:80", false),
        ("--dst-nat 10.0.0.2", false),
        ("--any-nat 10.9.0.2", true),
        ("-j", true),
        ("-n", false),
        ("-j 2001:db8::1", false),
        ("-j [2001:db8::1]:80", false),
        ("-n -g", false),
    ] {
        assert_eq!(read(args).unwrap().matches(&flow), matches, "{args}");
    }
    for args in [
        "-g x",
        "-g 10.0.0.1:",
        "-g 10.0.0.1:65536",
        "-g [::1]",
        "-j=",
    ] {
        let error = read(args).unwrap_err();
        assert!(
            error.contains("the format is ADDRESS, :PORT or ADDRESS:PORT"),
            "{args}: {error}"
        );
    }
    let error = read("-g ::1 -f ipv4").unwrap_err();
    assert!(error.contains("not all of one family"), "{error}");
}
