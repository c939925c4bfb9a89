//! Arguments of the native commands, which take flags instead of JSON documents.

mod nic_set;

use std::net::IpAddr;
use std::time::Duration;

use clap::{Args, Subcommand};
use patchbay_host::card::{Backend, BridgePort, Listener};
use patchbay_host::mirror::DefaultRoute;
use patchbay_host::ops::{CardKey, Generated};
use patchbay_types::failure::{Failure, Kind};
use patchbay_types::{
    IfName, InterfaceAddress, InvalidValue, LinkLayerAddr, LinkName, MacAddr, Mtu, NeighborAddress,
    QueuePairs, SocketPath,
};

use super::{FormatArg, SandboxArg};
use crate::input::route::RouteText;
pub(crate) use nic_set::NicSetArgs;

/// Sub-commands of `nic`.
#[derive(Debug, Subcommand)]
pub(crate) enum NicCommand {
    /// Plug a card into a running sandbox and configure it in the guest
    Add(NicAddArgs),
    /// Unplug a card
    Del(CardArgs),
    /// Configure a card anew as it was requested last, for example after a restart of the guest
    Apply(NicApplyArgs),
    /// List plugged cards with their present configuration in the guest, or with their traffic
    List(NicListArgs),
    /// Show a card: its configuration in the guest, its device on the host, its traffic
    Show(NicShowArgs),
    /// Change an interface in the guest, or cable, bandwidth limits and VLAN of a card on the host
    Set(NicSetArgs),
}

/// Backend of a card on the host: one of these, or a TAP with a bridge.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub(crate) struct BackendArgs {
    /// TAP device on the host, created if it doesn't exist [default with --bridge: a generated name]
    #[arg(long, value_name = "DEVICE", conflicts_with_all = ["vhost_user", "vhost_user_server", "link"])]
    tap: Option<LinkName>,
    /// Bridge of the sandbox's network namespace, or of the host's, that the TAP device is put into while the card is plugged
    #[arg(long, value_name = "BRIDGE", conflicts_with_all = ["vhost_user", "vhost_user_server", "link"])]
    bridge: Option<LinkName>,
    /// Socket of a vhost-user backend that QEMU connects to
    #[arg(long, value_name = "SOCKET", conflicts_with_all = ["vhost_user_server", "link"])]
    vhost_user: Option<SocketPath>,
    /// Socket on which QEMU listens for a vhost-user backend
    #[arg(long, value_name = "SOCKET", conflicts_with = "link")]
    vhost_user_server: Option<SocketPath>,
    /// Link of the sandbox's network namespace that the card replaces; it determines everything but name and queues
    #[arg(long, value_name = "LINK", conflicts_with_all = ["mac", "mtu", "ip", "dad"])]
    pub(crate) link: Option<LinkName>,
}

impl BackendArgs {
    /// Returns the device on the host and its backend. A TAP without a name has the generated one. A
    /// vhost-user socket has no device name, so the name of the card is used.
    pub(crate) fn backend(&self, name: &IfName, generated: &Generated) -> (LinkName, Backend) {
        let (socket, listener) = match (&self.vhost_user, &self.vhost_user_server) {
            (Some(socket), _) => (socket, Listener::Backend),
            (None, Some(socket)) => (socket, Listener::Qemu),
            (None, None) => {
                let device = self.tap.as_ref().unwrap_or(&generated.device);
                let bridge = self.bridge.clone();
                let port = bridge.map(|bridge| Backend::Bridge(BridgePort { bridge }));
                return (device.clone(), port.unwrap_or(Backend::Tap));
            }
        };
        (name.into(), Backend::VhostUser(socket.clone(), listener))
    }
}

/// Arguments of `nic add`.
#[derive(Debug, Args)]
pub(crate) struct NicAddArgs {
    #[command(flatten)]
    pub(crate) sandbox: SandboxArg,
    /// Name of the interface in the guest [default with --link: that of the link]
    #[arg(value_name = "NAME", required_unless_present_any = ["link", "name_option"])]
    name: Option<IfName>,
    /// The same as NAME
    #[arg(
        id = "name_option",
        long = "name",
        value_name = "NAME",
        conflicts_with = "name"
    )]
    name_option: Option<IfName>,
    #[command(flatten)]
    pub(crate) backend: BackendArgs,
    /// With --link: whether a default route of the link gives way to that of another card, or is preferred to it [default: keep]
    #[arg(long, value_name = "POLICY", requires = "link")]
    pub(crate) default_route: Option<DefaultRouteArg>,
    /// MAC address [default: a generated one, which stays the same for the sandbox and NAME]
    #[arg(long)]
    pub(crate) mac: Option<MacAddr>,
    /// MTU in bytes, 68 to 9600
    #[arg(long, value_name = "BYTES", default_value = "1500", value_parser = mtu)]
    pub(crate) mtu: Mtu,
    /// Address with its prefix length; can be repeated
    #[arg(long, value_name = "ADDRESS/PREFIX", value_parser = address)]
    pub(crate) ip: Vec<InterfaceAddress>,
    /// Number of queue pairs, 1 to 256
    #[arg(long, value_name = "PAIRS", value_parser = queues)]
    pub(crate) queues: Option<QueuePairs>,
    /// Perform duplicate address detection for the IPv6 addresses
    #[arg(long)]
    pub(crate) dad: bool,
    #[command(flatten)]
    pub(crate) format: FormatArg,
}

impl NicAddArgs {
    /// Returns the name, which is optional only with `--link`.
    pub(crate) fn name(&self) -> Option<&IfName> {
        self.name.as_ref().or(self.name_option.as_ref())
    }
}

/// Words of `--default-route`.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(crate) enum DefaultRouteArg {
    /// The default route of the guest by another card stays the only one
    Keep,
    /// That of the link is preferred as long as the card is plugged
    Take,
}

impl From<DefaultRouteArg> for DefaultRoute {
    fn from(arg: DefaultRouteArg) -> Self {
        match arg {
            DefaultRouteArg::Keep => Self::Keep,
            DefaultRouteArg::Take => Self::Take,
        }
    }
}

/// Card of a sandbox, by exactly one of these.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("card").required(true))]
pub(crate) struct CardArgs {
    #[command(flatten)]
    pub(crate) sandbox: SandboxArg,
    /// Name under which the card was plugged, or its present name in the guest
    #[arg(long, group = "card")]
    name: Option<LinkName>,
    /// MAC address with which the card was plugged
    #[arg(long, group = "card")]
    mac: Option<MacAddr>,
}

impl CardArgs {
    /// Returns the key; clap has checked that there is one.
    pub(crate) fn key(&self) -> Result<CardKey, Failure> {
        match (&self.name, self.mac) {
            (Some(name), _) => Ok(CardKey::Name(name.clone())),
            (None, Some(mac)) => Ok(CardKey::Mac(mac)),
            (None, None) => Err(Failure::new(Kind::Invalid, "--name or --mac is needed")),
        }
    }
}

/// Arguments of `nic list`.
#[derive(Debug, Args)]
pub(crate) struct NicListArgs {
    /// Sandbox or container ID, or a unique prefix [default with --all: all sandboxes]
    #[arg(required_unless_present = "all")]
    id: Option<String>,
    /// List the device on the host, carrier, state of the cable, and traffic since the TAP device was made, from the side of the guest
    #[arg(long)]
    pub(crate) all: bool,
    /// Repeat the list, with the rates since the last one, until interrupted
    #[arg(long, value_name = "SECONDS", requires = "all", value_parser = interval)]
    pub(crate) watch: Option<Duration>,
    #[command(flatten)]
    pub(crate) format: FormatArg,
}

impl NicListArgs {
    /// Returns the sandbox, which is optional only with `--all`.
    pub(crate) fn sandbox(&self) -> Option<SandboxArg> {
        self.id.clone().map(|id| SandboxArg { id })
    }
}

/// Arguments of `nic show`.
#[derive(Debug, Args)]
pub(crate) struct NicShowArgs {
    #[command(flatten)]
    pub(crate) sandbox: SandboxArg,
    /// Name under which the card was plugged, or its present name in the guest
    pub(crate) name: LinkName,
    #[command(flatten)]
    pub(crate) format: FormatArg,
}

/// Arguments of `nic apply`.
#[derive(Debug, Args)]
pub(crate) struct NicApplyArgs {
    #[command(flatten)]
    pub(crate) card: CardArgs,
    #[command(flatten)]
    pub(crate) format: FormatArg,
}

/// Arguments of the native list commands.
#[derive(Debug, Args)]
pub(crate) struct NativeListArgs {
    #[command(flatten)]
    pub(crate) sandbox: SandboxArg,
    #[command(flatten)]
    pub(crate) format: FormatArg,
}

/// Sub-commands of `route`.
#[derive(Debug, Subcommand)]
pub(crate) enum RouteCommand {
    /// Add a route to the guest
    Add(RouteArgs),
    /// Delete all routes of the guest that match
    Del(RouteArgs),
    /// List the routes of the guest
    List(NativeListArgs),
}

/// Arguments of `route add` and `route del`.
#[derive(Debug, Args)]
pub(crate) struct RouteArgs {
    #[command(flatten)]
    pub(crate) sandbox: SandboxArg,
    #[command(flatten)]
    pub(crate) route: RouteText,
    #[command(flatten)]
    pub(crate) format: FormatArg,
}

/// Sub-commands of `neighbor`.
#[derive(Debug, Subcommand)]
pub(crate) enum NeighborCommand {
    /// Add a static neighbor to the guest
    Add(NeighborAddArgs),
    /// Delete all static neighbors of the guest that match
    Del(NeighborDelArgs),
    /// List the static neighbors of the guest
    List(NativeListArgs),
}

/// Arguments of `neighbor add`.
#[derive(Debug, Args)]
pub(crate) struct NeighborAddArgs {
    #[command(flatten)]
    pub(crate) sandbox: SandboxArg,
    /// Address of the neighbor
    #[arg(long, value_parser = neighbor)]
    pub(crate) address: NeighborAddress,
    /// Link-layer address of the neighbor
    #[arg(long, value_name = "MAC")]
    pub(crate) lladdr: LinkLayerAddr,
    /// Interface in the guest
    #[arg(long, value_name = "NAME")]
    pub(crate) dev: LinkName,
    #[command(flatten)]
    pub(crate) format: FormatArg,
}

/// Arguments of `neighbor del`.
#[derive(Debug, Args)]
pub(crate) struct NeighborDelArgs {
    #[command(flatten)]
    pub(crate) sandbox: SandboxArg,
    /// Address of the neighbor
    #[arg(long, value_parser = neighbor)]
    pub(crate) address: NeighborAddress,
    /// Link-layer address of the neighbor
    #[arg(long, value_name = "MAC")]
    pub(crate) lladdr: Option<LinkLayerAddr>,
    /// Interface in the guest
    #[arg(long, value_name = "NAME")]
    pub(crate) dev: Option<LinkName>,
}

/// Sub-commands of `sysctl`.
#[derive(Debug, Subcommand)]
pub(crate) enum SysctlCommand {
    /// List the settings of the guest's kernel with their ranges and purposes
    List(NativeListArgs),
    /// Change a setting
    Set(SysctlSetArgs),
}

/// Arguments of `sysctl set`.
#[derive(Debug, Args)]
pub(crate) struct SysctlSetArgs {
    #[command(flatten)]
    pub(crate) sandbox: SandboxArg,
    /// Name as in sysctl list; "net.ipv4.vs." before a setting of IPVS is optional
    pub(crate) name: String,
    /// A number, or two: THRESHOLD PERIOD
    #[arg(required = true, num_args = 1..=2, allow_negative_numbers = true)]
    pub(crate) value: Vec<String>,
}

fn interval(text: &str) -> Result<Duration, InvalidValue> {
    let rule = "an interval is 1 to 3600 seconds";
    match number(text, rule)? {
        seconds @ 1..=3600 => Ok(Duration::from_secs(seconds)),
        _ => Err(InvalidValue::new(text, rule)),
    }
}

fn number(text: &str, rule: &'static str) -> Result<u64, InvalidValue> {
    text.parse().map_err(|_| InvalidValue::new(text, rule))
}

fn neighbor(text: &str) -> Result<NeighborAddress, InvalidValue> {
    let ip: Result<IpAddr, _> = text.parse();
    let rule = "it must be an IPv4 or IPv6 address";
    ip.map_err(|_| InvalidValue::new(text, rule))?.try_into()
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
