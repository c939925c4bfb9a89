//! Links in a network namespace, over rtnetlink.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use netlink_packet_core::{
    DecodeError, DefaultNla, NLM_F_CREATE, NLM_F_EXCL, NetlinkDeserializable, NetlinkHeader,
    NlasIterator,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoKind as NewKind, LinkAttribute, LinkFlags,
    LinkInfo, LinkMessage,
};
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_ROUTE;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use patchbay_types::LinkName;
use patchbay_types::failure::Failure;
use serde::{Deserialize, Serialize};

use super::{Netns, Rtnetlink, unusable};

/// Attributes of a TAP in `IFLA_INFO_DATA` (`linux/if_link.h`): queues that are enabled and disabled.
const IFLA_TUN_NUM_QUEUES: u16 = 8;
const IFLA_TUN_NUM_DISABLED_QUEUES: u16 = 9;
/// Attribute of a bridge in `IFLA_INFO_DATA`: whether it filters VLANs. Absent in a kernel that can't.
const IFLA_BR_VLAN_FILTERING: u16 = 7;

/// MTU and administrative state of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HostLinkState {
    /// Bytes.
    pub(crate) mtu: u32,
    /// Whether the link is set up.
    pub(crate) up: bool,
}

/// Link in a network namespace.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HostLink {
    pub(crate) index: u32,
    pub(crate) state: HostLinkState,
    pub(crate) kind: HostLinkKind,
    /// Index of the bridge, or of the bond and so on, that the link is a port of.
    pub(crate) controller: Option<u32>,
    /// Whether a process has the TAP open. Only rtnetlink reports that of a TAP that is down:
    /// `ETHTOOL_GLINK` always denies it, and `IFF_RUNNING` lags up to a second.
    pub(crate) has_carrier: bool,
    /// Number of open queues of a multi-queue TAP; `None` for other links. The kernel lets a
    /// single-queue TAP be opened once.
    pub(crate) queues: Option<u32>,
    pub(crate) counters: LinkCounters,
}

/// Traffic of a link since it was made, from the host's side (`rtnl_link_stats64` of `linux/if_link.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct LinkCounters {
    pub(crate) received: Counters,
    pub(crate) sent: Counters,
}

/// Traffic in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Frames.
    pub packets: u64,
    /// Bytes of these frames.
    pub bytes: u64,
    /// Frames with an error.
    pub errors: u64,
    /// Frames that were dropped.
    pub drops: u64,
}

impl LinkCounters {
    fn read(value: &[u8]) -> Self {
        let mut numbers = value.as_chunks().0.iter().copied().map(u64::from_ne_bytes);
        let mut both = || [(); 2].map(|()| numbers.next().unwrap_or_default());
        let (packets, bytes, errors, drops) = (both(), both(), both(), both());
        let [received, sent] = [0, 1].map(|side: usize| Counters {
            packets: packets[side],
            bytes: bytes[side],
            errors: errors[side],
            drops: drops[side],
        });
        Self { received, sent }
    }
}

impl HostLink {
    /// Returns whether it is a TAP, the only kind that QEMU can use.
    pub(crate) fn is_tap(&self) -> bool {
        self.kind == HostLinkKind::Tap
    }
}

/// Kind of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HostLinkKind {
    /// TAP device.
    Tap,
    /// Bridge of the kernel.
    Bridge {
        filters_vlans: bool,
    },
    /// Device that gives the frames it sends back to the link that received them.
    Ifb,
    Other,
}

/// Network namespace with an rtnetlink socket inside.
#[derive(Debug)]
pub(crate) struct Links {
    netns: Netns,
    rtnl: Rtnetlink,
}

impl Links {
    /// Opens a socket in the namespace.
    ///
    /// # Errors
    /// A namespace that can't be entered.
    pub(crate) fn open(netns: Netns) -> Result<Self, Failure> {
        match Rtnetlink::open(&netns) {
            Ok(rtnl) => Ok(Self { netns, rtnl }),
            Err(error) => Err(unusable(&netns.path, &error)),
        }
    }

    /// Returns the namespace.
    pub(crate) fn netns(&self) -> &Netns {
        &self.netns
    }

    /// Closes the socket.
    pub(crate) fn into_netns(self) -> Netns {
        self.netns
    }

    /// Returns the socket.
    pub(crate) fn rtnetlink(&self) -> &Rtnetlink {
        &self.rtnl
    }

    /// Adds a device of the kind `ifb`.
    pub(crate) fn add_ifb(&self, name: &LinkName) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.attributes = vec![
            name_attribute(name),
            LinkAttribute::LinkInfo(vec![LinkInfo::Kind(NewKind::Ifb)]),
        ];
        let request = RouteNetlinkMessage::NewLink(message);
        self.rtnl.change(&request, NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Removes a link.
    pub(crate) fn remove(&self, link: HostLink) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = link.index;
        self.rtnl.change(&RouteNetlinkMessage::DelLink(message), 0)
    }

    /// Reads the link with this index; `None` if there is none.
    pub(crate) fn link_at(&self, index: u32) -> io::Result<Option<HostLink>> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        self.get(&RouteNetlinkMessage::GetLink(message))
    }

    /// Reads a link; `None` if there is none of this name.
    pub(crate) fn link(&self, name: &LinkName) -> io::Result<Option<HostLink>> {
        self.get(&link_request(name))
    }

    fn get(&self, request: &RouteNetlinkMessage) -> io::Result<Option<HostLink>> {
        self.rtnl.get_if_exists(request)
    }

    /// Waits until no process has a TAP open. Returns the link, which can still be open after `timeout`;
    /// `None` if it is gone.
    pub(crate) fn wait_until_closed(
        &self,
        index: u32,
        timeout: Duration,
    ) -> io::Result<Option<HostLink>> {
        let deadline = Instant::now() + timeout;
        let changes = self.netns.run(|| {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket.add_membership(libc::RTNLGRP_LINK)?;
            socket.set_non_blocking(true)?;
            Ok(socket)
        })?;
        loop {
            let link = self.link_at(index)?;
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || link.is_none_or(|link| !link.has_carrier) {
                return Ok(link);
            }
            let mut fds = [PollFd::new(changes.as_fd(), PollFlags::POLLIN)];
            poll(
                &mut fds,
                PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX),
            )?;
            // The link is read above, so that a lost message costs nothing.
            while changes.recv_from_full().is_ok() {}
        }
    }

    /// Sets the MTU and the administrative state of a link where they differ.
    pub(crate) fn set_link(&self, link: HostLink, to: HostLinkState) -> io::Result<()> {
        if link.state == to {
            return Ok(());
        }
        let mut message = LinkMessage::default();
        message.header.index = link.index;
        if link.state.mtu != to.mtu {
            message.attributes.push(LinkAttribute::Mtu(to.mtu));
        }
        if link.state.up != to.up {
            message.header.change_mask = LinkFlags::Up;
            message.header.flags.set(LinkFlags::Up, to.up);
        }
        self.rtnl
            .change(&RouteNetlinkMessage::SetLink(message), 0)?;
        // Since 6.8 Linux handles a pending change of the carrier when a link is read. Otherwise that can
        // take a second, in which a bridge doesn't forward to the link.
        match self.link_at(link.index)? {
            Some(link) if link.state == to => Ok(()),
            _ => Err(io::Error::other("another process has changed the link")),
        }
    }

    /// Makes a link a port of the bridge with this index, or of none, and reads that back.
    pub(crate) fn set_controller(&self, link: HostLink, bridge: Option<u32>) -> io::Result<()> {
        if link.controller == bridge {
            return Ok(());
        }
        let mut message = LinkMessage::default();
        message.header.index = link.index;
        let index = bridge.unwrap_or_default();
        message.attributes.push(LinkAttribute::Controller(index));
        self.rtnl
            .change(&RouteNetlinkMessage::SetLink(message), 0)?;
        match self.link_at(link.index)? {
            Some(link) if link.controller == bridge => Ok(()),
            _ => Err(io::Error::other("another process has changed the link")),
        }
    }

    /// Sets the generation of IPv6 link-local addresses to `IN6_ADDR_GEN_MODE_NONE`.
    pub(crate) fn without_ipv6_addresses(&self, link: HostLink) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = link.index;
        let mode = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
        let family = AfSpecUnspec::Inet6(vec![mode]);
        message
            .attributes
            .push(LinkAttribute::AfSpecUnspec(vec![family]));
        self.rtnl.change(&RouteNetlinkMessage::SetLink(message), 0)
    }
}

/// Returns the request that reads a link. `LinkAttribute::IfName` allows only UTF-8.
pub(crate) fn link_request(name: &LinkName) -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    message.attributes.push(name_attribute(name));
    RouteNetlinkMessage::GetLink(message)
}

fn name_attribute(name: &LinkName) -> LinkAttribute {
    let name = DefaultNla::new(libc::IFLA_IFNAME, [name.as_bytes(), &[0]].concat());
    LinkAttribute::Other(name)
}

/// Size of `ifinfomsg`: family u8, padding, device type u16, index u32, flags u32, change mask u32.
const IFINFOMSG: usize = 16;

/// Reads only the attributes of [`HostLink`]: `netlink-packet-route` rejects links whose name or alias
/// is not UTF-8.
impl NetlinkDeserializable for HostLink {
    type Error = DecodeError;

    fn deserialize(_: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        let short = || DecodeError::from("a link is shorter than its header");
        let (header, attributes) = payload.split_first_chunk().ok_or_else(short)?;
        let [_, _, t0, t1, i0, i1, i2, i3, flags @ .., _, _, _, _]: &[u8; IFINFOMSG] = header;
        let (mut mtu, mut kind, mut has_carrier) = (0, InfoKind::default(), false);
        let (mut controller, mut counters) = (None, LinkCounters::default());
        for attribute in NlasIterator::new(attributes) {
            let attribute = attribute?;
            match (attribute.kind(), attribute.value()) {
                (libc::IFLA_MTU, value) => mtu = number(value).ok_or_else(short)?,
                (libc::IFLA_CARRIER, value) => has_carrier = value == [1],
                (libc::IFLA_STATS64, value) => counters = LinkCounters::read(value),
                (libc::IFLA_MASTER, value) => controller = number(value),
                (libc::IFLA_LINKINFO, value) => kind = InfoKind::read(value),
                _ => {}
            }
        }
        let is_ether = u16::from_ne_bytes([*t0, *t1]) == libc::ARPHRD_ETHER;
        Ok(Self {
            index: u32::from_ne_bytes([*i0, *i1, *i2, *i3]),
            state: HostLinkState {
                mtu,
                up: LinkFlags::from_bits_retain(u32::from_ne_bytes(*flags)).contains(LinkFlags::Up),
            },
            kind: match kind {
                // TUN and TAP devices have the same kind; only a TAP carries Ethernet.
                InfoKind::Tun(_) if is_ether => HostLinkKind::Tap,
                InfoKind::Bridge { filters_vlans } => HostLinkKind::Bridge { filters_vlans },
                InfoKind::Ifb => HostLinkKind::Ifb,
                InfoKind::Tun(_) | InfoKind::Other => HostLinkKind::Other,
            },
            controller,
            has_carrier,
            queues: match kind {
                InfoKind::Tun(queues) => queues,
                InfoKind::Bridge { .. } | InfoKind::Ifb | InfoKind::Other => None,
            },
            counters,
        })
    }
}

/// `IFLA_LINKINFO` of a link.
#[derive(Debug, Clone, Copy, Default)]
enum InfoKind {
    /// TUN or TAP device, with the number of its queues.
    Tun(Option<u32>),
    Bridge {
        filters_vlans: bool,
    },
    Ifb,
    #[default]
    Other,
}

impl InfoKind {
    fn read(info: &[u8]) -> Self {
        let find = |nested, kind| {
            let mut attributes = NlasIterator::new(nested).filter_map(Result::ok);
            attributes.find(|attribute| attribute.kind() == kind)
        };
        let kind = find(info, libc::IFLA_INFO_KIND);
        let data = find(info, libc::IFLA_INFO_DATA);
        match kind.as_ref().map_or(&[][..], |kind| kind.value()) {
            b"tun\0" => {}
            b"bridge\0" => {
                let filtering = data
                    .as_ref()
                    .and_then(|data| find(data.value(), IFLA_BR_VLAN_FILTERING));
                let filters_vlans = filtering.is_some_and(|filtering| filtering.value() == [1]);
                return Self::Bridge { filters_vlans };
            }
            b"ifb\0" => return Self::Ifb,
            _ => return Self::Other,
        }
        let count = |kind| number(find(data.as_ref()?.value(), kind)?.value());
        let disabled = count(IFLA_TUN_NUM_DISABLED_QUEUES).unwrap_or_default();
        let queues = count(IFLA_TUN_NUM_QUEUES).map(|enabled| enabled.saturating_add(disabled));
        Self::Tun(queues)
    }
}

fn number(value: &[u8]) -> Option<u32> {
    value.first_chunk().copied().map(u32::from_ne_bytes)
}
