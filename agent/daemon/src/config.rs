//! The agent's own settings, from its command line.

use std::path::PathBuf;

use patchbay_netcfg::ethtool::EthtoolBackend;
use patchbay_types::InvalidValue;
use patchbay_types::endpoint::DEFAULT_PORT;

/// Where the agent waits for the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// This vsock port, for the host (CID 2) only.
    Vsock(u32),
    /// This Unix socket, for whoever may open it: an agent without a VM.
    Unix(PathBuf),
}

/// All settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where it waits.
    pub listen: Listen,
    /// Where sysfs is mounted.
    pub sysfs: PathBuf,
    /// How queues are set.
    pub ethtool: EthtoolBackend,
    /// Where it keeps what leads back should it be killed at a rule file: a file that nothing
    /// outlives but the agent.
    pub undo_log: Option<PathBuf>,
}

const RULE: &str = "the agent takes --listen vsock:PORT | unix:/PATH, --sysfs /PATH, --ethtool auto | ioctl and --undo-log /PATH";

impl Config {
    /// Reads the words behind the program's name.
    ///
    /// # Errors
    /// A word that is not known, or one without its value.
    pub fn parse(words: impl IntoIterator<Item = String>) -> Result<Self, InvalidValue> {
        let mut config = Self {
            listen: Listen::Vsock(DEFAULT_PORT),
            sysfs: PathBuf::from("/sys"),
            ethtool: EthtoolBackend::Auto,
            undo_log: None,
        };
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let bad = || InvalidValue::new(&word, RULE);
            let value = words.next().ok_or_else(bad)?;
            match (word.as_str(), value.split_once(':')) {
                ("--listen", Some(("vsock", port))) => {
                    config.listen = Listen::Vsock(port.parse().map_err(|_| bad())?);
                }
                ("--listen", Some(("unix", path))) => config.listen = Listen::Unix(path.into()),
                ("--sysfs", _) => config.sysfs = value.into(),
                ("--undo-log", _) => config.undo_log = Some(value.into()),
                ("--ethtool", None) if value == "auto" => config.ethtool = EthtoolBackend::Auto,
                ("--ethtool", None) if value == "ioctl" => config.ethtool = EthtoolBackend::Ioctl,
                _ => return Err(bad()),
            }
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Config, String> {
        Config::parse(words.iter().map(ToString::to_string)).map_err(|bad| bad.to_string())
    }

    #[test]
    fn without_words_it_waits_on_the_default_port() {
        assert_eq!(parse(&[]).unwrap().listen, Listen::Vsock(1061));
    }

    #[test]
    fn both_kinds_of_listener_are_read() {
        assert_eq!(
            parse(&["--listen", "vsock:7"]).unwrap().listen,
            Listen::Vsock(7)
        );
        let unix = parse(&[
            "--listen",
            "unix:/run/a.sock",
            "--sysfs",
            "/tmp/s",
            "--ethtool",
            "ioctl",
            "--undo-log",
            "/run/a.undo",
        ])
        .unwrap();
        assert_eq!(unix.ethtool, EthtoolBackend::Ioctl);
        assert_eq!(unix.listen, Listen::Unix("/run/a.sock".into()));
        assert_eq!(unix.sysfs, PathBuf::from("/tmp/s"));
        assert_eq!(unix.undo_log, Some(PathBuf::from("/run/a.undo")));
    }

    #[test]
    fn anything_else_is_refused_with_the_rule() {
        for words in [
            &["--listen"][..],
            &["--listen", "tcp:1"],
            &["--listen", "vsock:x"],
            &["x", "y"],
            &["--ethtool", "x"],
        ] {
            assert!(
                parse(words).unwrap_err().contains("--listen vsock:PORT"),
                "{words:?}"
            );
        }
    }
}
