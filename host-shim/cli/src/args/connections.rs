//! Arguments of `ipvs ID drain` and `ipvs ID end-connections`.

use std::time::Duration;

use clap::{Args, Parser};
use patchbay_types::ipvs::{ServerFilter, ServiceFilter, Target};

/// Names of the commands; ipvsadm has no words that begin like these.
const NAMES: [&str; 2] = ["drain", "end-connections"];

/// Maximum time of a drain in seconds.
const MAX_DRAIN: u64 = 3600;

/// Commands behind the ID of `ipvs` that ipvsadm doesn't have.
#[derive(Debug, Parser)]
#[command(
    name = "patchbay ipvs ID",
    no_binary_name = true,
    disable_help_subcommand = true
)]
pub(crate) enum ConnectionsCommand {
    /// Set the weight of servers to 0, wait until none of their connections is active, end the rest
    ///
    /// The servers keep the weight 0. Interrupted, the command restores their weights.
    Drain(DrainArgs),
    /// End the connections of servers at once
    ///
    /// The servers are deleted and added again, with the same options and counters; those that were
    /// deleted before stay deleted. Their clients reconnect, to any server.
    EndConnections(ServersArgs),
}

impl ConnectionsCommand {
    /// Parses the words behind the ID; `None` if they are ipvsadm's. Exits with a message if they are
    /// invalid.
    pub(crate) fn parse_words(words: &[String]) -> Option<Self> {
        let first = words.first()?;
        NAMES
            .contains(&first.as_str())
            .then(|| Self::parse_from(words))
    }
}

/// Arguments of `drain`.
#[derive(Debug, Args)]
pub(crate) struct DrainArgs {
    #[command(flatten)]
    pub(crate) servers: ServersArgs,
    /// Time after which active connections are ended, 0 to 3600 seconds
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    pub(crate) timeout: Duration,
}

/// Servers of a command.
#[derive(Debug, Args)]
pub(crate) struct ServersArgs {
    /// Address of the server, with or without a port; can be repeated
    #[arg(long = "server", value_name = "ADDRESS[:PORT]", required = true)]
    servers: Vec<Target>,
    /// Only as a server of this service: ADDRESS:PORT, tcp:ADDRESS:PORT, '-t ADDRESS:PORT' or fwmark:MARK
    #[arg(long, value_name = "SERVICE", allow_hyphen_values = true)]
    service: Option<ServiceFilter>,
}

impl ServersArgs {
    pub(crate) fn filters(&self) -> Vec<ServerFilter> {
        let filter = |server: &Target| ServerFilter {
            server: *server,
            service: self.service,
        };
        self.servers.iter().map(filter).collect()
    }

    /// Returns the servers as a text for people.
    pub(crate) fn names(&self) -> String {
        let names: Vec<String> = self.servers.iter().map(ToString::to_string).collect();
        names.join(", ")
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(number @ 0..=MAX_DRAIN) => Ok(Duration::from_secs(number)),
        _ => Err(format!("must be 0 to {MAX_DRAIN} seconds")),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(words: &str) -> Result<ConnectionsCommand, clap::Error> {
        ConnectionsCommand::try_parse_from(words.split(' '))
    }

    #[test]
    fn connections_command_is_consistent() {
        ConnectionsCommand::command().debug_assert();
        let words: Vec<String> = ["-L", "drain"].map(str::to_owned).into();
        assert!(ConnectionsCommand::parse_words(&words).is_none());
    }

    #[test]
    fn drain_words_are_checked() {
        let ConnectionsCommand::Drain(args) =
            parse("drain --server 10.0.0.1:80 --server fd00::1 --service udp:10.0.0.9:53").unwrap()
        else {
            panic!();
        };
        assert_eq!(args.timeout, Duration::from_secs(60));
        assert_eq!(args.servers.filters().len(), 2);
        assert_eq!(args.servers.names(), "10.0.0.1:80, fd00::1");
        for (words, rule) in [
            ("drain", "--server"),
            ("drain --server x", "ADDRESS:PORT"),
            ("drain --server 10.0.0.1 --timeout 3601", "0 to 3600"),
            ("end-connections --server 10.0.0.1 --timeout 1", "--timeout"),
            (
                "end-connections --server 10.0.0.1 --service x",
                "fwmark:MARK",
            ),
        ] {
            let error = parse(words).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains(rule), "{words}: {error}");
        }
    }
}
