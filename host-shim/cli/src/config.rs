//! Configuration of `patchbay` on a host: `config.toml`, which docs/config.md describes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use patchbay_host::sandbox::{self, NamedMachine, SandboxId};
use patchbay_types::endpoint::Endpoint;
use patchbay_types::failure::Failure;
use serde::{Deserialize, Deserializer, de};

use crate::output::OutputFormat;

/// Contents of the file; each member is optional.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", expecting = "a table")]
pub(crate) struct Config {
    /// Defaults of options.
    #[serde(default)]
    pub(crate) defaults: Defaults,
    /// The program that a link named `kata-runtime` runs for commands that patchbay doesn't have.
    #[serde(default)]
    pub(crate) kata_runtime: KataRuntime,
    /// Machines by their names.
    #[serde(default)]
    sandboxes: BTreeMap<Id, Machine>,
}

/// Defaults of options.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct Defaults {
    /// Seconds of `--timeout`.
    #[serde(default, deserialize_with = "seconds")]
    pub(crate) timeout: Option<u64>,
    /// Word of `--format`.
    #[serde(default, deserialize_with = "format")]
    pub(crate) format: Option<OutputFormat>,
}

/// The other `kata-runtime` of this host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct KataRuntime {
    #[serde(default, deserialize_with = "some_absolute")]
    pub(crate) path: Option<PathBuf>,
}

/// Access to a machine.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
struct Machine {
    /// `None`: the monitor of the domain of libvirt with this name.
    #[serde(default, deserialize_with = "some_absolute")]
    qmp: Option<PathBuf>,
    #[serde(deserialize_with = "parsed")]
    agent: Endpoint,
    netns: Option<String>,
}

/// Key that is an id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Id(SandboxId);

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        parsed(from).map(Self)
    }
}

impl Config {
    const PATH: &str = "/etc/patchbay/config.toml";

    /// Reads the file; a missing one configures nothing.
    ///
    /// # Errors
    /// A file that another user can change, that can't be read, or with an unknown key or another value
    /// than a key can have.
    pub(crate) fn read() -> Result<Self, Failure> {
        let path = std::env::var_os("PATCHBAY_CONFIG");
        let path = path.as_deref().map_or(Path::new(Self::PATH), Path::new);
        match sandbox::bytes_if_exists(path)? {
            Some(bytes) => parse(&bytes).map_err(|cause| sandbox::invalid_file(path, &cause)),
            None => Ok(Self::default()),
        }
    }

    /// Returns the machines that have names.
    pub(crate) fn machines(self) -> BTreeMap<SandboxId, NamedMachine> {
        let machines = self.sandboxes.into_iter().map(|(Id(id), machine)| {
            let Machine { qmp, agent, netns } = machine;
            let netns = netns.map(PathBuf::from);
            (id, NamedMachine { qmp, agent, netns })
        });
        machines.collect()
    }
}

/// Parses the text; an error begins with its line.
fn parse(bytes: &[u8]) -> Result<Config, String> {
    let error = match toml::from_slice(bytes) {
        Ok(config) => return Ok(config),
        Err(error) => error,
    };
    let before = &bytes[..error.span().map_or(0, |span| span.start).min(bytes.len())];
    let line = before.split(|byte| *byte == b'\n').count();
    Err(format!("line {line}: {}", error.message()))
}

fn seconds<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    let rule = "timeout must be a number, 1 to 300 seconds";
    match u64::deserialize(from) {
        Ok(seconds @ 1..=300) => Ok(Some(seconds)),
        _ => Err(de::Error::custom(rule)),
    }
}

fn format<'de, D: Deserializer<'de>>(from: D) -> Result<Option<OutputFormat>, D::Error> {
    let text = String::deserialize(from)?;
    let known = <OutputFormat as clap::ValueEnum>::from_str(&text, false);
    let rule = || format!("format '{text}' is not allowed: it must be json or table");
    known.map(Some).map_err(|_| de::Error::custom(rule()))
}

fn some_absolute<'de, D: Deserializer<'de>>(from: D) -> Result<Option<PathBuf>, D::Error> {
    absolute(from).map(Some)
}

fn absolute<'de, D: Deserializer<'de>>(from: D) -> Result<PathBuf, D::Error> {
    let path = PathBuf::from(String::deserialize(from)?);
    if path.is_absolute() {
        return Ok(path);
    }
    let rule = format!(
        "path '{}' is not allowed: it must be absolute",
        path.display()
    );
    Err(de::Error::custom(rule))
}

fn parsed<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    String::deserialize(from)?
        .parse()
        .map_err(de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_example_of_the_tree_has_every_key() {
        let text = include_str!("../../../deploy/config.toml");
        assert_eq!(parse(text.as_bytes()).unwrap(), Config::default());
        let is_prose = |line: &&str| !line.starts_with("# ");
        let every: Vec<_> = text.lines().filter(is_prose).collect();
        let every = every.join("\n").replace("\n#", "\n");
        let config = parse(every.as_bytes()).unwrap();
        assert!(config.defaults.timeout.is_some() && config.defaults.format.is_some());
        assert!(config.kata_runtime.path.is_some());
        let machine = &config.machines()[&"vm1".parse().unwrap()];
        assert!(machine.netns.is_some());
    }

    #[test]
    fn parse_invalid_text_names_line_and_rule() {
        for (text, error) in [
            (
                "\n\n[defaults]\ntimeuot = 1",
                "line 4: unknown field `timeuot`, expected `timeout` or `format`",
            ),
            ("[default]", "line 1: unknown field `default`"),
            (
                "[defaults]\ntimeout = 0",
                "line 2: timeout must be a number, 1 to 300 seconds",
            ),
            (
                "[defaults]\ntimeout = \"1\"",
                "line 2: timeout must be a number, 1 to 300 seconds",
            ),
            (
                "[defaults]\nformat = \"xml\"",
                "line 2: format 'xml' is not allowed: it must be json or table",
            ),
            (
                "\n[kata-runtime]\npath = \"bin/kata\"",
                "line 3: path 'bin/kata' is not allowed: it must be absolute",
            ),
            (
                "[sandboxes.\"../x\"]\nqmp = \"/q\"\nagent = \"vsock://3:961\"",
                "line 1: '../x' is not allowed",
            ),
            (
                "[sandboxes.a]\nqmp = \"/q\"\nagent = \"tcp://3\"",
                "line 3: 'tcp://3' is not allowed",
            ),
            (
                "[sandboxes.a]\nqmp = \"/q\"",
                "line 1: missing field `agent`",
            ),
            ("x = 1\n[", "line 2: "),
        ] {
            let found = parse(text.as_bytes()).unwrap_err();
            assert!(found.starts_with(error), "{text}: {found}");
        }
    }
}
