//! Valid and invalid interface documents.

use super::*;

/// First example of kata's user guide, without its DPDK socket.
const GUIDE: &str = r#"{
    "device": "tap-test",
    "name": "eth-test",
    "IPAddresses": [ { "address": "172.16.0.3", "mask": "16" } ],
    "hwAddr":"02:42:20:6f:a3:69",
    "mtu": 1500,
    "queues":5
}"#;

fn read(text: &str) -> Result<CardRequest, Failure> {
    parse(text.as_bytes()).and_then(CardRequest::try_from)
}

fn parse(bytes: &[u8]) -> Result<InterfaceDocument, Failure> {
    InterfaceDocument::of(&Document::parse("the text".to_owned(), bytes)?)
}

#[test]
fn read_example_of_user_guide() {
    let request = read(GUIDE).unwrap();
    let parts = request.link.parts();
    assert_eq!(request.device.to_string(), "tap-test");
    assert_eq!(parts.name.as_str(), "eth-test");
    assert_eq!(parts.mac.to_string(), "02:42:20:6f:a3:69");
    assert_eq!(parts.addresses[0].to_string(), "172.16.0.3/16");
    assert_eq!(
        (parts.mtu.get(), parts.queues.map(QueuePairs::get)),
        (1500, Some(5))
    );
}

#[test]
fn read_matches_go_semantics() {
    let same = read(GUIDE).unwrap();
    for (from, to) in [
        ("\"hwAddr\"", "\"HWADDR\""),
        ("\"address\"", "\"Address\""),
        ("\"mtu\": 1500,", "\"mtu\": 9, \"MTU\": 1500,"),
        ("\"mtu\": 1500,", "\"mtu\": 1500, \"MTU\": null,"),
        (
            "\"mtu\": 1500,",
            "\"mtu\": 1500, \"unknown\": [{}], \"linkType\": null,",
        ),
        ("\"queues\":5\n}", "\"queues\":5} trailing"),
    ] {
        let text = GUIDE.replace(from, to);
        assert_ne!(text, GUIDE);
        assert_eq!(read(&text).unwrap(), same, "{text}");
    }
}

#[test]
fn raw_flags_noarp_disables_arp() {
    let text = GUIDE.replace("\"queues\":5", "\"rawFlags\":128");
    assert_eq!(read(&text).unwrap().link.parts().arp, Arp::Off);
}

#[test]
fn echo_omits_empty_members_and_has_link_type() {
    for (text, echo) in [
        (
            GUIDE,
            r#"{"device":"tap-test","name":"eth-test","IPAddresses":[{"Family":0,"Address":"172.16.0.3","Mask":"16"}],"mtu":1500,"hwAddr":"02:42:20:6f:a3:69","linkType":"tap"}"#,
        ),
        (
            r#"{"name":"eth1","IPAddresses":[null],"mtu":0,"linkType":"veth"}"#,
            r#"{"name":"eth1","linkType":"veth"}"#,
        ),
    ] {
        assert_eq!(parse(text.as_bytes()).unwrap().echo().to_string(), echo);
    }
}

/// Text of the guide's document, its replacement, the field of the error, and a part of its rule.
const INVALID_FIELDS: &[(&str, &str, &str, &str)] = &[
    ("\"tap-test\"", "\"a tap\"", "device", "no blank"),
    ("\"tap-test\"", "\"\"", "device", "missing field device"),
    (
        "\"eth-test\"",
        "\"eth test\"",
        "name",
        "starts with a letter",
    ),
    ("\"name\"", "\"noname\"", "name", "missing field name"),
    ("\"hwAddr\"", "\"mac\"", "hwAddr", "missing field hwAddr"),
    ("02:42:20", "01:42:20", "hwAddr", "unicast"),
    ("1500", "46", "mtu", "kernel's minimum"),
    ("1500", "0", "mtu", "missing field mtu"),
    ("1500", "9601", "mtu", "68 to 9600"),
    ("\"queues\":5", "\"queues\":257", "queues", "1 to 256"),
    ("\"16\"", "\"33\"", "IPAddresses[0]", "at most 32 bits"),
    ("\"16\"", "\"+6\"", "IPAddresses[0].mask", "decimal digits"),
    (
        "\"16\"",
        "\"255.255.0.0\"",
        "IPAddresses[0].mask",
        "decimal digits",
    ),
    (
        "172.16.0.3",
        "172.16.0.256",
        "IPAddresses[0].address",
        "IPv4 or IPv6",
    ),
    (
        "\"mask\": \"16\"",
        "\"mask\": \"16\", \"family\": 10",
        "IPAddresses[0].family",
        "2 for an IPv4",
    ),
    (
        "{ \"address\"",
        "null, { \"address\"",
        "IPAddresses[0]",
        "keys address and mask",
    ),
    (
        "\"queues\":5",
        "\"linkType\":\"veth\"",
        "linkType",
        "type tap",
    ),
    (
        "\"queues\":5",
        "\"vhostUserMode\":\"client\"",
        "vhostUserMode",
        "vhostUserSocket",
    ),
    (
        "\"queues\":5",
        "\"vhostUserSocket\":\"/s\",\"vhostUserMode\":\"both\"",
        "vhostUserMode",
        "client or server",
    ),
];

#[test]
fn read_invalid_field_names_field_and_rule() {
    for (from, to, field, rule) in INVALID_FIELDS {
        let text = GUIDE.replace(from, to);
        assert_ne!(text, GUIDE, "{from}");
        let failure = read(&text).unwrap_err();
        assert_eq!(
            (failure.kind(), failure.field()),
            (Kind::Invalid, Some(*field)),
            "{text}"
        );
        assert!(failure.to_string().contains(*rule), "{failure}");
    }
}

#[test]
fn parse_invalid_document_explains_cause() {
    for (text, cause) in [
        ("", "empty input"),
        ("null", "expected a JSON object"),
        ("[]", "expected a JSON object"),
        ("{\"device\":", "invalid JSON"),
        ("{\"mtu\":\"1500\"}", "mtu: invalid type"),
        ("{\"mtu\":\"1500\"}", "expected a non-negative integer"),
        ("{\"mtu\":-1}", "mtu: invalid value"),
        ("{\"queues\":4294967296}", "expected an integer from 0 to"),
        (
            "{\"name\":5}",
            "name: invalid type: integer `5`, expected a string",
        ),
        (
            "{\"IPAddresses\":{}}",
            "IPAddresses: invalid type: map, expected an array",
        ),
        ("{\"IPAddresses\":[5]}", "expected an object"),
        ("{\"dad\":1}", "expected a boolean"),
        (
            "{\"IPAddresses\":[{\"mask\":24}]}",
            "IPAddresses[0].mask: invalid type",
        ),
    ] {
        let failure = parse(text.as_bytes()).unwrap_err();
        let causes: String = failure.chain().collect();
        assert!(causes.contains(cause), "{text}: {causes}");
        for rust_type in ["struct", "Document", "u32", "u64"] {
            assert!(!causes.contains(rust_type), "{text}: {causes}");
        }
    }
}

proptest::proptest! {
    #[test]
    fn parse_arbitrary_bytes_does_not_panic(bytes: Vec<u8>) {
        if let Ok(document) = parse(&bytes) {
            let _ = CardRequest::try_from(document);
        }
    }
}
