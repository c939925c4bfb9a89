//! Messages from QEMU, one per line.

use serde::Deserialize;
use serde_json::Value;

use super::error::Error;

/// Message, by its keys. Events occur anywhere, even before the greeting.
#[derive(Debug)]
pub(super) enum Message {
    Greeting(MonitorGreeting),
    Event(Event),
    Reply {
        id: Option<u64>,
        result: Result<Value, QmpError>,
    },
}

/// Greeting of the monitor.
#[derive(Debug, Deserialize)]
pub(super) struct MonitorGreeting {
    #[serde(default)]
    pub(super) capabilities: Vec<String>,
}

/// Event of a device. Other data is dropped, because it can be megabytes.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) name: String,
    device: Option<String>,
}

/// Maximum length of an event name or a device id that is kept.
const MAX_NAME_BYTES: usize = 128;

impl Event {
    fn new(name: String, data: &Value) -> Self {
        let short = |text: &&str| text.len() <= MAX_NAME_BYTES && name.len() <= MAX_NAME_BYTES;
        let device = data.get("device").and_then(Value::as_str).filter(short);
        Self {
            device: device.map(str::to_owned),
            name,
        }
    }

    /// Returns whether the event concerns a device; nothing waits for others.
    pub(super) fn has_device(&self) -> bool {
        self.device.is_some()
    }

    /// Returns whether this is the event `name` of `device`. `DEVICE_DELETED` occurs twice, first for
    /// the virtio backend, without the device's id.
    pub(crate) fn is(&self, name: &str, device: &str) -> bool {
        self.name == name && self.device.as_deref() == Some(device)
    }
}

/// Error reply.
#[derive(Debug, Deserialize)]
pub(super) struct QmpError {
    pub(super) class: String,
    pub(super) desc: String,
}

#[derive(Deserialize)]
struct RawMessage {
    #[serde(rename = "QMP")]
    greeting: Option<MonitorGreeting>,
    event: Option<String>,
    id: Option<u64>,
    error: Option<QmpError>,
    #[serde(rename = "return")]
    result: Option<Value>,
    #[serde(default)]
    data: Value,
}

impl Message {
    pub(super) fn parse(line: &[u8]) -> Result<Self, Error> {
        let message: RawMessage = serde_json::from_slice(line)
            .map_err(|_| Error::Malformed("a line is not a QMP object"))?;
        if let Some(greeting) = message.greeting {
            return Ok(Self::Greeting(greeting));
        }
        if let Some(name) = message.event {
            return Ok(Self::Event(Event::new(name, &message.data)));
        }
        let result = match (message.error, message.result) {
            (Some(error), _) => Err(error),
            (None, Some(value)) => Ok(value),
            (None, None) => {
                let message = "a line is neither a greeting nor an event nor a reply";
                return Err(Error::Malformed(message));
            }
        };
        Ok(Self::Reply {
            id: message.id,
            result,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_distinguishes_the_four_kinds() {
        let parse = |text: &str| Message::parse(text.as_bytes());
        let greeting = r#"{"QMP":{"version":{"qemu":{"major":10}},"capabilities":["oob"]}}"#;
        assert!(matches!(parse(greeting), Ok(Message::Greeting(g)) if g.capabilities == ["oob"]));
        let event = r#"{"event":"DEVICE_DELETED","data":{"device":"d","path":"/p"}}"#;
        assert!(matches!(parse(event), Ok(Message::Event(e)) if e.is("DEVICE_DELETED", "d")));
        let reply = parse(r#"{"return":{},"id":7}"#);
        assert!(matches!(
            reply,
            Ok(Message::Reply {
                id: Some(7),
                result: Ok(_)
            })
        ));
        let error = parse(r#"{"error":{"class":"GenericError","desc":"no"},"id":7}"#);
        assert!(matches!(error, Ok(Message::Reply { result: Err(r), .. }) if r.desc == "no"));
    }

    #[test]
    fn parse_other_lines_fails() {
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
    fn event_of_virtio_backend_has_no_device() {
        let line =
            br#"{"event":"DEVICE_DELETED","data":{"path":"/machine/peripheral/d/virtio-backend"}}"#;
        let Ok(Message::Event(event)) = Message::parse(line) else {
            panic!()
        };
        assert!(!event.is("DEVICE_DELETED", "d"));
    }
}
