//! JSON Schema of the documents, for editors.

use std::path::Path;

use schemars::{JsonSchema, Schema, schema_for};

use super::Sections;

/// Rules: a block of lines, or an array of lines.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only the schema counts")]
pub(super) enum Rules {
    Block(String),
    Lines(Vec<String>),
}

/// Value of a setting: a number, or two numbers as a text.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only the schema counts")]
pub(super) enum SysctlText {
    Number(i64),
    Text(String),
}

/// Returns the schema in the form of the file.
fn schema() -> String {
    let mut schema: Schema = schema_for!(Sections);
    schema.insert("title".to_owned(), "patchbay network document".into());
    let mut text = serde_json::to_string_pretty(&schema).unwrap();
    text.push('\n');
    text
}

/// `PATCHBAY_WRITE_SCHEMA=1` writes the file.
#[test]
fn schema_file_is_that_of_the_types() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/document.schema.json");
    let schema = schema();
    if std::env::var_os("PATCHBAY_WRITE_SCHEMA").is_some() {
        std::fs::write(&path, &schema).unwrap();
    }
    let file = std::fs::read_to_string(&path).unwrap();
    assert!(
        file == schema,
        "docs/document.schema.json is not current: run this test with PATCHBAY_WRITE_SCHEMA=1"
    );
}
