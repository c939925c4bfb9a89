//! A document in JSON, read as Go reads it: keys in any case, unknown keys passed over, `null` as
//! absent, the last of a repeated key, types strict, and only the first value of the document.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use patchbay_types::failure::{Failure, Kind};
use serde::Deserialize;
use serde_json::{Map, Value};

/// Largest file that is read: 1 MiB, as for the incumbent.
const MAX_FILE: u64 = 1 << 20;
/// Most that is read of standard input, which the incumbent does not limit: 16 MiB, more than all
/// the routes of one request need.
const MAX_INPUT: u64 = 16 << 20;

/// The keys that mean something, as the user guide spells them.
const KEYS: [&str; 19] = [
    "device",
    "name",
    "IPAddresses",
    "address",
    "mask",
    "family",
    "mtu",
    "hwAddr",
    "linkType",
    "vhostUserSocket",
    "vhostUserMode",
    "queues",
    "rawFlags",
    "dad",
    "dest",
    "gateway",
    "source",
    "scope",
    "metric",
];

/// A JSON document, its keys spelled as in the guide.
#[derive(Debug)]
pub(super) struct Document {
    /// What to call it in a message.
    name: String,
    value: Value,
}

impl Document {
    /// Reads the file at the path, or standard input for `-`.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let name = if path == Path::new("-") {
            "standard input".to_owned()
        } else {
            path.to_string_lossy().into_owned()
        };
        let bytes = read(path).map_err(|error| {
            let kind = error.raw_os_error().map_or(Kind::Invalid, Kind::from_errno);
            Failure::new(kind, format!("could not read {name}")).with_cause(error.to_string())
        })?;
        Self::parse(name, &bytes)
    }

    /// Reads the first value of the bytes.
    pub(super) fn parse(name: String, bytes: &[u8]) -> Result<Self, Failure> {
        let mut values = serde_json::Deserializer::from_slice(bytes).into_iter::<Value>();
        let cause = match values.next() {
            Some(Ok(value)) => {
                let value = canonical(value);
                return Ok(Self { name, value });
            }
            None => "it is empty".to_owned(),
            Some(Err(error)) => format!("it is not JSON ({error})"),
        };
        let sentence = format!("could not read {name}");
        Err(Failure::new(Kind::Invalid, sentence).with_cause(cause))
    }

    /// The value, its keys spelled as in the guide.
    pub(super) fn value(&self) -> &Value {
        &self.value
    }

    /// Says that what was expected isn't there.
    pub(super) fn holds_no(&self, what: &str, cause: impl AsRef<str>) -> Failure {
        let sentence = format!("{} holds no {what}", self.name);
        Failure::new(Kind::Invalid, sentence).with_cause(cause)
    }

    /// Reads the value, or a part of it, as what is expected.
    pub(super) fn read_as<'a, T: Deserialize<'a>>(
        &self,
        value: &'a Value,
        what: &str,
    ) -> Result<T, Failure> {
        serde_path_to_error::deserialize(value)
            .map_err(|error| self.holds_no(what, format!("{}: {}", error.path(), error.inner())))
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let (mut source, most): (Box<dyn Read>, _) = match path.to_str() {
        Some("-") => (Box::new(io::stdin()), MAX_INPUT),
        _ => (Box::new(File::open(path)?), MAX_FILE),
    };
    source.by_ref().take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        let sentence = "network file too big: a file has at most 1 MiB, standard input 16 MiB";
        return Err(io::Error::other(sentence));
    }
    Ok(bytes)
}

/// Spells the keys as the guide does.
fn canonical(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut spelled = Map::new();
            for (key, value) in map {
                if let Some(known) = KEYS.iter().find(|known| known.eq_ignore_ascii_case(&key)) {
                    spelled.insert((*known).to_owned(), canonical(value));
                }
            }
            Value::Object(spelled)
        }
        Value::Array(values) => Value::Array(values.into_iter().map(canonical).collect()),
        plain => plain,
    }
}
