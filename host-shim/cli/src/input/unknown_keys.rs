//! Keys of a document that no field has.

use serde_ignored::Path;

/// Maximum number of keys that are named.
const MAX_NAMED: usize = 8;
/// Maximum length of a path in a message, in characters.
const MAX_SHOWN: usize = 64;

/// Ignored keys.
#[derive(Debug, Default)]
pub(super) struct UnknownKeys {
    named: Vec<UnknownKey>,
    /// Number of keys beyond the limit.
    others: usize,
}

#[derive(Debug)]
struct UnknownKey {
    name: String,
    /// Place of the first.
    path: String,
    count: usize,
}

impl UnknownKeys {
    /// Adds the key at the end of a path.
    pub(super) fn add(&mut self, path: &Path<'_>) {
        let Path::Map { key, .. } = path else {
            return;
        };
        if let Some(known) = self.named.iter_mut().find(|known| known.name == *key) {
            known.count += 1;
        } else if self.named.len() < MAX_NAMED {
            self.named.push(UnknownKey {
                name: key.clone(),
                path: text(path).chars().take(MAX_SHOWN).collect(),
                count: 1,
            });
        } else {
            self.others += 1;
        }
    }

    /// Emits a warning for each key.
    pub(super) fn warn(&self) {
        for line in self.lines() {
            tracing::warn!("{line}");
        }
    }

    fn lines(&self) -> Vec<String> {
        let line = |UnknownKey { path, count, .. }: &UnknownKey| match count {
            1 => format!("unknown key '{path}' is ignored"),
            _ => format!("unknown key '{path}' is ignored, {count} times"),
        };
        let others = match self.others {
            0 => None,
            count => Some(format!("{count} more unknown keys are ignored")),
        };
        self.named.iter().map(line).chain(others).collect()
    }
}

/// Formats a path as error messages do: `[3].gateway`.
fn text(path: &Path<'_>) -> String {
    match path {
        Path::Root => String::new(),
        Path::Seq { parent, index } => format!("{}[{index}]", text(parent)),
        Path::Map { parent, key } => match text(parent) {
            outer if outer.is_empty() => key.clone(),
            outer => format!("{outer}.{key}"),
        },
        Path::Some { parent }
        | Path::NewtypeStruct { parent }
        | Path::NewtypeVariant { parent } => text(parent),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::{Value, json};

    use super::*;

    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only the names of the fields count")]
    struct Outer {
        inner: Option<Vec<Inner>>,
    }

    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only the names of the fields count")]
    struct Inner {
        known: u8,
    }

    fn lines(document: &Value) -> Vec<String> {
        let mut unknown = UnknownKeys::default();
        let read: Result<Outer, _> =
            serde_ignored::deserialize(document, |path| unknown.add(&path));
        assert!(read.is_ok(), "{document}");
        unknown.lines()
    }

    #[test]
    fn unknown_keys_are_named_once_with_their_place() {
        let document = json!({
            "inner": [{"known": 1, "a": 0}, {"known": 2, "a": null, "b": {"c": 1}}],
            "known": 3,
        });
        assert_eq!(
            lines(&document),
            [
                "unknown key 'inner[0].a' is ignored, 2 times",
                "unknown key 'inner[1].b' is ignored",
                "unknown key 'known' is ignored",
            ]
        );
        assert!(lines(&json!({"inner": [{"known": 1}]})).is_empty());
    }

    #[test]
    fn unknown_keys_are_bounded() {
        let many = (0..100).map(|n| (format!("{n}{}", "x".repeat(1000)), json!(n)));
        let lines = lines(&many.collect());
        assert_eq!(lines.len(), MAX_NAMED + 1);
        assert_eq!(lines[MAX_NAMED], "92 more unknown keys are ignored");
        assert!(lines.iter().all(|line| line.len() < 100), "{lines:?}");
    }
}
