//! JSON documents, read as Go's `encoding/json` reads them: keys match in any case, and with the `_` of
//! runtime-rs (`hw_addr`), unknown keys are ignored, a `null` member is the same as an absent one, the last of repeated keys wins, types are
//! strict, and only the first value of the document is read. Unlike Go, a line on standard error
//! names each unknown key.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use patchbay_host::json::{Object, field_error};
use patchbay_types::failure::{Failure, Kind};
use serde::Deserialize;
use serde_json::Value;
use serde_path_to_error::Track;

use super::stdin;
use super::unknown_keys::UnknownKeys;
use crate::kata_messages::FILE_TOO_BIG;

/// Size limits of an input in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct SizeLimits {
    pub(super) file: u64,
    pub(super) stdin: u64,
}

/// Limit of files as kata's, and of standard input, for which kata has none: more than the routes of one
/// request need.
const LIMITS: SizeLimits = SizeLimits {
    file: 1 << 20,
    stdin: 16 << 20,
};

/// Known keys in the spelling of kata's user guide.
pub(super) const KEYS: [&str; 34] = [
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
    "table",
    "protocol",
    "onlink",
    "flags",
    "type",
    "pciAddr",
    "neighbors",
    "toIPAddress",
    "lladdr",
    "state",
    "link",
    "bridge",
    "noPrefixRoute",
    "up",
    "promisc",
];

/// JSON document with keys in canonical spelling.
#[derive(Debug)]
pub(super) struct Document {
    /// Name in error messages.
    name: String,
    pub(super) value: Value,
}

impl Document {
    /// Reads the file at `path`, or standard input for `-`.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let (name, bytes) = read(path, LIMITS)?;
        Self::parse(name, &bytes)
    }

    /// Takes a value with keys in canonical spelling.
    pub(super) fn of(name: String, value: Value) -> Self {
        Self { name, value }
    }

    /// Parses the first value of `bytes`.
    pub(super) fn parse(name: String, bytes: &[u8]) -> Result<Self, Failure> {
        let mut values = serde_json::Deserializer::from_slice(bytes).into_iter::<Value>();
        let cause = match values.next() {
            Some(Ok(value)) => {
                let rest = &bytes[values.byte_offset()..];
                if !rest.trim_ascii().is_empty() {
                    tracing::warn!("{name} has more than one JSON value: only the first is used");
                }
                return Ok(Self {
                    name,
                    value: canonical(value),
                });
            }
            None => "empty input".to_owned(),
            Some(Err(error)) => format!("invalid JSON: {error}"),
        };
        let message = format!("could not read {name}");
        Err(Failure::new(Kind::Invalid, message).with_cause(cause))
    }

    /// Returns the failure of a document that does not contain `expected`.
    pub(super) fn missing(&self, expected: &str, cause: impl AsRef<str>) -> Failure {
        let message = format!("{} does not contain valid {expected}", self.name);
        Failure::new(Kind::Invalid, message).with_cause(cause)
    }

    /// Reads the object that is the value of the document.
    pub(super) fn object<'a, T: Deserialize<'a>>(&'a self, expected: &str) -> Result<T, Failure> {
        match self.value {
            Value::Object(_) => self.typed(),
            _ => Err(self.missing(expected, "expected a JSON object")),
        }
    }

    /// Reads at most `max` objects of the array that is the value of the document.
    pub(super) fn objects<'a, T: Deserialize<'a>>(
        &'a self,
        expected: &str,
        max: usize,
    ) -> Result<Vec<Object<T>>, Failure> {
        let Value::Array(values) = &self.value else {
            return Err(self.missing(expected, "expected a JSON array"));
        };
        if values.len() > max {
            let count = values.len();
            let cause = format!("it has {count} {expected}, and a request at most {max}");
            return Err(self.missing(expected, cause));
        }
        self.typed()
    }

    /// Deserializes the value, and warns of keys that it ignores.
    fn typed<'a, T: Deserialize<'a>>(&'a self) -> Result<T, Failure> {
        let mut track = Track::new();
        let mut unknown = UnknownKeys::default();
        let source = serde_path_to_error::Deserializer::new(&self.value, &mut track);
        let read = serde_ignored::deserialize(source, |path| unknown.add(&path));
        unknown.warn();
        read.map_err(|error| field_error(&track.path(), &error).into())
    }
}

/// Reads the file at `path`, or standard input for `-`; returns its name in error messages, and its
/// contents.
pub(super) fn read(path: &Path, limits: SizeLimits) -> Result<(String, Vec<u8>), Failure> {
    let is_stdin = path == Path::new("-");
    let (name, limit) = if is_stdin {
        ("standard input".to_owned(), limits.stdin)
    } else {
        (path.to_string_lossy().into_owned(), limits.file)
    };
    let opened: io::Result<Box<dyn Read>> = if is_stdin {
        Ok(Box::new(stdin("the document")))
    } else {
        File::open(path).map(|file| Box::new(file) as Box<dyn Read>)
    };
    let mut bytes = Vec::new();
    let read = opened.and_then(|source| source.take(limit + 1).read_to_end(&mut bytes));
    let read = read.and_then(|_| {
        if bytes.len() as u64 > limit {
            return Err(io::Error::other(FILE_TOO_BIG));
        }
        Ok(())
    });
    match read {
        Ok(()) => Ok((name, bytes)),
        Err(error) => {
            let kind = error.raw_os_error().map_or(Kind::Invalid, Kind::from_errno);
            let failure = Failure::new(kind, format!("could not read {name}"));
            Err(failure.with_cause(error.to_string()))
        }
    }
}

/// Spells known keys as the guide does; drops `null` members.
fn canonical(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let members = map.into_iter().filter(|(_, value)| !value.is_null());
            members
                .map(|(key, value)| (spelling(key), canonical(value)))
                .collect()
        }
        Value::Array(values) => values.into_iter().map(canonical).collect(),
        scalar => scalar,
    }
}

/// Returns the spelling of a key in the guide; an unknown key stays as it is.
pub(super) fn spelling(key: String) -> String {
    let plain = key.replace('_', "");
    let known = KEYS.iter().find(|known| known.eq_ignore_ascii_case(&plain));
    known.map_or(key, |known| (*known).to_owned())
}
