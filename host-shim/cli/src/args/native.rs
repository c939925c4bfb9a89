//! The words of the native commands: flags where the incumbent takes JSON.

use clap::{Args, Subcommand};
use patchbay_types::{
    IfName, InterfaceAddress, InvalidValue, MacAddr, Mtu, QueuePairs, SocketPath,
};

use crate::input::route::RouteText;
use patchbay_host::card::{Backend, Listener};

/// The sub-commands of `nic`.
#[derive(Debug, Subcommand)]
pub enum Nic {
    /// Plug a card into a running sandbox and configure it inside
    Add(NicAdd),
    /// Unplug a card
    Del(NicName),
    /// List the cards that were plugged, as the guest has them now
    List(NativeList),
    /// Change the addresses or the MTU of an interface inside
    Set(NicSet),
}

/// How to print; by default a table on a terminal and JSON elsewhere.
#[derive(Debug, Args)]
pub struct Printing {
    /// Print JSON, also on a terminal
    #[arg(long)]
    pub(crate) json: bool,
}

/// What shall be behind a card on the host: one of these.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct BehindWords {
    /// TAP device on the host; one that is missing is made
    #[arg(long, value_name = "DEVICE")]
    pub(crate) tap: Option<IfName>,
    /// Socket of a vhost-user backend to which QEMU connects
    #[arg(long, value_name = "SOCKET")]
    pub(crate) vhost_user: Option<SocketPath>,
    /// Socket on which QEMU waits for a vhost-user backend
    #[arg(long, value_name = "SOCKET")]
    pub(crate) vhost_user_server: Option<SocketPath>,
}

impl BehindWords {
    /// The host's device and the way to it. A socket has no device name: the card's serves.
    pub(crate) fn backend(&self, name: &IfName) -> (IfName, Backend) {
        let client = self
            .vhost_user
            .as_ref()
            .map(|socket| (socket, Listener::Backend));
        let server = self
            .vhost_user_server
            .as_ref()
            .map(|socket| (socket, Listener::Qemu));
        match client.or(server) {
            Some((socket, listener)) => {
                (name.clone(), Backend::VhostUser(socket.clone(), listener))
            }
            None => (
                self.tap.clone().unwrap_or_else(|| name.clone()),
                Backend::Tap,
            ),
        }
    }
}

/// What `nic add` needs.
#[derive(Debug, Args)]
pub struct NicAdd {
    #[command(flatten)]
    pub(crate) nic: NicName,
    #[command(flatten)]
    pub(crate) behind: BehindWords,
    /// MAC address
    #[arg(long)]
    pub(crate) mac: MacAddr,
    /// MTU in bytes, 68 to 9600
    #[arg(long, value_name = "BYTES", default_value = "1500", value_parser = mtu)]
    pub(crate) mtu: Mtu,
    /// Address with its prefix length; once for each
    #[arg(long, value_name = "ADDRESS/PREFIX", value_parser = address)]
    pub(crate) ip: Vec<InterfaceAddress>,
    /// Queue pairs, 1 to 256
    #[arg(long, value_name = "PAIRS", value_parser = queues)]
    pub(crate) queues: Option<QueuePairs>,
    /// Ask the other hosts on the link first whether they have one of the IPv6 addresses
    #[arg(long)]
    pub(crate) dad: bool,
    #[command(flatten)]
    pub(crate) printing: Printing,
}

/// A card.
#[derive(Debug, Args)]
pub struct NicName {
    /// Sandbox or container: its id, or a prefix of it that no other has
    pub(crate) id: String,
    /// Name of the card in the guest
    #[arg(long)]
    pub(crate) name: IfName,
}

/// What `nic set` needs.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("change").required(true).multiple(true))]
pub struct NicSet {
    #[command(flatten)]
    pub(crate) nic: NicName,
    /// Address with its prefix length; all that the interface shall have, once for each
    #[arg(long, value_name = "ADDRESS/PREFIX", value_parser = address, group = "change")]
    pub(crate) ip: Vec<InterfaceAddress>,
    /// Take all addresses off the interface
    #[arg(long, conflicts_with = "ip", group = "change")]
    pub(crate) no_ip: bool,
    /// MTU in bytes, 68 to 9600
    #[arg(long, value_name = "BYTES", value_parser = mtu, group = "change")]
    pub(crate) mtu: Option<Mtu>,
    /// Ask the other hosts on the link first whether they have one of the new IPv6 addresses
    #[arg(long)]
    pub(crate) dad: bool,
    #[command(flatten)]
    pub(crate) printing: Printing,
}

/// A sandbox, and how to print what it has.
#[derive(Debug, Args)]
pub struct NativeList {
    /// Sandbox or container: its id, or a prefix of it that no other has
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) printing: Printing,
}

/// Subcommands of `route`.
#[derive(Debug, Subcommand)]
pub enum RouteCommand {
    /// Add a route to the guest
    Add(RouteArgs),
    /// Delete every route of the guest that matches all given flags
    Del(RouteArgs),
    /// List the routes of the guest
    List(NativeList),
}

/// Arguments of `route add` and `route del`.
#[derive(Debug, Args)]
pub struct RouteArgs {
    /// Sandbox or container: its id, or a prefix of it that no other has
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) route: RouteText,
    #[command(flatten)]
    pub(crate) printing: Printing,
}

/// The sub-commands of `sysctl`.
#[derive(Debug, Subcommand)]
pub enum SysctlWords {
    /// List the settings that the guest's kernel has, what they may be, and what they do
    List(NativeList),
    /// Set one of them
    Set(SysctlSet),
}

/// What `sysctl set` needs.
#[derive(Debug, Args)]
pub struct SysctlSet {
    /// Sandbox or container: its id, or a prefix of it that no other has
    pub(crate) id: String,
    /// Which, as sysctl list names it; net.ipv4.vs. may stand before
    pub(crate) name: String,
    /// A number; for `sync_threshold` two
    #[arg(required = true, num_args = 1..=2, allow_negative_numbers = true)]
    pub(crate) value: Vec<String>,
}

fn number(text: &str, rule: &'static str) -> Result<u64, InvalidValue> {
    text.parse().map_err(|_| InvalidValue::new(text, rule))
}

fn mtu(text: &str) -> Result<Mtu, InvalidValue> {
    number(text, "an MTU is 68 to 9600 bytes").and_then(Mtu::try_from)
}

fn queues(text: &str) -> Result<QueuePairs, InvalidValue> {
    number(text, "a card has 1 to 256 queue pairs").and_then(QueuePairs::try_from)
}

fn address(text: &str) -> Result<InterfaceAddress, InvalidValue> {
    let bad = || InvalidValue::new(text, "an address is IPv4 or IPv6 text with /PREFIX");
    let (ip, prefix) = text.split_once('/').ok_or_else(bad)?;
    let ip = ip.parse().map_err(|_| bad())?;
    InterfaceAddress::new(ip, prefix.parse().map_err(|_| bad())?)
}
