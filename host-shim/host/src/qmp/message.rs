//! One line of QMP from QEMU.

use serde::Deserialize;
use serde_json::Value;

use super::Error;

/// What a line is, told by its keys: events stand anywhere, even before the greeting.
#[derive(Debug)]
pub(super) enum Message {
    Greeting(Greeting),
    Event(Event),
    Answer {
        id: Option<u64>,
        result: Result<Value, Refusal>,
    },
}

/// What the monitor offers.
#[derive(Debug, Deserialize)]
pub(super) struct Greeting {
    #[serde(default)]
    pub capabilities: Vec<String>,
}

/// Something that happened in QEMU, as much of it as anybody here waits for: what else it tells may
/// be megabytes.
#[derive(Debug)]
pub struct Event {
    pub name: String,
    device: Option<String>,
}

/// Longest name of an event, and longest id of a device, that is kept, in bytes.
const LONGEST: usize = 128;

impl Event {
    fn new(name: String, data: &Value) -> Self {
        let short = |text: &&str| text.len() <= LONGEST && name.len() <= LONGEST;
        let device = data.get("device").and_then(Value::as_str).filter(short);
        Self {
            device: device.map(str::to_owned),
            name,
        }
    }

    /// Whether it is one of a device: no other is waited for.
    pub fn tells_of_a_device(&self) -> bool {
        self.device.is_some()
    }

    /// Whether it is this event of this device. `DEVICE_DELETED` comes twice: the first time for the
    /// virtio backend, without the device's id.
    pub fn is(&self, name: &str, device: &str) -> bool {
        self.name == name && self.device.as_deref() == Some(device)
    }
}

/// QEMU's no.
#[derive(Debug, Deserialize)]
pub(super) struct Refusal {
    pub class: String,
    pub desc: String,
}

#[derive(Deserialize)]
struct Line {
    #[serde(rename = "QMP")]
    greeting: Option<Greeting>,
    event: Option<String>,
    id: Option<u64>,
    error: Option<Refusal>,
    #[serde(rename = "return")]
    result: Option<Value>,
    #[serde(default)]
    data: Value,
}

impl Message {
    pub(super) fn parse(line: &[u8]) -> Result<Self, Error> {
        let line: Line = serde_json::from_slice(line)
            .map_err(|_| Error::Malformed("a line is not one of its JSON objects"))?;
        Ok(match line {
            Line {
                greeting: Some(greeting),
                ..
            } => Message::Greeting(greeting),
            Line {
                event: Some(name),
                data,
                ..
            } => Message::Event(Event::new(name, &data)),
            Line {
                error: Some(refusal),
                id,
                ..
            } => Message::Answer {
                id,
                result: Err(refusal),
            },
            Line {
                result: Some(value),
                id,
                ..
            } => Message::Answer {
                id,
                result: Ok(value),
            },
            _ => {
                return Err(Error::Malformed(
                    "a line is neither greeting, event nor answer",
                ));
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_four_kinds_are_told_apart() {
        let parse = |text: &str| Message::parse(text.as_bytes());
        let greeting = r#"{"QMP":{"version":{"qemu":{"major":10}},"capabilities":["oob"]}}"#;
        assert!(matches!(parse(greeting), Ok(Message::Greeting(g)) if g.capabilities == ["oob"]));
        let event = r#"{"event":"DEVICE_DELETED","data":{"device":"d","path":"/p"}}"#;
        assert!(matches!(parse(event), Ok(Message::Event(e)) if e.is("DEVICE_DELETED", "d")));
        let answer = parse(r#"{"return":{},"id":7}"#);
        assert!(matches!(
            answer,
            Ok(Message::Answer {
                id: Some(7),
                result: Ok(_)
            })
        ));
        let refusal = parse(r#"{"error":{"class":"GenericError","desc":"no"},"id":7}"#);
        assert!(matches!(refusal, Ok(Message::Answer { result: Err(r), .. }) if r.desc == "no"));
    }

    #[test]
    fn anything_else_is_malformed() {
        for line in [
            "",
            "{}",
            "[]",
            "{\"return\"",
            "\u{0}",
            r#"{"event":7}"#,
            r#"{"error":{}}"#,
        ] {
            let parsed = Message::parse(line.as_bytes());
            assert!(matches!(parsed, Err(Error::Malformed(_))), "{line}");
        }
    }

    #[test]
    fn the_backends_own_event_is_not_the_devices() {
        let line =
            br#"{"event":"DEVICE_DELETED","data":{"path":"/machine/peripheral/d/virtio-backend"}}"#;
        let Ok(Message::Event(event)) = Message::parse(line) else {
            panic!()
        };
        assert!(!event.is("DEVICE_DELETED", "d"));
    }
}
