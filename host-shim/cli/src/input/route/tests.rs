//! Route documents of the `kata-network` commands.

use std::io::Write;

use patchbay_types::failure::Kind;

use super::*;

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn added(text: &str) -> Result<String, Failure> {
    let echo = to_add(file(text).path())?.into_iter().map(|(_, echo)| echo);
    Ok(serde_json::to_string(&echo.collect::<Vec<_>>()).unwrap())
}

#[test]
fn add_echo_can_be_added_again() {
    for (text, echo) in [
        (
            r#"{"dest":"default","gateway":"172.16.0.1","device":"eth-test"}"#,
            r#"[{"dest":"default","gateway":"172.16.0.1","device":"eth-test"}]"#,
        ),
        (
            r#"{"dest":"172.17.10.10/24","gateway":"","device":"eth1"}"#,
            r#"[{"dest":"172.17.10.10/24","device":"eth1"}]"#,
        ),
        (
            r#"[{"DEST":"10.1.2.3","Device":"lo","other":[1]}]"#,
            r#"[{"dest":"10.1.2.3/32","device":"lo"}]"#,
        ),
        (
            r#"{"dest":"FD00::1","gateway":" fe80::1 ","device":"e","metric":5}"#,
            r#"[{"dest":"FD00::1/128","gateway":"fe80::1","device":"e","metric":5}]"#,
        ),
        (
            r#"{"dest":"10.0.0.0/8","device":"e","source":"10.0.0.2","scope":253}"#,
            r#"[{"dest":"10.0.0.0/8","device":"e","source":"10.0.0.2","scope":253}]"#,
        ),
    ] {
        assert_eq!(added(text).unwrap(), echo);
        assert_eq!(added(echo).unwrap(), echo);
    }
}

#[track_caller]
fn assert_invalid(cases: &[(&str, &str, &str)]) {
    for (text, field, rule) in cases {
        let failure = added(text).unwrap_err();
        assert_eq!(failure.kind(), Kind::Invalid, "{text}");
        assert_eq!(failure.field(), Some(*field), "{text}");
        assert!(failure.to_string().contains(rule), "{text}: {failure}");
    }
}

#[test]
fn add_missing_field_names_its_position() {
    assert_invalid(&[
        (r#"{"device":"e"}"#, "dest", ROUTE_INCOMPLETE),
        (r#"{"dest":"10.0.0.0/8"}"#, "device", ROUTE_INCOMPLETE),
        (r#"{"dest":"default","device":"e"}"#, "gateway", "specified"),
        (
            r#"[{"dest":"::","device":"e"},{}]"#,
            "[1].dest",
            ROUTE_INCOMPLETE,
        ),
    ]);
}

#[test]
fn add_invalid_field_names_its_rule() {
    let ip = "invalid IP: ";
    let net = "invalid input of IP";
    let name = "15 characters";
    assert_invalid(&[
        (r#"{"dest":"10.0.0.0/33","device":"e"}"#, "dest", net),
        (r#"{"dest":"10.0.0.0/+8","device":"e"}"#, "dest", net),
        (r#"{"dest":"10.0.0/8","device":"e"}"#, "dest", net),
        (
            r#"{"dest":"::","device":"e","gateway":"10"}"#,
            "gateway",
            ip,
        ),
        (r#"{"dest":"::","device":"e","source":"x"}"#, "source", ip),
        (
            r#"{"dest":"::","device":"eeeeeeeeeeeeeeee"}"#,
            "device",
            name,
        ),
        (r#"{"dest":"::","device":" e"}"#, "device", name),
        (
            r#"{"dest":"0.0.0.0","device":"e","scope":255}"#,
            "scope",
            "254",
        ),
        (
            r#"{"dest":"::","device":"e","gateway":"1.1.1.1"}"#,
            "gateway",
            "families",
        ),
    ]);
}

#[test]
fn add_document_without_routes_fails() {
    for text in ["null", "7", "[null]", "[[]]", r#"{"dest":5}"#, "", "{"] {
        assert_eq!(added(text).unwrap_err().kind(), Kind::Invalid, "{text}");
    }
    assert_eq!(added("[]").unwrap(), "[]");
}

#[test]
fn update_accepts_null_and_requires_prefixes() {
    let wanted = |text| wanted(file(text).path());
    assert_eq!(wanted("null").unwrap(), None);
    assert_eq!(wanted("[]").unwrap(), Some(vec![]));
    let default = wanted(r#"[{"device":"eth1","scope":1}]"#).unwrap().unwrap();
    assert_eq!(default[0].0.fields().dest.to_string(), "0.0.0.0/0");
    let failure = wanted(r#"[{"dest":"10.1.2.3","device":"eth1"}]"#).unwrap_err();
    assert_eq!(failure.field(), Some("[0].dest"));
    assert!(
        failure
            .to_string()
            .contains("Could not parse route destination"),
        "{failure}"
    );
    assert_eq!(
        wanted(r#"{"dest":"10.0.0.0/8"}"#).unwrap_err().kind(),
        Kind::Invalid
    );
}
