//! Command line of the agent.

use std::fmt;
use std::path::{Path, PathBuf};

use patchbay_netcfg::device::Sysfs;
use patchbay_netcfg::ethtool::EthtoolBackend;
use patchbay_types::InvalidValue;

use crate::log::LogLevel;
use crate::privileges::Access;

/// Address on which the agent serves the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// Vsock port, for the host (CID 2) only.
    Vsock(u32),
    /// Unix socket, for everyone who can open it: an agent without a VM.
    Unix(PathBuf),
}

/// Settings of the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Address to serve on; `None`: the sockets of the service manager, else the default vsock port.
    pub listen: Option<Listen>,
    /// Mount point of sysfs.
    pub sysfs: PathBuf,
    /// Kernel interface for setting queue counts.
    pub ethtool: EthtoolBackend,
    /// Path of the IPVS undo log. Must be on tmpfs: the log has to survive an agent crash but not a
    /// reboot.
    pub undo_log: Option<PathBuf>,
    /// Folder of the marks of cards for udev.
    pub card_marks: Option<PathBuf>,
    /// Folder with the sockets of the helpers, which the service manager starts; `None`: the agent starts them.
    pub helpers: Option<PathBuf>,
    /// Network namespace of an agent that a supervisor has started.
    pub netns: Option<PathBuf>,
    /// Lowest level of the log.
    pub log_level: LogLevel,
}

/// Purpose of a start of the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Invocation {
    /// Prints [`HELP`].
    Help,
    /// Prints the version.
    Version,
    /// Serves.
    Serve(Config),
}

/// Text of `--help`.
pub const HELP: &str = "\
Usage: patchbay-agent [OPTIONS]

Configures the network of this guest at the request of its host.

Options:
  --listen vsock:PORT | unix:/PATH
      Address to serve on. Without it, the sockets of the service manager, and without these vsock port 961
  --undo-log /PATH
      File on a tmpfs by which the next agent undoes a change of IPVS during which this one is killed
  --card-marks /PATH
      Folder for the marks by which udev recognizes the cards of patchbay
  --helpers /PATH
      Folder with the sockets of the processes that load modules and enter other network namespaces, which the
      service manager starts; without it, the agent starts them
  --sysfs /PATH
      Mount point of sysfs, by default /sys
  --ethtool auto | ioctl
      Kernel interface for the number of queues
  --log-level error | warn | info | debug
      Lowest level of the log, by default info; requests that only read are at level debug
  --help
      Prints this text
  --version
      Prints the version
";

const RULE: &str = "the options are --listen vsock:PORT | unix:/PATH, --sysfs /PATH, \
                    --ethtool auto | ioctl, --undo-log /PATH, --card-marks /PATH, --helpers /PATH, \
                    --log-level error | warn | info | debug, --help and --version";

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vsock(port) => write!(f, "vsock:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Invocation {
    /// Parses the arguments after the program's name.
    ///
    /// # Errors
    /// An unknown option, or one without a valid value.
    pub fn parse(args: impl IntoIterator<Item = String>) -> Result<Self, InvalidValue> {
        let mut config = Config {
            listen: None,
            sysfs: PathBuf::from("/sys"),
            ethtool: EthtoolBackend::Auto,
            undo_log: None,
            card_marks: None,
            helpers: None,
            netns: None,
            log_level: LogLevel::default(),
        };
        let mut args = args.into_iter();
        while let Some(option) = args.next() {
            match option.as_str() {
                "--help" => return Ok(Self::Help),
                "--version" => return Ok(Self::Version),
                _ => {}
            }
            let invalid = || InvalidValue::new(&option, RULE);
            let value = args.next().ok_or_else(invalid)?;
            match (option.as_str(), value.split_once(':')) {
                ("--listen", Some(("vsock", "any"))) => {
                    config.listen = Some(Listen::Vsock(libc::VMADDR_PORT_ANY));
                }
                ("--listen", Some(("vsock", port))) => {
                    let port = port.parse().map_err(|_| invalid())?;
                    config.listen = Some(Listen::Vsock(port));
                }
                ("--listen", Some(("unix", path))) => {
                    config.listen = Some(Listen::Unix(path.into()));
                }
                ("--sysfs", _) => config.sysfs = value.into(),
                ("--undo-log", _) => config.undo_log = Some(value.into()),
                ("--card-marks", _) => config.card_marks = Some(value.into()),
                ("--log-level", _) => config.log_level = value.parse()?,
                ("--helpers", _) => config.helpers = Some(value.into()),
                ("--netns", _) => config.netns = Some(value.into()),
                ("--ethtool", None) if value == "auto" => config.ethtool = EthtoolBackend::Auto,
                ("--ethtool", None) if value == "ioctl" => config.ethtool = EthtoolBackend::Ioctl,
                _ => return Err(invalid()),
            }
        }
        Ok(Self::Serve(config))
    }
}

impl Config {
    /// Returns the folders that the agent needs.
    #[must_use]
    pub fn folders(&self) -> Vec<(PathBuf, Access)> {
        let undo = self.undo_log.as_deref().and_then(Path::parent);
        let own = undo.into_iter().chain(self.card_marks.as_deref());
        let own = own.map(|folder| (folder.to_owned(), Access::Create));
        let kernel = [
            (PathBuf::from("/proc"), Access::Read),
            (PathBuf::from("/proc/sys/net"), Access::Write),
            (self.sysfs.clone(), Access::Read),
            (self.sysfs.join(Sysfs::SLOTS), Access::Power),
        ];
        kernel.into_iter().chain(own).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Config, String> {
        match Invocation::parse(args.iter().map(ToString::to_string)) {
            Ok(Invocation::Serve(config)) => Ok(config),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn config_without_options_names_no_address() {
        assert_eq!(parse(&[]).unwrap().listen, None);
    }

    #[test]
    fn config_accepts_all_options() {
        assert_eq!(
            parse(&["--listen", "vsock:7"]).unwrap().listen,
            Some(Listen::Vsock(7))
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
            "--card-marks",
            "/run/marks",
            "--log-level",
            "debug",
            "--helpers",
            "/run/helpers",
        ])
        .unwrap();
        assert_eq!(unix.ethtool, EthtoolBackend::Ioctl);
        assert_eq!(unix.listen, Some(Listen::Unix("/run/a.sock".into())));
        assert_eq!(unix.sysfs, PathBuf::from("/tmp/s"));
        assert_eq!(unix.undo_log, Some(PathBuf::from("/run/a.undo")));
        assert_eq!(unix.card_marks, Some(PathBuf::from("/run/marks")));
        assert_eq!(unix.helpers, Some(PathBuf::from("/run/helpers")));
        assert_eq!(unix.log_level.to_string(), "debug");
    }

    #[test]
    fn config_help_and_version_need_no_value() {
        let parse = |words: &[&str]| Invocation::parse(words.iter().map(ToString::to_string));
        assert_eq!(parse(&["--help"]), Ok(Invocation::Help));
        let behind = ["--listen", "vsock:7", "--version"];
        assert_eq!(parse(&behind), Ok(Invocation::Version));
        // A value of another option.
        let error = parse(&["--log-level", "--help"]).unwrap_err().to_string();
        assert!(error.starts_with("'--help' is not allowed: --log-level must be error, "));
    }

    /// Options with their values, in the order of the text.
    fn options<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<String> {
        let options = lines.filter_map(|line| line.strip_prefix("--"));
        options.map(str::to_owned).collect()
    }

    #[test]
    fn options_of_help_are_those_of_the_manual_page_and_the_rule() {
        let page = include_str!("../../../docs/man/patchbay-agent.8");
        let page = page
            .replace(r"\-", "-")
            .replace(r"\fI", "")
            .replace(r"\fR", "");
        let in_page = page.lines().filter_map(|line| line.strip_prefix(".BR "));
        let plain =
            in_page.map(|line| line.replace(" \"", "").replace('"', "").replace(r"\fP", ""));
        let in_page: Vec<_> = plain.collect();
        let in_page = options(in_page.iter().map(String::as_str));
        let in_help = options(HELP.lines().map(str::trim_start));
        assert_eq!(in_page, in_help);
        assert_eq!(in_help.len(), 9);
        for option in in_help {
            assert!(RULE.contains(&format!("--{option}")), "{option}");
        }
    }

    #[test]
    fn config_invalid_option_names_the_rule() {
        for args in [
            &["--listen"][..],
            &["--listen", "tcp:1"],
            &["--listen", "vsock:x"],
            &["x", "y"],
            &["--ethtool", "x"],
        ] {
            assert!(
                parse(args).unwrap_err().contains("--listen vsock:PORT"),
                "{args:?}"
            );
        }
    }
}
