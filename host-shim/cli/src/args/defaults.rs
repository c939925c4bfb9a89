//! Defaults of options from the configuration of the host.

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{Arg, ArgMatches, Command, CommandFactory, FromArgMatches, ValueEnum};

use super::CommandLine;
use crate::config::Defaults;
use crate::output::OutputFormat;

/// Commands whose output is the incumbent's.
const INCUMBENT: [&str; 2] = ["kata-network", "kata-ipvs"];

impl CommandLine {
    /// Parses a command line with these defaults.
    pub(super) fn try_parse_with(
        line: &[OsString],
        defaults: &Defaults,
    ) -> Result<Self, clap::Error> {
        let mut command = with_defaults(Self::command(), defaults);
        let mut matches = command.try_get_matches_from_mut(line).map_err(|stop| {
            match stop.kind() {
                // The command that was parsed lacks examples, which take time to make.
                ErrorKind::DisplayHelp | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
                    let documented = with_defaults(Self::command_with_examples(), defaults);
                    documented.try_get_matches_from(line).err().unwrap_or(stop)
                }
                _ => stop,
            }
        })?;
        let name = name(&matches);
        let parsed = Self::from_arg_matches_mut(&mut matches);
        let parsed = parsed.map_err(|error| error.format(&mut command))?;
        Ok(Self { name, ..parsed })
    }
}

fn name(mut matches: &ArgMatches) -> String {
    let mut names = Vec::new();
    while let Some((name, below)) = matches.subcommand() {
        names.push(name);
        matches = below;
    }
    names.join(" ")
}

fn with_defaults(command: Command, defaults: &Defaults) -> Command {
    let command = match defaults.timeout {
        Some(seconds) => command.mut_arg("timeout", |option| {
            option.default_value(seconds.to_string())
        }),
        None => command,
    };
    match defaults.format {
        Some(format) => with_format(command, format),
        None => command,
    }
}

/// Sets the default of `--format` of the native commands that have this format.
fn with_format(command: Command, format: OutputFormat) -> Command {
    let value = format.to_possible_value();
    let name = value.as_ref().map_or("", |value| value.get_name());
    let set = |option: Arg| {
        let known = option.get_possible_values();
        if option.get_id() == "format" && known.iter().any(|known| known.get_name() == name) {
            option
                .hide_default_value(true)
                .default_value(name.to_owned())
        } else {
            option
        }
    };
    let command = command.mut_args(set);
    command.mut_subcommands(|command| {
        if INCUMBENT.contains(&command.get_name()) {
            command
        } else {
            with_format(command, format)
        }
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{NicCommand, PatchbayCommand};
    use super::*;

    fn parse(line: &str, defaults: &Defaults) -> CommandLine {
        let line: Vec<_> = line.split(' ').map(OsString::from).collect();
        CommandLine::try_parse_with(&line, defaults).unwrap()
    }

    #[test]
    fn parse_configured_defaults_give_way_to_options() {
        let defaults = Defaults {
            timeout: Some(77),
            format: Some(OutputFormat::Table),
        };
        for (line, timeout, format) in [
            ("patchbay nic list a", 77, OutputFormat::Table),
            ("patchbay nic list a --json", 77, OutputFormat::Json),
            (
                "patchbay --timeout 5 nic list a --format json",
                5,
                OutputFormat::Json,
            ),
        ] {
            let parsed = parse(line, &defaults);
            assert_eq!(
                parsed.global.timeout,
                Duration::from_secs(timeout),
                "{line}"
            );
            let PatchbayCommand::Nic(NicCommand::List(args)) = parsed.command else {
                panic!("{line}");
            };
            assert_eq!(args.format.format(), format, "{line}");
        }
        let json = Defaults {
            timeout: None,
            format: Some(OutputFormat::Json),
        };
        let line = "patchbay kata-ipvs ipvsadm --parameters -L a";
        let PatchbayCommand::KataIpvs(command) = parse(line, &json).command else {
            panic!();
        };
        let super::super::KataIpvsCommand::Ipvsadm(args) = command else {
            panic!();
        };
        assert!(args.options.format.data().is_none());
    }
}
