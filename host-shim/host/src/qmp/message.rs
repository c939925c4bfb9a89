//! Messages from QEMU, one per line.

use serde::Deserialize;
use serde_json::Value;

use super::error::Error;

/// Message, by its keys. Events occur anywhere, even before the greeting. Their data, which can be
/// megabytes, is dropped: a removal waits without a session, and nothing else waits for an event.
#[derive(Debug)]
pub(super) enum Message {
    Greeting(MonitorGreeting),
    Event,
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
}

impl Message {
    pub(super) fn parse(line: &[u8]) -> Result<Self, Error> {
        let message: RawMessage = serde_json::from_slice(line)
            .map_err(|_| Error::Malformed("a line is not a QMP object"))?;
        if let Some(greeting) = message.greeting {
            return Ok(Self::Greeting(greeting));
        }
        if message.event.is_some() {
            return Ok(Self::Event);
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
        assert!(matches!(parse(event), Ok(Message::Event)));
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
}
