//! Environment variables of a CNI plugin.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use patchbay_host::sandbox::SandboxId;
use patchbay_types::{FieldError, InvalidValue, LinkName};

use super::error::{CniError, Code};

const COMMAND: &str = "CNI_COMMAND";
const CONTAINER: &str = "CNI_CONTAINERID";
const NETNS: &str = "CNI_NETNS";
const IFNAME: &str = "CNI_IFNAME";

/// Looks up a variable.
pub(super) type Lookup<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// Command of a runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    /// Needs no configuration.
    Version,
    Run(Operation),
}

/// Operation with a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Add,
    Del,
    Check,
    Gc,
    Status,
}

impl Operation {
    /// Returns the name in metrics.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Add => "cni add",
            Self::Del => "cni del",
            Self::Check => "cni check",
            Self::Gc => "cni gc",
            Self::Status => "cni status",
        }
    }
}

impl Command {
    /// Reads the command.
    pub(super) fn read(lookup: Lookup<'_>) -> Result<Self, CniError> {
        let value = required(lookup, COMMAND)?;
        let operation = match value.to_str() {
            Some("ADD") => Operation::Add,
            Some("DEL") => Operation::Del,
            Some("CHECK") => Operation::Check,
            Some("GC") => Operation::Gc,
            Some("STATUS") => Operation::Status,
            Some("VERSION") => return Ok(Self::Version),
            _ => {
                let rule = "it must be ADD, DEL, CHECK, GC, STATUS or VERSION";
                let invalid = InvalidValue::new(&value.display(), rule);
                return Err(environment(invalid.in_field(COMMAND)));
            }
        };
        Ok(Self::Run(operation))
    }
}

/// Interface of a container.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// Id of the container, which is that of its sandbox.
    pub(super) container: SandboxId,
    /// Name of the interface in the network namespace.
    pub(super) ifname: LinkName,
    /// Network namespace; `None` if the runtime does not know it any more.
    pub(super) netns: Option<PathBuf>,
}

impl Target {
    /// Reads the target of DEL.
    pub(super) fn read(lookup: Lookup<'_>) -> Result<Self, CniError> {
        let netns = lookup(NETNS).filter(|path| !path.is_empty());
        let netns = netns.map(PathBuf::from);
        if let Some(relative) = netns.as_deref().filter(|path| !path.is_absolute()) {
            let invalid = InvalidValue::new(&relative.display(), "it must be an absolute path");
            return Err(environment(invalid.in_field(NETNS)));
        }
        let of =
            |name: &'static str| move |invalid: InvalidValue| environment(invalid.in_field(name));
        let container = required(lookup, CONTAINER)?;
        let container = container.to_string_lossy().parse().map_err(of(CONTAINER))?;
        let ifname = required(lookup, IFNAME)?;
        let ifname = LinkName::try_from(OsStr::as_bytes(&ifname)).map_err(of(IFNAME))?;
        Ok(Self {
            container,
            ifname,
            netns,
        })
    }

    /// Returns the network namespace, which ADD and CHECK need.
    pub(super) fn netns(&self) -> Result<&Path, CniError> {
        let missing = || environment(FieldError::missing(NETNS));
        self.netns.as_deref().ok_or_else(missing)
    }
}

fn required(lookup: Lookup<'_>, name: &'static str) -> Result<OsString, CniError> {
    let value = lookup(name).filter(|value| !value.is_empty());
    value.ok_or_else(|| environment(FieldError::missing(name)))
}

fn environment(error: FieldError) -> CniError {
    CniError::new(Code::InvalidEnvironment, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: [(&str, &str); 4] = [
        (COMMAND, "ADD"),
        (CONTAINER, "6ec7a98"),
        (NETNS, "/run/netns/a"),
        (IFNAME, "net1"),
    ];

    /// Reads the variables with one of them replaced.
    fn read(name: &str, value: &str) -> Result<(Command, Target), String> {
        let lookup = |wanted: &str| {
            let value_of = |known: &str, good| if known == name { value } else { good };
            let found = GOOD.iter().find(|(known, _)| *known == wanted);
            found.map(|(known, good)| value_of(known, *good).into())
        };
        let read = || {
            let command = Command::read(&lookup)?;
            let target = Target::read(&lookup)?;
            target.netns()?;
            Ok((command, target))
        };
        read().map_err(|error: CniError| {
            assert_eq!(error.code, Code::InvalidEnvironment);
            error.line()
        })
    }

    #[test]
    fn target_has_all_variables() {
        let (command, target) = read("", "").unwrap();
        assert_eq!(command, Command::Run(Operation::Add));
        assert_eq!(target.container.as_str(), "6ec7a98");
        assert_eq!(target.ifname.to_string(), "net1");
        assert_eq!(target.netns(), Ok(Path::new("/run/netns/a")));
        for name in ["DEL", "CHECK", "GC", "STATUS", "VERSION"] {
            read(COMMAND, name).unwrap();
        }
    }

    #[test]
    fn invalid_variable_is_named() {
        for (name, value, message) in [
            (COMMAND, "", "missing field CNI_COMMAND"),
            (
                COMMAND,
                "add",
                "CNI_COMMAND 'add' is not allowed: it must be ADD, DEL, CHECK, GC, STATUS or VERSION",
            ),
            (CONTAINER, "", "missing field CNI_CONTAINERID"),
            (
                CONTAINER,
                "../a",
                "CNI_CONTAINERID '../a' is not allowed: an id has 1 to 128 letters, digits, '_', '.' and \
                 '-', and starts with a letter or digit",
            ),
            (NETNS, "", "missing field CNI_NETNS"),
            (
                NETNS,
                "netns/a",
                "CNI_NETNS 'netns/a' is not allowed: it must be an absolute path",
            ),
            (IFNAME, "", "missing field CNI_IFNAME"),
            (
                IFNAME,
                "a/b",
                "CNI_IFNAME 'a/b' is not allowed: an interface name has 1 to 15 bytes, no blank, '/' or \
                 ':', and is none of '.', '..', 'all' and 'default'",
            ),
        ] {
            assert_eq!(read(name, value).unwrap_err(), message, "{name}={value}");
        }
    }
}
