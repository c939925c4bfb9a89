//! Valid and invalid interface documents.

use patchbay_types::failure::Kind;

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
        "\"tap-test\"",
        "\"default\"",
        "device",
        "'all' and 'default'",
    ),
    ("\"eth-test\"", "\"all\"", "name", "the kernel reserves"),
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
        "the family of the addresses",
    ),
    (
        "\"mask\": \"16\"",
        "\"mask\": \"16\", \"family\": \"v6\"",
        "IPAddresses[0].family",
        "the family of the addresses",
    ),
    (
        "\"mask\": \"16\"",
        "\"mask\": \"16\", \"family\": 3",
        "IPAddresses[0].family",
        "for IPv4",
    ),
    (
        ", \"mask\": \"16\"",
        "",
        "IPAddresses[0].mask",
        "missing field IPAddresses[0].mask",
    ),
    (
        "\"address\": \"172.16.0.3\",",
        "",
        "IPAddresses[0].address",
        "missing field IPAddresses[0].address",
    ),
    (
        "{ \"address\": \"172.16.0.3\", \"mask\": \"16\" }",
        "[\"172.16.0.3\", \"16\"]",
        "IPAddresses[0]",
        "it must be an object",
    ),
    ("1500", "\"1500\"", "mtu", "a non-negative integer"),
    ("1500", "-1", "mtu", "a non-negative integer"),
    (
        "\"queues\":5",
        "\"queues\":4294967296",
        "queues",
        "an integer from 0 to 4294967295",
    ),
    ("\"eth-test\"", "5", "name", "it must be a string"),
    ("\"queues\":5", "\"dad\":1", "dad", "true or false"),
    ("\"16\"", "24", "IPAddresses[0].mask", "it must be a string"),
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
        ("[\"tap-test\", \"eth-test\"]", "expected a JSON object"),
        ("{\"device\":", "invalid JSON"),
    ] {
        let failure = parse(text.as_bytes()).unwrap_err();
        let causes: String = failure.chain().collect();
        assert!(causes.contains(cause), "{text}: {causes}");
    }
}

/// Documents of Kata 2 and 3: by its Go runtime, and by runtime-rs.
#[test]
fn read_documents_of_later_katas() {
    let address = "{ \"address\": \"172.16.0.3\", \"mask\": \"16\" }";
    let with = |json: &str| read(&GUIDE.replace(address, json)).unwrap();
    let both = with(
        "{\"address\":\"172.16.0.3\",\"mask\":\"16\"},{\"address\":\"fd00::3\",\"mask\":\"64\"}",
    );
    for (v4, v6) in [
        ("0", "1"),
        ("2", "10"),
        ("\"v4\"", "\"V6\""),
        ("0", "0"),
        ("null", "1"),
    ] {
        let json = format!(
            "{{\"family\":{v4},\"address\":\"172.16.0.3\",\"mask\":\"16\"}},\
             {{\"family\":{v6},\"address\":\"fd00::3\",\"mask\":\"64\"}}"
        );
        assert_eq!(with(&json), both, "{json}");
    }
    let rust = GUIDE
        .replace("IPAddresses", "ip_addresses")
        .replace("hwAddr", "hw_addr")
        .replace(
            "\"queues\":5",
            "\"queues\":5, \"raw_flags\":0, \"field_type\":\"tap\"",
        );
    assert_eq!(read(&rust).unwrap(), read(GUIDE).unwrap());
    let other = GUIDE.replace("\"queues\":5", "\"type\":\"veth\"");
    assert_eq!(read(&other).unwrap_err().field(), Some("linkType"));
}

/// Wording of serde, and names of types, that no message may have.
const LEAKS: &str = "struct enum variant sequence map newtype unit untagged u8 u16 u32 u64 i64 \
                     usize f64 bool Option Vec Document InterfaceDocument AddressDocument RouteText Object";

fn leak(line: &str) -> Option<&str> {
    if line.contains("invalid type") || line.contains("invalid value") {
        return Some(line);
    }
    let mut words = line.split(|c: char| !c.is_alphanumeric());
    words.find(|word| LEAKS.split_whitespace().any(|leak| leak == *word))
}

/// A value of each JSON type, and numbers of several sizes.
fn wrong_values() -> Vec<Value> {
    vec![
        json!(true),
        json!(-1),
        json!(1.5),
        json!(u64::MAX),
        json!("x"),
        json!(""),
        json!([]),
        json!([1]),
        json!([[]]),
        json!({}),
        json!({"x": 1}),
    ]
}

#[test]
fn wrong_json_types_leak_no_names() {
    let guide: Value = serde_json::from_str(GUIDE).unwrap();
    let route = json!({"dest": "10.0.0.0/8", "device": "eth1"});
    let mut refused = 0;
    let mut check = |command: &str, document: &Value, result: Result<(), Failure>| {
        let Err(failure) = result else { return };
        refused += 1;
        let line = failure.line();
        assert_eq!(leak(&line), None, "{command} {document}: {line}");
    };
    for key in document::KEYS {
        for value in wrong_values() {
            let mut card = guide.clone();
            card[key] = value.clone();
            let mut member = guide.clone();
            member["IPAddresses"][0][key] = value.clone();
            for document in [card, member] {
                let text = document.to_string();
                let parsed = || parse(text.as_bytes());
                check(
                    "add",
                    &document,
                    parsed().and_then(CardRequest::try_from).map(drop),
                );
                check(
                    "update",
                    &document,
                    parsed().and_then(LinkChange::try_from).map(drop),
                );
            }
            let mut one = route.clone();
            one[key] = value;
            for document in [one.clone(), json!([one])] {
                for (command, result) in route::tests::read_all(&document) {
                    check(command, &document, result);
                }
            }
        }
    }
    for value in wrong_values() {
        let text = value.to_string();
        check("add", &value, parse(text.as_bytes()).map(drop));
        for (command, result) in route::tests::read_all(&json!([value])) {
            check(command, &value, result);
        }
    }
    assert!(refused > 500, "{refused}");
}

proptest::proptest! {
    #[test]
    fn parse_arbitrary_bytes_does_not_panic(bytes: Vec<u8>) {
        if let Ok(document) = parse(&bytes) {
            let _ = CardRequest::try_from(document);
        }
    }
}

#[test]
fn document_of_link_is_a_request_to_mirror_it() {
    let parsed = parse(br#"{"LINK": "net1", "queues": 2}"#).unwrap();
    let PlugRequest::Mirror(request) = parsed.request().unwrap() else {
        panic!("not a mirror");
    };
    assert_eq!(request.name.as_str(), "net1");
    assert_eq!(request.queues.map(QueuePairs::get), Some(2));
    for (member, field) in [
        (r#""mtu": 1500"#, "mtu"),
        (r#""neighbors": [{}]"#, "neighbors"),
        (r#""vhostUserSocket": "/x""#, "vhostUserSocket"),
    ] {
        let text = format!(r#"{{"link": "net1", {member}}}"#);
        let failure = parse(text.as_bytes()).unwrap().request().unwrap_err();
        assert_eq!(
            (failure.kind(), failure.field()),
            (Kind::Invalid, Some(field))
        );
        let message = format!("{field} can't be given with link, which determines it");
        assert_eq!(failure.to_string(), message);
    }
}

#[test]
fn address_without_prefix_route_is_read() {
    let text = GUIDE.replace(r#""mask": "16""#, r#""mask": "16", "NOPREFIXROUTE": true"#);
    let request = read(&text).unwrap();
    let absent = request.link.addresses_without_prefix_route();
    assert_eq!(absent[0].to_string(), "172.16.0.3/16");
    let update = r#"{"name": "eth1", "IPAddresses": [{"address": "10.0.0.1", "mask": "8", "noPrefixRoute": true}]}"#;
    let failure = LinkChange::try_from(parse(update.as_bytes()).unwrap()).unwrap_err();
    assert_eq!(
        (failure.kind(), failure.field()),
        (Kind::Invalid, Some("noPrefixRoute"))
    );
}

#[test]
fn document_that_is_a_folder_is_invalid() {
    let folder = tempfile::tempdir().unwrap();
    let failure = interface(folder.path()).unwrap_err();
    assert_eq!(failure.kind(), Kind::Invalid);
    assert!(
        failure.to_string().starts_with("could not read"),
        "{failure}"
    );
}
