//! Arguments of `nic set`.

use std::str::FromStr;

use clap::{Args, ValueEnum};
use patchbay_host::card::{Cable, HostChange};
use patchbay_host::limit::{BitRate, Burst, Limit, RateLimit};
use patchbay_host::ops::Replacement;
use patchbay_host::vlan::PortVlan;
use patchbay_types::failure::Failure;
use patchbay_types::{
    AdminState, Arp, IfName, InterfaceAddress, InvalidValue, LinkFlags, LinkName, MacAddr, Mtu,
    Promisc, QueuePairs,
};

use super::{address, mtu, queues};
use crate::args::{FormatArg, SandboxArg};

/// Arguments of `nic set`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("change").required(true).multiple(true))]
#[command(group = clap::ArgGroup::new("guest").multiple(true).conflicts_with("host"))]
#[command(group = clap::ArgGroup::new("host").multiple(true).conflicts_with("device"))]
#[command(group = clap::ArgGroup::new("device").multiple(true).conflicts_with("guest"))]
pub(crate) struct NicSetArgs {
    #[command(flatten)]
    pub(crate) sandbox: SandboxArg,
    /// Name of the interface in the guest
    #[arg(long)]
    pub(crate) name: LinkName,
    /// Address with its prefix length, can be repeated; replaces all addresses
    #[arg(long, value_name = "ADDRESS/PREFIX", value_parser = address, groups = ["change", "guest"])]
    pub(crate) ip: Vec<InterfaceAddress>,
    /// Remove all addresses from the interface
    #[arg(long, conflicts_with = "ip", groups = ["change", "guest"])]
    pub(crate) no_ip: bool,
    /// MTU in bytes, 68 to 9600
    #[arg(long, value_name = "BYTES", value_parser = mtu, groups = ["change", "guest"])]
    pub(crate) mtu: Option<Mtu>,
    /// Perform duplicate address detection for the new IPv6 addresses
    #[arg(long, group = "guest")]
    pub(crate) dad: bool,
    /// New name of the interface in the guest; the card keeps the name under which it was plugged
    #[arg(long, value_name = "NAME", groups = ["change", "guest"])]
    pub(crate) rename: Option<IfName>,
    #[command(flatten)]
    flags: FlagArgs,
    #[command(flatten)]
    host: HostArgs,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    pub(crate) format: FormatArg,
}

/// Flags of an interface in the guest.
#[derive(Debug, Args)]
struct FlagArgs {
    /// Set the interface up or down; its routes end when it is set down
    #[arg(long, value_name = "STATE", groups = ["change", "guest"])]
    state: Option<StateArg>,
    /// Answer and send ARP and neighbor discovery
    #[arg(long, value_name = "STATE", groups = ["change", "guest"])]
    arp: Option<SwitchArg>,
    /// Receive frames for any MAC address
    #[arg(long, value_name = "STATE", groups = ["change", "guest"])]
    promisc: Option<SwitchArg>,
}

/// Words of `--state`.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum StateArg {
    Up,
    Down,
}

/// Words of `--arp` and `--promisc`.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum SwitchArg {
    On,
    Off,
}

/// Settings of a card on the host, without its guest.
#[derive(Debug, Args)]
struct HostArgs {
    /// Cable of the card, as the guest sees it
    #[arg(long, value_name = "STATE", groups = ["change", "host"])]
    cable: Option<CableArg>,
    /// Most that the card receives, for example 100mbit; off: no limit
    #[arg(long, value_name = "RATE", groups = ["change", "host"])]
    rx_limit: Option<LimitArg>,
    /// With --rx-limit: bytes that can come at once, for example 256kb [default: 20 ms at the rate, 128kb at least]
    #[arg(long, value_name = "SIZE", requires = "rx_limit", group = "host")]
    rx_burst: Option<Burst>,
    /// Most that the card sends, for example 100mbit; off: no limit
    #[arg(long, value_name = "RATE", groups = ["change", "host"])]
    tx_limit: Option<LimitArg>,
    /// With --tx-limit: bytes that can go at once [default: 20 ms at the rate, 128kb at least]
    #[arg(long, value_name = "SIZE", requires = "tx_limit", group = "host")]
    tx_burst: Option<Burst>,
    /// VLAN of the card on its bridge, 1 to 4094, whose frames have no tag in the guest; off: those that the port had
    #[arg(long, value_name = "ID", groups = ["change", "host"])]
    vlan: Option<PortVlan>,
}

/// Properties of the device, which only another card can have.
#[derive(Debug, Args)]
struct DeviceArgs {
    /// New MAC address of the card, which is unplugged and plugged again for that
    #[arg(long, value_name = "MAC", groups = ["change", "device"])]
    mac: Option<MacAddr>,
    /// New number of queue pairs of the card, 1 to 256, which is unplugged and plugged again for that
    #[arg(long, value_name = "PAIRS", value_parser = queues, groups = ["change", "device"])]
    queues: Option<QueuePairs>,
}

/// Words of `--cable`.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum CableArg {
    /// The guest's link has a carrier
    Up,
    /// Unplugged
    Down,
}

/// Rate, or `off`.
#[derive(Debug, Clone, Copy)]
enum LimitArg {
    Off,
    Rate(BitRate),
}

impl FromStr for LimitArg {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        match text {
            "off" => Ok(Self::Off),
            rate => rate.parse().map(Self::Rate),
        }
    }
}

impl NicSetArgs {
    /// Returns the flags in the guest.
    pub(crate) fn flags(&self) -> LinkFlags {
        let FlagArgs {
            state,
            arp,
            promisc,
        } = self.flags;
        LinkFlags {
            state: state.map(|state| match state {
                StateArg::Up => AdminState::Up,
                StateArg::Down => AdminState::Down,
            }),
            arp: arp.map(|arp| match arp {
                SwitchArg::On => Arp::On,
                SwitchArg::Off => Arp::Off,
            }),
            promisc: promisc.map(|promisc| match promisc {
                SwitchArg::On => Promisc::On,
                SwitchArg::Off => Promisc::Off,
            }),
        }
    }

    /// Returns the change of the device; `None` for one of the guest or the host.
    pub(crate) fn of_device(&self) -> Option<Replacement> {
        let DeviceArgs { mac, queues } = self.device;
        let change = Replacement { mac, queues };
        (change != Replacement::default()).then_some(change)
    }

    /// Returns the change on the host; `None` for one of the guest.
    ///
    /// # Errors
    /// A burst that doesn't fit its rate.
    pub(crate) fn on_host(&self) -> Result<Option<HostChange>, Failure> {
        let HostArgs {
            cable,
            rx_limit,
            rx_burst,
            tx_limit,
            tx_burst,
            vlan,
        } = self.host;
        let limit = |arg: Option<LimitArg>, burst, field| match arg {
            None => Ok(None),
            Some(LimitArg::Off) => Ok(Some(Limit::None)),
            Some(LimitArg::Rate(rate)) => RateLimit::new(rate, burst)
                .map(|limit| Some(Limit::Rate(limit)))
                .map_err(|invalid| Failure::from(invalid.in_field(field))),
        };
        let change = HostChange {
            cable: cable.map(|cable| match cable {
                CableArg::Up => Cable::Up,
                CableArg::Down => Cable::Down,
            }),
            receive: limit(rx_limit, rx_burst, "rxBurst")?,
            send: limit(tx_limit, tx_burst, "txBurst")?,
            vlan,
        };
        Ok((change != HostChange::default()).then_some(change))
    }
}
