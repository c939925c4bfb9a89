//! Data for programs: JSON and YAML.

use patchbay_types::failure::{Failure, Kind};
use patchbay_types::text::is_terminal_control;
use saphyr::{Scalar, Yaml, YamlEmitter};
use serde::Serialize;
use serde_json::Value;

use super::json::json_line;

/// Format of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum DocumentFormat {
    Yaml,
    Json,
}

impl DocumentFormat {
    /// Renders a value.
    pub(crate) fn render(self, value: &impl Serialize) -> Result<String, Failure> {
        match self {
            Self::Json => json_line(value),
            Self::Yaml => {
                let value = serde_json::to_value(value);
                yaml(&value.map_err(|error| Failure::of(Kind::Other, &error))?)
            }
        }
    }
}

fn yaml(document: &Value) -> Result<String, Failure> {
    let mut text = String::new();
    let mut emitter = YamlEmitter::new(&mut text);
    emitter.multiline(true);
    let result = emitter.dump(&as_yaml(document));
    result.map_err(|error| Failure::of(Kind::Other, &error))?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    // The emitter leaves some controls of terminals as they are. JSON escapes them, and is YAML.
    if text.contains(|c| c != '\n' && is_terminal_control(c)) {
        return Ok(format!("--- {}", json_line(document)?));
    }
    Ok(text)
}

fn as_yaml(value: &Value) -> Yaml<'_> {
    let scalar = |scalar| Yaml::Value(scalar);
    match value {
        Value::Null => scalar(Scalar::Null),
        Value::Bool(flag) => scalar(Scalar::Boolean(*flag)),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(integer), _) => scalar(Scalar::Integer(integer)),
            (None, Some(float)) if number.is_f64() => scalar(Scalar::FloatingPoint(float.into())),
            (None, _) => scalar(Scalar::String(number.to_string().into())),
        },
        Value::String(text) => scalar(Scalar::String(text.as_str().into())),
        Value::Array(values) => Yaml::Sequence(values.iter().map(as_yaml).collect()),
        Value::Object(members) => {
            let members = members.iter();
            let members = members.map(|(key, value)| (Yaml::value_from_str(key), as_yaml(value)));
            Yaml::Mapping(members.collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn render_text_of_a_guest_has_no_controls() {
        for format in [DocumentFormat::Json, DocumentFormat::Yaml] {
            let text = format
                .render(&json!([{"name": "\u{202e}a\u{9b}b\u{1b}"}]))
                .unwrap();
            assert!(
                !text.contains(|c| c != '\n' && is_terminal_control(c)),
                "{text:?}"
            );
        }
        let plain = DocumentFormat::Yaml.render(&json!([{"name": "eth1", "up": true}]));
        assert_eq!(plain.unwrap(), "---\n- name: eth1\n  up: true\n");
        let time = DocumentFormat::Yaml.render(&json!({"time": 1_795_795_953.143}));
        assert_eq!(time.unwrap(), "---\ntime: 1795795953.143\n");
    }
}
