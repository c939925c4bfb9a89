use patchbay_grammar::NoNames;
use patchbay_types::failure::Failure;
use patchbay_types::ipvs::MaxRules;

use super::NetworkDocument;
use crate::output::DocumentFormat;
use crate::output::network::document;

/// A document with every section and most keys.
const WHOLE: &str = r#"# comment
interfaces:
  - device: tap1
    name: eth1
    HWADDR: 02:42:20:6f:a3:69
    mtu: 1500
    ipaddresses:
      - {address: 172.16.0.3, mask: 16}
      - {address: "fd00::3", mask: "64", noPrefixRoute: true}
    queues: 2
  - link: net1
routes:
  - dest: default
    gateway: 172.16.0.1
    device: eth1
neighbors:
  - {address: 172.16.0.9, device: eth1, lladdr: "02:00:00:00:00:09"}
ipvs: |
  # web
  -A -t 10.0.0.1:80 -s rr

  -a -t 10.0.0.1:80 -r 10.0.0.2:80 -m
sysctls:
  conntrack: 1
  net.ipv4.vs.sync_threshold: 3 50
"#;

fn parse(text: &str) -> Result<Vec<NetworkDocument>, Failure> {
    super::parse("net.yaml", text, &NoNames, MaxRules(100))
}

fn line(text: &str) -> String {
    parse(text).unwrap_err().line()
}

#[test]
fn document_with_every_section_is_read() {
    let documents = parse(WHOLE).unwrap();
    let [
        NetworkDocument {
            wanted, sandbox, ..
        },
    ] = &documents[..]
    else {
        panic!("{documents:?}");
    };
    assert_eq!(*sandbox, None);
    assert_eq!(wanted.sections().len(), 5);
    assert_eq!(wanted.ipvs.as_ref().unwrap()[1].number, 4);
    let yaml = document(wanted, DocumentFormat::Yaml).unwrap();
    assert_eq!(
        yaml,
        r#"---
interfaces:
  - device: tap1
    name: eth1
    hwAddr: "02:42:20:6f:a3:69"
    mtu: 1500
    IPAddresses:
      - address: 172.16.0.3
        mask: "16"
      - address: "fd00::3"
        mask: "64"
        noPrefixRoute: true
    queues: 2
  - name: net1
    link: net1
routes:
  - dest: default
    gateway: 172.16.0.1
    device: eth1
neighbors:
  - address: 172.16.0.9
    lladdr: "02:00:00:00:00:09"
    device: eth1
ipvs: |
  -A -t 10.0.0.1:80 -s rr
  -a -t 10.0.0.1:80 -r 10.0.0.2:80 -m -w 1
sysctls:
  conntrack: 1
  sync_threshold: 3 50
"#
    );
    for format in [DocumentFormat::Yaml, DocumentFormat::Json] {
        let text = document(wanted, format).unwrap();
        let again = parse(&text).unwrap();
        assert_eq!(document(&again[0].wanted, format).unwrap(), text);
        assert_eq!(again[0].wanted.interfaces, wanted.interfaces, "{text}");
        assert_eq!(again[0].wanted.routes, wanted.routes, "{text}");
    }
}

/// Text of the document, its replacement, and the begin of the error.
const ERRORS: &[(&str, &str, &str)] = &[
    (
        "mtu: 1500",
        "mtu: 67",
        "net.yaml:6:10: mtu '67' is not allowed",
    ),
    ("mtu: 1500", "mtu: x", "net.yaml:6:10: interfaces[0].mtu '"),
    ("    mtu: 1500\n", "", "net.yaml:3:5: missing field mtu"),
    ("mask: 16", "mask: 33", "net.yaml:8:9: IPAddresses[0] "),
    (
        "mask: 16",
        "mask: x",
        "net.yaml:8:37: IPAddresses[0].mask 'x'",
    ),
    (
        "link: net1",
        "link: net1\n    mtu: 9",
        "net.yaml:12:10: mtu can't be given with link",
    ),
    (
        "gateway: 172.16.0.1",
        "gateway: 1.2.3",
        "net.yaml:14:14: routes[0].gateway '1.2.3'",
    ),
    (
        "lladdr: \"02",
        "lladdr: \"0x",
        "net.yaml:17:49: neighbors[0].lladdr",
    ),
    ("-s rr\n", "-s rr -q\n", "net.yaml:20:3: "),
    (
        "-a -t 10.0.0.1:80",
        "-a -t 10.0.0.1:81",
        "net.yaml:22:3: there is no service",
    ),
    ("-a -t", "-d -t", "net.yaml:22:3: "),
    (
        "conntrack: 1",
        "conntrack: 2",
        "net.yaml:24:14: sysctls.conntrack '2'",
    ),
    (
        "  conntrack:",
        "  conntracks:",
        "net.yaml:24:3: sysctls.conntracks 'conntracks'",
    ),
    (
        "routes:",
        "route:",
        "net.yaml:12:1: unknown section 'route'",
    ),
    (
        "sysctls:",
        "mtu: 1\nsysctls:",
        "net.yaml:23:1: unknown section 'mtu'",
    ),
    (
        "queues: 2",
        "queues: 2\n    Queues: 3",
        "net.yaml:11:5: the key 'queues' is given twice",
    ),
    ("queues: 2", "queues: [2", "net.yaml:"),
    (
        "queues: 2",
        "queues: &a 2",
        "net.yaml:10:13: anchors are not supported",
    ),
    (
        "queues: 2",
        "queues: !!int 2",
        "net.yaml:10:13: tags are not supported",
    ),
    (
        "  - link: net1",
        "  - {link: net1, name: eth1}",
        "net.yaml:11:24: interfaces[1].name 'eth1'",
    ),
];

#[test]
fn document_errors_have_line_and_column() {
    let mut wrong = Vec::new();
    for (from, to, expected) in ERRORS {
        let text = WHOLE.replacen(from, to, 1);
        assert_ne!(text, WHOLE, "{from}");
        let line = line(&text);
        if !line.starts_with(expected) {
            wrong.push(format!("{to}: {line}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn document_without_a_value_is_refused() {
    let rule = "net.yaml:1:1: routes has no value: [] means none";
    assert!(line("routes:\n").starts_with(rule));
    assert!(line("").contains("has no document"));
    assert!(line("# only a comment\n---\n").contains("has no document"));
    assert!(line("- 1\n").contains("must be a mapping"));
    assert!(line("ipvs: 5\n").contains("net.yaml:1:7: ipvs '5'"));
    assert!(line("sysctls: 5\n").contains("must be a mapping of names"));
    assert!(line("routes: 5\n").contains("net.yaml:1:9: routes '5'"));
    let deep = format!("routes: {}{}", "[".repeat(100), "]".repeat(100));
    assert!(
        line(&deep).contains("more than 16 levels"),
        "{}",
        line(&deep)
    );
}

#[test]
fn document_empty_sections_mean_none() {
    let text = "interfaces: []\nroutes: []\nneighbors: []\nipvs: []\nsysctls: {}\n";
    let documents = parse(text).unwrap();
    let wanted = &documents[0].wanted;
    assert_eq!(wanted.interfaces.as_deref(), Some(&[][..]));
    assert_eq!(wanted.ipvs.as_deref(), Some(&[][..]));
    assert_eq!(
        document(wanted, DocumentFormat::Yaml).unwrap(),
        format!("---\n{text}")
    );
}

#[test]
fn documents_of_several_sandboxes_are_read() {
    let text = "sandbox: a\nroutes: []\n---\nsandbox: b\nipvs: [\"-A -t 10.0.0.1:80 -s rr\"]\n";
    let documents = parse(text).unwrap();
    let ids: Vec<_> = documents.iter().map(|one| one.sandbox.as_deref()).collect();
    assert_eq!(ids, [Some("a"), Some("b")]);
    assert_eq!(documents[0].wanted.ipvs, None);
    assert_eq!(documents[1].wanted.ipvs.as_ref().unwrap().len(), 1);
}

proptest::proptest! {
    #[test]
    fn parse_arbitrary_text_does_not_panic(text in "[-a-z:\\[\\]{}&*!|> \n\"0-9#?,]{0,60}") {
        drop(parse(&text));
    }
}
