//! The document of an interface, good and bad.

use patchbay_types::failure::Kind;

use patchbay_host::card::CardRequest;

use super::*;

/// The user guide's first example, less its DPDK socket.
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

fn parse(bytes: &[u8]) -> Result<RawInterface, Failure> {
    of(&Document::parse("the text".to_owned(), bytes)?)
}

#[test]
fn the_guides_example_is_read() {
    let request = read(GUIDE).unwrap();
    let parts = request.link.parts();
    assert_eq!(request.device.as_str(), "tap-test");
    assert_eq!(parts.name.as_str(), "eth-test");
    assert_eq!(parts.mac.to_string(), "02:42:20:6f:a3:69");
    assert_eq!(parts.addresses[0].to_string(), "172.16.0.3/16");
    assert_eq!(
        (parts.mtu.get(), parts.queues.map(QueuePairs::get)),
        (1500, Some(5))
    );
}

#[test]
fn it_is_read_as_go_reads_it() {
    let same = read(GUIDE).unwrap();
    for (from, to) in [
        ("\"hwAddr\"", "\"HWADDR\""),
        ("\"address\"", "\"Address\""),
        ("\"mtu\": 1500,", "\"mtu\": 9, \"MTU\": 1500,"),
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
fn no_arp_is_a_bit_of_raw_flags() {
    let text = GUIDE.replace("\"queues\":5", "\"rawFlags\":128");
    assert_eq!(read(&text).unwrap().link.parts().arp, Arp::Off);
}

#[test]
fn each_bad_field_is_named_with_its_rule() {
    for (from, to, field, rule) in [
        ("\"tap-test\"", "\"1tap\"", "device", "starts with a letter"),
        ("\"tap-test\"", "\"\"", "device", "must be given"),
        (
            "\"eth-test\"",
            "\"eth test\"",
            "name",
            "starts with a letter",
        ),
        ("\"name\"", "\"noname\"", "name", "must be given"),
        ("02:42:20", "01:42:20", "hwAddr", "unicast"),
        ("1500", "46", "mtu", "kernel's minimum"),
        ("1500", "0", "mtu", "must be given"),
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
    ] {
        let text = GUIDE.replace(from, to);
        assert_ne!(text, GUIDE, "{from}");
        let failure = read(&text).unwrap_err();
        assert_eq!(
            (failure.kind(), failure.field()),
            (Kind::Invalid, Some(field)),
            "{text}"
        );
        assert!(failure.to_string().contains(rule), "{failure}");
    }
}

#[test]
fn what_is_no_such_document_is_told() {
    for (text, cause) in [
        ("", "it is empty"),
        ("null", "a JSON object is needed"),
        ("[]", "a JSON object is needed"),
        ("{\"device\":", "it is not JSON"),
        ("{\"mtu\":\"1500\"}", "mtu: invalid type"),
        ("{\"mtu\":-1}", "mtu: invalid value"),
        (
            "{\"IPAddresses\":[{\"mask\":24}]}",
            "IPAddresses[0].mask: invalid type",
        ),
    ] {
        let failure = parse(text.as_bytes()).unwrap_err();
        let told: String = failure.chain().collect();
        assert!(told.contains(cause), "{text}: {told}");
    }
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
        if let Ok(raw) = parse(&bytes) {
            let _ = CardRequest::try_from(raw);
        }
    }
}
