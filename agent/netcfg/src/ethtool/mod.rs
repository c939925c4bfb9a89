//! Number of queue pairs of a card, over the ethtool netlink family or its ioctl.
//!
//! Linux has the family since 5.7. Older kernels answer its lookup with ENOENT and have the ioctl.

mod ioctl;

use nix::errno::Errno;
use patchbay_types::{LinkName, QueuePairs};

use patchbay_netlink::genl::{FamilyId, HEADER};
use patchbay_netlink::{Attrs, Body, Error, Generic, RecvBuffer, Socket, Transport, get, read_u32};

const ETHTOOL_MSG_CHANNELS_GET: u8 = 17;
const ETHTOOL_MSG_CHANNELS_SET: u8 = 18;
const ETHTOOL_A_HEADER_DEV_INDEX: u16 = 1;
const ETHTOOL_A_CHANNELS_HEADER: u16 = 1;
const ETHTOOL_A_CHANNELS_COMBINED_MAX: u16 = 5;
const ETHTOOL_A_CHANNELS_COMBINED_COUNT: u16 = 9;

/// Choice between the two interfaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EthtoolBackend {
    /// Netlink if the kernel has the family, the ioctl otherwise.
    Auto,
    /// The ioctl.
    Ioctl,
}

/// Link by index, for netlink, and by name, for the ioctl.
#[derive(Debug, Clone, Copy)]
pub struct EthtoolLink<'a> {
    /// Interface index.
    pub index: u32,
    /// Current name.
    pub name: &'a LinkName,
}

/// Combined channels of a card ("Combined" of `ethtool -l`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Channels {
    /// In use.
    pub count: QueuePairs,
    /// Maximum that the device supports.
    pub max: QueuePairs,
}

/// Interface that the running kernel has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EthtoolKind {
    /// The netlink family with this id.
    Family(FamilyId),
    /// `SIOCETHTOOL`.
    Ioctl,
}

impl EthtoolKind {
    /// Looks up the netlink family, or falls back to the ioctl.
    pub fn find(backend: EthtoolBackend) -> Result<Self, Error> {
        if backend == EthtoolBackend::Ioctl {
            return Ok(Self::Ioctl);
        }
        // A kernel without generic netlink has no families.
        let Ok(mut socket) = Socket::open(RecvBuffer::Small) else {
            return Ok(Self::Ioctl);
        };
        match FamilyId::resolve(&mut socket, "ethtool") {
            Ok(id) => Ok(Self::Family(id)),
            Err(Error::Refused(error)) if error.is(Errno::ENOENT) => Ok(Self::Ioctl),
            Err(error) => Err(error),
        }
    }

    /// Opens the socket for the requests of one operation.
    pub fn open(self) -> Result<Ethtool, Error> {
        Ok(match self {
            Self::Family(id) => Ethtool::Family(Socket::open(RecvBuffer::Small)?, id),
            Self::Ioctl => Ethtool::Ioctl,
        })
    }
}

/// Open interface.
#[derive(Debug)]
pub enum Ethtool {
    /// The netlink family.
    Family(Socket<Generic>, FamilyId),
    /// `SIOCETHTOOL`.
    Ioctl,
}

impl Ethtool {
    /// Returns the channels of a link; `None` if its driver has no combined ones.
    pub fn channels(&mut self, link: EthtoolLink<'_>) -> Result<Option<Channels>, Error> {
        let channels = match self {
            Self::Family(socket, id) => channels(socket, *id, link.index),
            Self::Ioctl => ioctl::channels(link.name),
        };
        match channels {
            Ok((count, max)) => {
                let pairs = |number| QueuePairs::try_from(u64::from(number)).ok();
                Ok(pairs(count)
                    .zip(pairs(max))
                    .map(|(count, max)| Channels { count, max }))
            }
            Err(Error::Refused(error)) if error.is(Errno::EOPNOTSUPP) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sets the number of queue pairs in use.
    pub fn set_channels(&mut self, link: EthtoolLink<'_>, pairs: QueuePairs) -> Result<(), Error> {
        let pairs = u32::from(pairs.get());
        match self {
            Self::Family(socket, id) => set(socket, *id, link.index, pairs),
            Self::Ioctl => ioctl::set_channels(link.name, pairs),
        }
    }
}

fn header(body: &mut Body<'_>, index: u32) {
    body.nest(ETHTOOL_A_CHANNELS_HEADER, |nest| {
        nest.u32(ETHTOOL_A_HEADER_DEV_INDEX, index);
    });
}

/// Returns the combined channels in use and their maximum.
pub(crate) fn channels(
    socket: &mut impl Transport<Generic>,
    id: FamilyId,
    index: u32,
) -> Result<(u32, u32), Error> {
    let request = id.request(ETHTOOL_MSG_CHANNELS_GET, |body| header(body, index));
    get(socket, &request, |payload| {
        let attrs = Attrs::after(HEADER, payload)?;
        let number = |kind| Ok(attrs.find(kind)?.map(read_u32).transpose()?.unwrap_or(0));
        Ok((
            number(ETHTOOL_A_CHANNELS_COMBINED_COUNT)?,
            number(ETHTOOL_A_CHANNELS_COMBINED_MAX)?,
        ))
    })
}

fn set(
    socket: &mut impl Transport<Generic>,
    id: FamilyId,
    index: u32,
    pairs: u32,
) -> Result<(), Error> {
    let request = id.request(ETHTOOL_MSG_CHANNELS_SET, |body| {
        header(body, index);
        body.u32(ETHTOOL_A_CHANNELS_COMBINED_COUNT, pairs);
    });
    match socket.send(&request)?.pop() {
        Some((_, error)) => Err(Error::Refused(error)),
        None => Ok(()),
    }
}
