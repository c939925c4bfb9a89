//! Configuration of the plugin: its object in the list of a network, which a runtime writes to standard
//! input with the name of the network and the result of the plugin before.
//!
//! Users of a Kubernetes namespace write it and the plugin runs as root, so no key names a path of the
//! host. Other programs add keys, so unknown ones are ignored.

use std::time::Duration;

use patchbay_host::json::{JsonError, Object, object};
use patchbay_host::mirror::{DefaultRoute, RoutePolicy};
use patchbay_types::failure::{Failure, Kind};
use patchbay_types::{FieldError, InvalidValue, QueuePairs};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::error::{CniError, Code};
use super::version::Version;

/// Time for a machine that is starting, and for the card in it.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(20);
/// Maximum length of a network's name, in bytes.
const MAX_NAME_BYTES: usize = 255;

/// Network of the configuration, which all operations need.
#[derive(Debug)]
pub(super) struct Network<'a> {
    pub(super) version: Version,
    pub(super) name: String,
    /// Text of the result of the plugin before.
    pub(super) prev_result: Option<&'a RawValue>,
}

/// Options of ADD. DEL does not read them, so an attachment with invalid ones can be removed.
#[derive(Debug)]
pub(super) struct Options {
    /// Queue pairs; `None`: one.
    pub(super) queues: Option<QueuePairs>,
    pub(super) timeout: Duration,
    pub(super) machine: MachinePolicy,
    pub(super) routes: RoutePolicy,
    pub(super) default_route: DefaultRoute,
}

/// Need of a machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum MachinePolicy {
    /// Without a machine, nothing is done.
    #[default]
    Auto,
    /// Without a machine, ADD fails.
    Required,
}

/// Attachment that exists.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct ValidAttachment {
    #[serde(rename = "containerID")]
    pub(super) container: String,
    pub(super) ifname: String,
}

/// JSON types of the keys of [`Network`].
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NetworkDocument {
    cni_version: Option<String>,
    name: Option<String>,
}

/// Configuration with the text of the result.
#[derive(Deserialize)]
struct WithResult<'a> {
    #[serde(borrow, rename = "prevResult")]
    prev_result: Option<&'a RawValue>,
}

/// JSON types of the keys of [`Options`].
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OptionsDocument {
    queues: Option<u64>,
    timeout: Option<u64>,
    machine: Option<MachinePolicy>,
    routes: Option<bool>,
    default_route: Option<DefaultRoute>,
}

/// Keys of GC.
#[derive(Deserialize)]
struct Attachments {
    #[serde(rename = "cni.dev/valid-attachments")]
    valid: Option<Vec<Object<ValidAttachment>>>,
    /// The name that libcni 1.3 writes.
    #[serde(rename = "cni.dev/attachments")]
    attachments: Option<Vec<Object<ValidAttachment>>>,
}

impl<'a> Network<'a> {
    /// Parses the text of standard input.
    pub(super) fn parse(text: &'a [u8]) -> Result<Self, CniError> {
        let document: NetworkDocument = parse(text)?;
        let version = version(document.cni_version.as_deref())?;
        let WithResult { prev_result } = serde_json::from_slice(text).map_err(|_| {
            let value = InvalidValue::new("...", "it can be given only once");
            invalid(value.in_field("prevResult"))
        })?;
        Ok(Self {
            version,
            name: name(document.name).map_err(invalid)?,
            prev_result,
        })
    }
}

impl Options {
    /// Parses the text of standard input. `max_queues` is the host's limit.
    pub(super) fn parse(text: &[u8], max_queues: Option<QueuePairs>) -> Result<Self, CniError> {
        let document: OptionsDocument = parse(text)?;
        Ok(Self {
            queues: queues(document.queues, max_queues).map_err(invalid)?,
            timeout: timeout(document.timeout).map_err(invalid)?,
            machine: document.machine.unwrap_or_default(),
            routes: match document.routes {
                Some(false) => RoutePolicy::Skip,
                Some(true) | None => RoutePolicy::Mirror,
            },
            default_route: document.default_route.unwrap_or(DefaultRoute::Keep),
        })
    }
}

/// Parses the attachments of the network that exist; `None` if the runtime does not list them.
pub(super) fn valid_attachments(text: &[u8]) -> Result<Option<Vec<ValidAttachment>>, CniError> {
    let Attachments { valid, attachments } = parse(text)?;
    Ok(valid.or(attachments).map(|listed| {
        let listed = listed.into_iter();
        listed.map(|Object(attachment)| attachment).collect()
    }))
}

/// Parses the object that has all keys.
pub(super) fn parse<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<T, CniError> {
    object(text).map_err(|error| match error {
        JsonError::Syntax(_) => {
            let failure = Failure::new(Kind::Invalid, "standard input is no configuration");
            CniError::new(Code::InvalidJson, failure.with_cause(error.to_string()))
        }
        JsonError::Field(field) => invalid(field),
    })
}

/// Returns the error of a key.
pub(super) fn invalid(error: FieldError) -> CniError {
    CniError::new(Code::InvalidConfiguration, error)
}

fn version(text: Option<&str>) -> Result<Version, CniError> {
    let unknown = |error: FieldError| CniError::new(Code::IncompatibleVersion, error);
    let text = text.ok_or_else(|| unknown(FieldError::missing("cniVersion")))?;
    text.parse()
        .map_err(|invalid: InvalidValue| unknown(invalid.in_field("cniVersion")))
}

fn name(text: Option<String>) -> Result<String, FieldError> {
    let name = text.ok_or_else(|| FieldError::missing("name"))?;
    if name.is_empty() || name.len() > MAX_NAME_BYTES {
        return Err(InvalidValue::new(&name, "it must have 1 to 255 bytes").in_field("name"));
    }
    Ok(name)
}

fn queues(pairs: Option<u64>, max: Option<QueuePairs>) -> Result<Option<QueuePairs>, FieldError> {
    let Some(pairs) = pairs else { return Ok(None) };
    let queues = QueuePairs::try_from(pairs).map_err(|invalid| invalid.in_field("queues"))?;
    if let Some(max) = max.filter(|max| queues > *max) {
        let rule = format!("this host allows 1 to {max} (maxQueues)", max = max.get());
        return Err(InvalidValue::new(&pairs, rule).in_field("queues"));
    }
    Ok(Some(queues))
}

fn timeout(seconds: Option<u64>) -> Result<Duration, FieldError> {
    match seconds {
        None => Ok(DEFAULT_TIMEOUT),
        Some(seconds @ 1..=300) => Ok(Duration::from_secs(seconds)),
        Some(seconds) => {
            Err(InvalidValue::new(&seconds, "it must be 1 to 300 seconds").in_field("timeout"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses a configuration with these members, of which one is invalid.
    fn error(members: &str) -> (Code, String) {
        let text = format!(r#"{{"cniVersion":"1.0.0","name":"blue",{members}}}"#);
        let (text, max) = (text.as_bytes(), QueuePairs::try_from(4).unwrap());
        let parsed = Network::parse(text).map(drop);
        let parsed = parsed.and_then(|()| Options::parse(text, Some(max)).map(drop));
        let error = parsed.and_then(|()| valid_attachments(text).map(drop));
        let error = error.unwrap_err();
        (error.code, error.line())
    }

    #[test]
    fn configuration_of_runtime_is_parsed() {
        let text = br#"{
            "cniVersion": "0.3.1", "name": "blue", "type": "patchbay-cni", "queues": 4, "timeout": 300,
            "machine": "required", "routes": false, "defaultRoute": "take",
            "runtimeConfig": {"mac": "02:00:00:00:00:01"}, "unknown": [1],
            "cni.dev/attachments": [{"containerID": "a", "ifname": "net1"}],
            "prevResult": {"b": 9007199254740993, "a": 1.10, "a": "x"}
        }"#;
        let network = Network::parse(text).unwrap();
        assert_eq!(network.version, Version::V0_3_1);
        assert_eq!(network.name, "blue");
        let result = r#"{"b": 9007199254740993, "a": 1.10, "a": "x"}"#;
        assert_eq!(network.prev_result.unwrap().get(), result);
        let options = Options::parse(text, None).unwrap();
        assert_eq!(options.queues.unwrap().get(), 4);
        assert_eq!(options.timeout, Duration::from_secs(300));
        assert_eq!(options.machine, MachinePolicy::Required);
        assert_eq!(options.routes, RoutePolicy::Skip);
        assert_eq!(options.default_route, DefaultRoute::Take);
        assert_eq!(valid_attachments(text).unwrap().unwrap()[0].ifname, "net1");
    }

    #[test]
    fn configuration_has_defaults() {
        let text = br#"{"cniVersion":"1.1.0","name":"blue","prevResult":null,"machine":null}"#;
        assert!(Network::parse(text).unwrap().prev_result.is_none());
        let options = Options::parse(text, None).unwrap();
        assert_eq!((options.queues, options.timeout), (None, DEFAULT_TIMEOUT));
        assert_eq!(options.machine, MachinePolicy::Auto);
        assert_eq!(options.routes, RoutePolicy::Mirror);
        assert_eq!(options.default_route, DefaultRoute::Keep);
        assert_eq!(valid_attachments(text), Ok(None));
    }

    #[test]
    fn invalid_key_is_named() {
        for (members, message) in [
            (
                r#""queues":0"#,
                "queues '0' is not allowed: a card has 1 to 256 queue pairs",
            ),
            (
                r#""queues":5"#,
                "queues '5' is not allowed: this host allows 1 to 4 (maxQueues)",
            ),
            (
                r#""queues":"2""#,
                r#"queues '\"2\"' is not allowed: it must be a non-negative integer"#,
            ),
            (
                r#""timeout":301"#,
                "timeout '301' is not allowed: it must be 1 to 300 seconds",
            ),
            (
                r#""machine":"never""#,
                "machine 'never' is not allowed: it must be auto or required",
            ),
            (
                r#""routes":1"#,
                "routes '1' is not allowed: it must be true or false",
            ),
            (
                r#""defaultRoute":"drop""#,
                "defaultRoute 'drop' is not allowed: it must be keep or take",
            ),
            (
                r#""cni.dev/valid-attachments":[{"ifname":"a"}]"#,
                "missing field cni.dev/valid-attachments[0].containerID",
            ),
            (
                r#""prevResult":{},"prevResult":{}"#,
                "prevResult '...' is not allowed: it can be given only once",
            ),
        ] {
            let expected = (Code::InvalidConfiguration, message.to_owned());
            assert_eq!(error(members), expected, "{members}");
        }
    }

    #[test]
    fn invalid_document_has_its_code() {
        for (text, code, part) in [
            ("", Code::InvalidJson, "EOF"),
            ("{", Code::InvalidJson, "EOF"),
            ("{} x", Code::InvalidJson, "trailing"),
            ("[]", Code::InvalidConfiguration, "it must be an object"),
            ("{}", Code::IncompatibleVersion, "missing field cniVersion"),
            (
                r#"{"cniVersion":"0.2.0"}"#,
                Code::IncompatibleVersion,
                "it must be one of 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0",
            ),
            (
                r#"{"cniVersion":"1.0.0"}"#,
                Code::InvalidConfiguration,
                "missing field name",
            ),
            (
                r#"{"cniVersion":"1.0.0","name":""}"#,
                Code::InvalidConfiguration,
                "name '' is not allowed",
            ),
        ] {
            let error = Network::parse(text.as_bytes()).unwrap_err();
            assert_eq!(error.code, code, "{text}");
            assert!(error.line().contains(part), "{text}: {}", error.line());
        }
    }
}
