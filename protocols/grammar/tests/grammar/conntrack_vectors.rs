//! Every recorded `conntrack -D`: the grammar and the filter leave the same flows.
use patchbay_grammar::conntrack::parse;
use patchbay_grammar::{NoNames, Resolver, split};
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
        icmp: None,
        zone: 0,
    };
    let protocol = protocol.parse().unwrap();
    Flow {
        orig,
        reply: Tuple {
            src: orig.dst,
            dst: orig.src,
            src_port: orig.dst_port,
            dst_port: orig.src_port,
            ..orig
        },
        protocol,
        state: (protocol == 6).then_some(3),
        // Confirmed, seen both ways, assured.
        status: 14,
        mark: 0,
        zone: 0,
        labels: 0,
        id: 7,
        timeout: None,
    }
}

fn read(args: &str) -> Result<Filter, String> {
    let words = split(args).unwrap();
    parse(&NoNames, &words).map_err(|error| error.to_string())
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
        ("-L", "-L/--dump is not a filter"),
        ("--timeout 5", "-t/--timeout is not a filter"),
        ("-x", "option '-x' is not allowed: no such option"),
        ("--orig-dst", "--orig-dst needs a value"),
        (
            "--orig 10.0.0.1",
            "'--orig' is not allowed: it can mean --orig-src, --orig-dst,",
        ),
        ("--sr 10.0.0.1", "it can mean --src, --srckey, --src-nat"),
        (
            "-p tcp --icmp-type 8",
            "--icmp-type must follow -p/--protonum icmp",
        ),
        (
            "-p icmp --icmpv6-id 8",
            "--icmpv6-id must follow -p/--protonum icmpv6",
        ),
        (
            "-p icmp --icmp-type 256",
            "--icmp-type '256' is not allowed",
        ),
        ("--srckey 1", "--srckey must follow -p/--protonum gre"),
        (
            "-p icmp --icmp-id 8 -p tcp",
            "-p/--protonum given more than once",
        ),
        ("-l 128", "-l/--label '128' is not allowed"),
        ("-l 1,eth9", "-l/--label 'eth9' is not allowed"),
        ("-u !UNREPLIED", "-u/--status '!UNREPLIED' is not allowed"),
        ("-u CONFIRMED", "-u/--status 'CONFIRMED' is not allowed"),
        ("-u ASSURED,", "-u/--status '' is not allowed"),
        ("--orig-zone 65536", "--orig-zone '65536' is not allowed"),
        ("-n -j", "-j/--any-nat can't be combined with -n/--src-nat"),
        (
            "-d 10.0.0.1/33",
            "--orig-dst '10.0.0.1/33' is not allowed: a prefix",
        ),
        ("--dport 80", "--dport must follow -p/--protonum"),
        ("-p icmp --dp 80", "--dport must follow -p/--protonum"),
        (
            "-p udp --state CLOSE",
            "--state must follow -p/--protonum tcp",
        ),
        ("-p tcp --state OPEN", "--state 'OPEN' is not allowed"),
        ("--mask-dst 255.0.0.0", "--mask-dst needs an address"),
        (
            "-d 10.0.0.1 --mask-src 255.0.0.0",
            "--mask-src needs an address",
        ),
        (
            "-d 10.0.0.1 --mask-dst 24",
            "--mask-dst '24' is not allowed",
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
        ("--any 10.9.0.2:8080", true),
        ("-g 10.9.0.3 -g", false),
        ("-g 10.9.0.3:8080 -g 10.9.0.2", true),
        ("-g :80 -g 10.9.0.2", false),
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
}

/// Words of one address family, which can't be mixed with those of the other.
const V4: [&str; 8] = [
    "-s 10.0.0.1 --mask-src 255.0.0.0",
    "-d 10.0.0.0/8",
    "-r 10.0.0.1",
    "-q 10.0.0.1",
    "-n 10.0.0.1",
    "-g 10.0.0.1:80",
    "-j 10.0.0.1",
    "-f ipv4",
];
const V6: [&str; 8] = [
    "-s 2001:db8::1 --mask-src ffff::",
    "-d 2001:db8::/32",
    "-r 2001:db8::1",
    "-q 2001:db8::1",
    "-n 2001:db8::1",
    "-g [2001:db8::1]:80",
    "-j 2001:db8::1",
    "-f ipv6",
];

#[test]
fn parse_two_families_names_both_options() {
    for (v4, v6) in V4.into_iter().flat_map(|v4| V6.map(|v6| (v4, v6))) {
        for line in [format!("{v4} {v6}"), format!("{v6} {v4}")] {
            let error = read(&line).unwrap_err();
            assert!(
                error.contains("is of another address family than -"),
                "{line}: {error}"
            );
        }
    }
    for (line, error) in [
        (
            "-d 2001:db8::9 --mask-dst 255.255.255.0",
            "--mask-dst is of another address family than -d/--orig-dst",
        ),
        (
            "--mask-src ffff:: -s 10.0.0.1",
            "-s/--orig-src is of another address family than --mask-src",
        ),
        (
            "-f ipv6 --dst 10.0.0.1 --mask-dst 255.0.0.0",
            "-d/--dst is of another address family than -f/--family",
        ),
    ] {
        assert_eq!(read(line).unwrap_err(), error);
    }
}

#[test]
fn parse_repeated_word_replaces_or_adds() {
    let flow = flow("10.0.0.9>10.0.0.1/6:1001>80");
    for (args, matches) in [
        ("-d 10.0.0.2 -d 10.0.0.1", true),
        ("-d 10.0.0.1 -d 10.0.0.2", false),
        ("-d 10.0.0.0/8 -d 10.9.9.9", true),
        ("-d 10.0.0.0/8 --mask-dst 255.255.255.255", false),
        ("--mask-dst 255.255.255.0 -d 10.9.9.9/8", true),
        ("-d 10.9.0.1 --mask-dst 255.0.255.255", true),
        ("-d 10.9.0.1 --mask-dst 255.0.255.0 -d 10.9.1.1", false),
        ("-p udp -p tcp --sport 1 --sport 1001", true),
        ("-u ASSURED -u SEEN_REPLY", true),
        ("-u ASSURED -u EXPECTED", false),
        ("-u assured,!expected", true),
        ("-u SEEN_REPLY,!ASSURED", false),
        ("-u UNREPLIED", false),
        ("-m 0x10/0xf0 -m 0", true),
        ("-f ipv4 -f ipv4", true),
        ("-p 0x6 --state ESTABLISHED", true),
        ("-p 06 --orig-port-d 80 --orig-d 10.0.0.1", true),
        ("-p tcp --state LISTEN", false),
    ] {
        assert_eq!(read(args).unwrap().matches(&flow), matches, "{args}");
    }
}

#[derive(Debug)]
struct Labels;

impl Resolver for Labels {
    fn host(&self, _: &str) -> Option<std::net::Ipv4Addr> {
        None
    }

    fn service(&self, _: &str, _: &str) -> Option<u16> {
        None
    }

    fn label(&self, name: &str) -> Option<u8> {
        (name == "eth0-in").then_some(7)
    }
}

#[test]
fn label_filter_matches_flows_with_all_labels() {
    let mut flow = flow("10.0.0.9>10.0.0.1/6:1001>80");
    flow.labels = 1 << 127 | 1 << 7;
    for (words, matches) in [
        (&["-l", "127"][..], true),
        (&["-l", "eth0-in,127"], true),
        (&["--label", "eth0-in", "-l", "1"], false),
    ] {
        let filter = parse(&Labels, words).unwrap();
        assert_eq!(filter.matches(&flow), matches, "{words:?}");
    }
}
