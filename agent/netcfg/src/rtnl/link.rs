//! Links: listing, and changes of one setting each.

use libc::{
    IFLA_ADDRESS, IFLA_AF_SPEC, IFLA_EXT_MASK, IFLA_IFNAME, IFLA_MTU, RTM_GETLINK, RTM_SETLINK,
};
use nix::errno::Errno;
use patchbay_types::{AdminState, Arp, LinkName, MacAddr, Mtu, Promisc};

use super::{AF_INET, header};
use patchbay_netlink::{
    Attrs, Batch, Body, Error, Flags, Rtnetlink, Transport, dump, get, read_u32,
};

/// Size of `ifinfomsg`: family u8, padding, device type u16, index u32, flags u32, change mask u32.
const HEADER: usize = 16;

/// `RTEXT_FILTER_SKIP_STATS`: the unused counters make up most of a link message.
const SKIP_STATS: u32 = 1 << 3;

/// `IFLA_INET_CONF` of `linux/if_link.h`, and a setting in it: its number from 1 on in
/// `linux/ip.h`.
const INET_CONF: u16 = 1;
const PROMOTE_SECONDARIES: u16 = 20;

/// `IFF_*` of `linux/if.h`.
mod iff {
    pub(super) const UP: u32 = 1;
    pub(super) const LOOPBACK: u32 = 1 << 3;
    pub(super) const POINTOPOINT: u32 = 1 << 4;
    pub(super) const NOARP: u32 = 1 << 7;
    pub(super) const PROMISC: u32 = 1 << 8;
    pub(super) const LOWER_UP: u32 = 1 << 16;
}

/// Link as the kernel reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Interface index; not reused while the kernel runs.
    pub index: u32,
    /// Current name.
    pub name: LinkName,
    /// Current MAC address; `None` if it isn't a unicast Ethernet address.
    pub mac: Option<MacAddr>,
    /// MTU in bytes.
    pub mtu: u32,
    /// `IFF_UP`.
    pub state: AdminState,
    /// `IFF_LOWER_UP`: the link is up and its device has a carrier.
    pub carrier: bool,
    /// `IFF_NOARP`.
    pub arp: Arp,
    /// `IFF_PROMISC`.
    pub promisc: Promisc,
    /// Hosts on the link.
    pub reach: Reach,
    /// Effect of removing an IPv4 address on its secondaries; `None` if the link has no IPv4.
    pub secondaries: Option<Secondaries>,
}

/// Hosts on a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// None (`IFF_LOOPBACK`).
    Loopback,
    /// One, without an address of the link layer (`IFF_POINTOPOINT`).
    PointToPoint,
    /// Any number.
    Neighbors,
}

/// Effect of removing an IPv4 address on the later ones of its network (`promote_secondaries`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secondaries {
    /// They are removed too: the kernel's default.
    Removed,
    /// The first of them takes its place.
    Promoted,
}

impl Link {
    pub(super) fn read(payload: &[u8]) -> Result<Self, Error> {
        let [_, _, _, _, index @ .., _, _, _, _, _, _, _, _] = header::<HEADER>(payload)?;
        let flags = read_u32(&payload[8..12])?;
        let attrs = Attrs::after(HEADER, payload)?;
        let name = attrs.find(IFLA_IFNAME)?.unwrap_or_default();
        let name = LinkName::try_from(name.strip_suffix(&[0]).unwrap_or(name));
        let mut link = Self {
            index: u32::from_ne_bytes(*index),
            name: name.map_err(|_| Error::Malformed("a link has no valid name"))?,
            mac: None,
            mtu: 0,
            state: (flags & iff::UP != 0).into(),
            carrier: flags & iff::LOWER_UP != 0,
            arp: if flags & iff::NOARP != 0 {
                Arp::Off
            } else {
                Arp::On
            },
            promisc: (flags & iff::PROMISC != 0).into(),
            reach: match flags {
                flags if flags & iff::LOOPBACK != 0 => Reach::Loopback,
                flags if flags & iff::POINTOPOINT != 0 => Reach::PointToPoint,
                _ => Reach::Neighbors,
            },
            secondaries: None,
        };
        for attribute in attrs {
            let (kind, value) = attribute?;
            match kind {
                IFLA_MTU => link.mtu = read_u32(value)?,
                IFLA_ADDRESS => {
                    let octets = <[u8; 6]>::try_from(value).ok();
                    link.mac = octets.and_then(|octets| MacAddr::try_from(octets).ok());
                }
                IFLA_AF_SPEC => link.secondaries = secondaries(value)?,
                _ => {}
            }
        }
        Ok(link)
    }
}

/// Lists the links of the network namespace.
pub fn list(socket: &mut impl Transport<Rtnetlink>) -> Result<Vec<Link>, Error> {
    let request = Batch::of(RTM_GETLINK, Flags::Dump, |body| {
        body.raw(&[0; HEADER]);
        body.u32(IFLA_EXT_MASK, SKIP_STATS);
    });
    dump(socket, &request, |payload| Link::read(payload).map(Some))
}

/// Reads [`Link::secondaries`] from the settings of the address families.
fn secondaries(families: &[u8]) -> Result<Option<Secondaries>, Error> {
    let find = |nest, kind| Attrs::after(0, nest)?.find(kind);
    let Some(inet) = find(families, u16::from(AF_INET))? else {
        return Ok(None);
    };
    let start = usize::from(PROMOTE_SECONDARIES - 1) * size_of::<u32>();
    let settings = find(inet, INET_CONF)?.and_then(|settings| settings.get(start..)?.first_chunk());
    Ok(
        settings.map(|number: &[u8; 4]| match u32::from_ne_bytes(*number) {
            0 => Secondaries::Removed,
            _ => Secondaries::Promoted,
        }),
    )
}

/// Returns the link with this index.
///
/// Since 6.8 Linux handles a pending change of the carrier first. Otherwise that can take a second, in
/// which IPv6 doesn't use the link.
pub fn by_index(socket: &mut impl Transport<Rtnetlink>, index: u32) -> Result<Option<Link>, Error> {
    one(socket, index, |_| {})
}

/// Returns the link with this name, which can also be one of its alternative names.
pub fn by_name(
    socket: &mut impl Transport<Rtnetlink>,
    name: &LinkName,
) -> Result<Option<Link>, Error> {
    one(socket, 0, |body| body.str_z(IFLA_IFNAME, name.as_bytes()))
}

fn one(
    socket: &mut impl Transport<Rtnetlink>,
    index: u32,
    selector: impl FnOnce(&mut Body<'_>),
) -> Result<Option<Link>, Error> {
    let request = Batch::of(RTM_GETLINK, Flags::Plain, |body| {
        body.raw(&[0; 4]);
        body.raw(&index.to_ne_bytes());
        body.raw(&[0; 8]);
        body.u32(IFLA_EXT_MASK, SKIP_STATS);
        selector(body);
    });
    match get(socket, &request, Link::read) {
        Ok(link) => Ok(Some(link)),
        Err(Error::Refused(error)) if error.is(Errno::ENODEV) => Ok(None),
        Err(error) => Err(error),
    }
}

/// New value of one setting of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetLink {
    /// Name.
    Name(LinkName),
    /// MTU.
    Mtu(Mtu),
    /// Whether the link answers ARP (`IFF_NOARP`).
    Arp(Arp),
    /// Promiscuous mode.
    Promisc(Promisc),
    /// Administrative state.
    State(AdminState),
    /// Effect of removing an IPv4 address on its secondaries.
    Secondaries(Secondaries),
}

/// Appends a request that changes a setting of link `index`.
pub fn change(batch: &mut Batch<Rtnetlink>, index: u32, change: &SetLink) {
    let (flags, mask) = match change {
        SetLink::State(AdminState::Up) => (iff::UP, iff::UP),
        SetLink::State(AdminState::Down) => (0, iff::UP),
        SetLink::Promisc(Promisc::On) => (iff::PROMISC, iff::PROMISC),
        SetLink::Promisc(Promisc::Off) => (0, iff::PROMISC),
        SetLink::Arp(Arp::Off) => (iff::NOARP, iff::NOARP),
        SetLink::Arp(Arp::On) => (0, iff::NOARP),
        SetLink::Name(_) | SetLink::Mtu(_) | SetLink::Secondaries(_) => (0, 0),
    };
    batch.push(RTM_SETLINK, Flags::Plain, |body| {
        body.raw(&[0; 4]);
        for number in [index, flags, mask] {
            body.raw(&number.to_ne_bytes());
        }
        match change {
            SetLink::Name(name) => body.str_z(IFLA_IFNAME, name.as_bytes()),
            SetLink::Mtu(mtu) => body.u32(IFLA_MTU, u32::from(mtu.get())),
            SetLink::Secondaries(effect) => body.nest(IFLA_AF_SPEC, |families| {
                families.nest(u16::from(AF_INET), |inet| {
                    let promote = u32::from(*effect == Secondaries::Promoted);
                    inet.nest(INET_CONF, |settings| {
                        settings.u32(PROMOTE_SECONDARIES, promote);
                    });
                });
            }),
            _ => {}
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Part of a message of Linux 6.1 about a virtio card that is up, without counters.
    const ETH0: &str = "00000100020000004310010000000000\
        09000300657468300000000008000d00e80300000500100006000000\
        08000400dc0500000a00010002422020010300000a000200ffffffffffff0000";

    #[test]
    fn read_link() {
        let link = Link::read(&hex::decode(ETH0).unwrap()).unwrap();
        assert_eq!(
            (link.index, link.name.to_string(), link.mtu),
            (2, "eth0".to_owned(), 1500)
        );
        assert_eq!(link.mac.unwrap().to_string(), "02:42:20:20:01:03");
        assert!(link.carrier && link.state == AdminState::Up);
        assert_eq!((link.arp, link.promisc), (Arp::On, Promisc::Off));
    }

    #[test]
    fn change_is_encoded_like_iproute2() {
        let encoded = |setting: &SetLink| {
            let mut batch = Batch::default();
            change(&mut batch, 2, setting);
            batch.bytes()[16..].to_vec()
        };
        let up = hex::decode("00000000020000000100000001000000").unwrap();
        assert_eq!(encoded(&SetLink::State(AdminState::Up)), up);
        let name =
            hex::decode("000000000200000000000000000000000a0003006574682d310000000000").unwrap();
        let eth_1 = "eth-1".parse().unwrap();
        assert_eq!(encoded(&SetLink::Name(eth_1)), name[..28]);
        let arp = hex::decode("00000000020000000000000080000000").unwrap();
        assert_eq!(encoded(&SetLink::Arp(Arp::On)), arp);
        let promisc = hex::decode("00000000020000000001000000010000").unwrap();
        assert_eq!(encoded(&SetLink::Promisc(Promisc::On)), promisc);
    }

    #[test]
    fn read_truncated_link_fails() {
        let whole = hex::decode(ETH0).unwrap();
        for length in [0, 15, 20, 49] {
            let error = Link::read(&whole[..length]).unwrap_err();
            assert!(matches!(error, Error::Malformed(_)), "{length}");
        }
    }
}
