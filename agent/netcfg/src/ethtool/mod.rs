//! The number of queue pairs of a card, by ethtool's netlink family or its ioctl.
//!
//! The family came with Linux 5.7; an older kernel answers the lookup with ENOENT, and there the
//! ioctl does the same.

mod ioctl;

use nix::errno::Errno;
use patchbay_types::QueuePairs;

use patchbay_netlink::genl::{FamilyId, HEADER};
use patchbay_netlink::{Attrs, Error, Generic, RecvBuffer, Socket, Transport, read_u32};

const ETHTOOL_MSG_CHANNELS_GET: u8 = 17;
const ETHTOOL_MSG_CHANNELS_SET: u8 = 18;
const ETHTOOL_A_HEADER_DEV_INDEX: u16 = 1;
const ETHTOOL_A_CHANNELS_HEADER: u16 = 1;
const ETHTOOL_A_CHANNELS_COMBINED_MAX: u16 = 5;
const ETHTOOL_A_CHANNELS_COMBINED_COUNT: u16 = 9;

/// How queues are counted and set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EthtoolBackend {
    /// By netlink where the kernel has that family, else by the ioctl.
    Auto,
    /// By the ioctl.
    Ioctl,
}

/// The link that is meant: netlink goes by its index, the ioctl by its name of the moment.
#[derive(Debug, Clone, Copy)]
pub struct Device<'a> {
    /// The kernel's index.
    pub index: u32,
    /// The kernel's name for it just now.
    pub name: &'a str,
}

/// Combined channels of a card: `ethtool -l`'s "Combined".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Channels {
    /// In use.
    pub count: QueuePairs,
    /// What the device offers.
    pub max: QueuePairs,
}

/// The way in which this kernel is asked.
#[derive(Debug)]
pub enum Ethtool {
    /// The netlink family.
    Family(Socket<Generic>, FamilyId),
    /// `SIOCETHTOOL`.
    Ioctl,
}

impl Ethtool {
    /// Finds out which way this kernel has.
    pub fn open(way: EthtoolBackend) -> Result<Self, Error> {
        if way == EthtoolBackend::Ioctl {
            return Ok(Self::Ioctl);
        }
        let mut socket = Socket::open(RecvBuffer::Large)?;
        match FamilyId::resolve(&mut socket, "ethtool") {
            Ok(id) => Ok(Self::Family(socket, id)),
            Err(Error::Refused(refusal)) if refusal.is(Errno::ENOENT) => Ok(Self::Ioctl),
            Err(error) => Err(error),
        }
    }

    /// The channels of a link; `None` where its driver knows no combined ones.
    pub fn channels(&mut self, device: Device<'_>) -> Result<Option<Channels>, Error> {
        let counted = match self {
            Self::Family(socket, id) => get(socket, *id, device.index),
            Self::Ioctl => ioctl::channels(device.name),
        };
        match counted {
            Ok((count, max)) => {
                let pairs = |number| QueuePairs::try_from(u64::from(number)).ok();
                Ok(pairs(count)
                    .zip(pairs(max))
                    .map(|(count, max)| Channels { count, max }))
            }
            Err(Error::Refused(refusal)) if refusal.is(Errno::EOPNOTSUPP) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Switches on this many queue pairs.
    pub fn set_channels(&mut self, device: Device<'_>, pairs: QueuePairs) -> Result<(), Error> {
        let pairs = u32::from(pairs.get());
        match self {
            Self::Family(socket, id) => set(socket, *id, device.index, pairs),
            Self::Ioctl => ioctl::set_channels(device.name, pairs),
        }
    }
}

pub(crate) fn get(
    socket: &mut impl Transport<Generic>,
    id: FamilyId,
    index: u32,
) -> Result<(u32, u32), Error> {
    let request = id.request(ETHTOOL_MSG_CHANNELS_GET, |body| {
        body.nest(ETHTOOL_A_CHANNELS_HEADER, |nest| {
            nest.u32(ETHTOOL_A_HEADER_DEV_INDEX, index);
        });
    });
    let mut counted = (0, 0);
    socket.dump(&request, &mut |payload| {
        let attrs = Attrs::after(HEADER, payload)?;
        let number = |kind| Ok(attrs.find(kind)?.map(read_u32).transpose()?.unwrap_or(0));
        counted = (
            number(ETHTOOL_A_CHANNELS_COMBINED_COUNT)?,
            number(ETHTOOL_A_CHANNELS_COMBINED_MAX)?,
        );
        Ok(())
    })?;
    Ok(counted)
}

fn set(
    socket: &mut impl Transport<Generic>,
    id: FamilyId,
    index: u32,
    pairs: u32,
) -> Result<(), Error> {
    let request = id.request(ETHTOOL_MSG_CHANNELS_SET, |body| {
        body.nest(ETHTOOL_A_CHANNELS_HEADER, |nest| {
            nest.u32(ETHTOOL_A_HEADER_DEV_INDEX, index);
        });
        body.u32(ETHTOOL_A_CHANNELS_COMBINED_COUNT, pairs);
    });
    match socket.send(&request)?.pop() {
        Some((_, refusal)) => Err(Error::Refused(refusal)),
        None => Ok(()),
    }
}
