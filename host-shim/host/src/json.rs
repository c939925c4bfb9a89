//! JSON documents: errors in terms of the document, without the names of serde and of Rust types.

use std::fmt;
use std::marker::PhantomData;

use patchbay_types::{FieldError, InvalidValue};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_path_to_error::{Path, Segment, Track};

/// Name of the outermost value.
const ROOT: &str = "the document";

/// JSON object. Without it, serde takes an array as the members of a struct in their order.
#[derive(Debug, Clone, Default)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(ObjectVisitor(PhantomData))
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Object)
    }
}

/// Deserializes the object in `bytes`.
///
/// # Errors
/// Text that is no JSON, or a value that violates a type.
pub fn object<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, JsonError> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let mut track = Track::new();
    let source = serde_path_to_error::Deserializer::new(&mut json, &mut track);
    let read = Object::<T>::deserialize(source).and_then(|Object(value)| {
        json.end()?;
        Ok(value)
    });
    read.map_err(|error| {
        if error.is_data() {
            JsonError::Field(field_error(&track.path(), &error))
        } else {
            JsonError::Syntax(error)
        }
    })
}

/// Unusable JSON text.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// Text that is no JSON.
    #[error("invalid JSON: {0}")]
    Syntax(serde_json::Error),
    /// Value that violates a type.
    #[error("{0}")]
    Field(FieldError),
}

/// Converts an error of serde at `path`.
#[must_use]
pub fn field_error(path: &Path, error: &serde_json::Error) -> FieldError {
    let message = error.to_string();
    // Followed by the place in the text, which the path replaces.
    let message = message
        .rsplit_once(" at line ")
        .map_or(&*message, |(m, _)| m);
    if let Some(field) = message.strip_prefix("missing field ") {
        return FieldError::missing(join(path, field.trim_matches('`')));
    }
    // The message of a constructor of this workspace.
    let own = message.strip_prefix('\'');
    let own = own.and_then(|own| own.split_once("' is not allowed: "));
    let invalid = match (own, message.rsplit_once(", expected ")) {
        (Some((value, rule)), _) => InvalidValue::new(value, rule.to_owned()),
        (None, Some((found, expected))) => InvalidValue::new(value(found), rule(expected)),
        (None, None) => InvalidValue::new("...", "it is given twice or is otherwise unusable"),
    };
    invalid.in_field(join(path, ""))
}

/// Formats a path as [`FieldError`] does: `IPAddresses[1].mask`.
fn join(path: &Path, member: &str) -> String {
    let mut text = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => text.extend(["[", &index.to_string(), "]"]),
            Segment::Map { key } | Segment::Enum { variant: key } => push(&mut text, key),
            Segment::Unknown => {}
        }
    }
    push(&mut text, member);
    if text.is_empty() {
        return ROOT.to_owned();
    }
    text
}

fn push(path: &mut String, member: &str) {
    if !path.is_empty() && !member.is_empty() {
        path.push('.');
    }
    path.push_str(member);
}

/// Returns the value that serde describes, as far as it shows it.
fn value(found: &str) -> &str {
    let kinds = ["invalid type: ", "invalid value: ", "unknown variant "];
    let found = kinds.iter().find_map(|kind| found.strip_prefix(kind));
    match found.unwrap_or_default() {
        "sequence" => "[...]",
        "map" => "{...}",
        "null" | "unit value" => "null",
        shown => {
            let quoted = shown.split('`').nth(1);
            shown.strip_prefix("string ").or(quoted).unwrap_or("...")
        }
    }
}

/// Returns the rule for the type that serde expects.
fn rule(expected: &str) -> String {
    let known = match expected {
        "u8" => "it must be an integer from 0 to 255",
        "u16" => "it must be an integer from 0 to 65535",
        "u32" => "it must be an integer from 0 to 4294967295",
        "u64" | "usize" => "it must be a non-negative integer",
        "i64" => "it must be an integer",
        "a string" | "path string" => "it must be a string",
        "a boolean" => "it must be true or false",
        "a sequence" => "it must be an array",
        "a map" => "it must be an object",
        "string or map" => "it must be a string or an object",
        name if name.starts_with("struct ") => "it must be an object",
        name if name.starts_with("one of `") || name.starts_with('`') => {
            return format!("it must be {}", name.replace('`', ""));
        }
        _ => "it has an unexpected type",
    };
    known.to_owned()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only the types of the fields count")]
    struct Document {
        path: PathBuf,
        #[serde(default)]
        mode: Mode,
        #[serde(default)]
        members: Vec<Object<Member>>,
    }

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only the types of the fields count")]
    struct Member {
        small: u16,
        number: Option<u64>,
        signed: Option<i64>,
        flag: Option<bool>,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Mode {
        #[default]
        First,
        Second,
    }

    fn error(text: &str) -> String {
        object::<Document>(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn error_names_field_value_and_rule() {
        for (text, expected) in [
            ("{}", "missing field path"),
            (
                "[\"a\"]",
                "the document '[...]' is not allowed: it must be an object",
            ),
            ("5", "the document '5' is not allowed: it must be an object"),
            (
                "{\"path\":null}",
                "path 'null' is not allowed: it must be a string",
            ),
            (
                "{\"path\":[1]}",
                "path '[...]' is not allowed: it must be a string",
            ),
            (
                "{\"path\":\"a\",\"mode\":\"third\"}",
                "mode 'third' is not allowed: it must be first or second",
            ),
            (
                "{\"path\":\"a\",\"members\":{}}",
                "members '{...}' is not allowed: it must be an array",
            ),
            (
                "{\"path\":\"a\",\"members\":[[1]]}",
                "members[0] '[...]' is not allowed: it must be an object",
            ),
            (
                "{\"path\":\"a\",\"members\":[{\"small\":1},{}]}",
                "missing field members[1].small",
            ),
        ] {
            assert_eq!(error(text), expected, "{text}");
        }
    }

    #[test]
    fn error_of_member_has_its_rule() {
        for (member, expected) in [
            (
                "\"small\":65536",
                "small '65536' is not allowed: it must be an integer from 0 to 65535",
            ),
            (
                "\"small\":1.5",
                "small '1.5' is not allowed: it must be an integer from 0 to 65535",
            ),
            (
                "\"small\":1,\"number\":-1",
                "number '-1' is not allowed: it must be a non-negative integer",
            ),
            (
                "\"small\":1,\"signed\":\"x, expected y\"",
                "signed '\\\"x, expected y\\\"' is not allowed: it must be an integer",
            ),
            (
                "\"small\":1,\"flag\":{}",
                "flag '{...}' is not allowed: it must be true or false",
            ),
        ] {
            let text = format!("{{\"path\":\"a\",\"members\":[{{{member}}}]}}");
            assert_eq!(error(&text), format!("members[0].{expected}"), "{text}");
        }
    }

    #[test]
    fn error_of_text_has_its_place() {
        assert!(error("{\"path\":").starts_with("invalid JSON: EOF"));
        assert!(error("{\"path\":\"a\"} x").starts_with("invalid JSON: trailing characters"));
    }
}
