//! Result of the plugin before, which is returned as it is.

use patchbay_host::json::Object;
use patchbay_types::{FieldError, InvalidValue, LinkName};
use serde::Deserialize;

use super::config::{invalid, parse};
use super::error::CniError;

/// Configuration with a result.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    prev_result: Option<Object<PrevResult>>,
}

/// Used members of a result.
#[derive(Deserialize)]
struct PrevResult {
    interfaces: Option<Vec<Object<Interface>>>,
}

/// Interface that a plugin has made, of the container if it has a `sandbox`.
#[derive(Deserialize)]
struct Interface {
    name: Option<String>,
    sandbox: Option<String>,
}

/// Checks that the plugin before has made the container's interface, by the text of the configuration.
pub(super) fn check(text: &[u8], ifname: &LinkName) -> Result<(), CniError> {
    let document: Document = parse(text)?;
    let Object(result) = document.prev_result.ok_or_else(|| {
        let rule = "patchbay-cni follows a plugin that makes an interface";
        invalid(FieldError::missing_by_rule("prevResult", rule))
    })?;
    let name = ifname.to_string();
    let mut interfaces = result.interfaces.iter().flatten();
    let is_wanted = |Object(interface): &Object<Interface>| {
        let is_inside = interface
            .sandbox
            .as_ref()
            .is_some_and(|path| !path.is_empty());
        is_inside && interface.name.as_ref() == Some(&name)
    };
    if interfaces.any(is_wanted) {
        return Ok(());
    }
    let rule = "prevResult has no interface of this name in the container";
    Err(invalid(
        InvalidValue::new(&name, rule).in_field("CNI_IFNAME"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(result: &str) -> Result<(), String> {
        let text = format!(r#"{{"prevResult":{result}}}"#);
        check(text.as_bytes(), &"net1".parse().unwrap()).map_err(|error| error.line())
    }

    #[test]
    fn result_with_interface_of_container_is_accepted() {
        let text = r#"{"cniVersion":"1.0.0","interfaces":[{"name":"br1","mac":"x"},
            {"name":"veth1"},{"name":"net1","sandbox":"/run/netns/a","unknown":1}],"ips":7}"#;
        assert_eq!(checked(text), Ok(()));
    }

    #[test]
    fn result_without_interface_of_container_is_refused() {
        let none = "CNI_IFNAME 'net1' is not allowed: prevResult has no interface of this name in the \
                    container";
        for (text, message) in [
            ("{}", none),
            (r#"{"interfaces":null}"#, none),
            (r#"{"interfaces":[{"name":"net1"}]}"#, none),
            (r#"{"interfaces":[{"name":"net1","sandbox":""}]}"#, none),
            (r#"{"interfaces":[{"name":"net2","sandbox":"/n"}]}"#, none),
            (
                r#"{"interfaces":{}}"#,
                "prevResult.interfaces '{...}' is not allowed: it must be an array",
            ),
            (
                r#"{"interfaces":[{"name":1}]}"#,
                "prevResult.interfaces[0].name '1' is not allowed: it must be a string",
            ),
            ("7", "prevResult '7' is not allowed: it must be an object"),
        ] {
            assert_eq!(checked(text), Err(message.to_owned()), "{text}");
        }
        let message =
            "missing field prevResult: patchbay-cni follows a plugin that makes an interface";
        assert_eq!(checked("null"), Err(message.to_owned()));
    }
}
