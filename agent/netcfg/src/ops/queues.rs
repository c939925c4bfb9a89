//! Setting the number of queue pairs of a card.

use nix::errno::Errno;
use patchbay_netlink::KernelError;
use patchbay_types::QueuePairs;

use super::{ConfigAction, Error, Sockets};
use crate::ethtool::EthtoolLink;
use crate::rtnl::link;

/// Maximum number of attempts. The driver registers the link before its probe has ended; until then it
/// can be busy, or replace the number by its default.
const MAX_ATTEMPTS: usize = 5;

pub(super) fn set(sockets: &mut Sockets, index: u32, pairs: QueuePairs) -> Result<(), Error> {
    let refused = |error| Error::Refused {
        action: ConfigAction::Queues(pairs),
        error,
    };
    let mut last = None;
    for _ in 0..MAX_ATTEMPTS {
        let link = link::by_index(&mut sockets.route, index)?;
        let name = &link.ok_or_else(|| refused(Errno::ENODEV.into()))?.name;
        let link = EthtoolLink { index, name };
        let Some(channels) = sockets.ethtool.channels(link)? else {
            // A card with a single pair has no channels.
            return match pairs {
                QueuePairs::ONE => Ok(()),
                _ => Err(refused(Errno::EOPNOTSUPP.into())),
            };
        };
        if channels.max < pairs {
            return Err(Error::Queues {
                wanted: pairs,
                offered: channels.max,
            });
        }
        if channels.count == pairs {
            return Ok(());
        }
        match sockets.ethtool.set_channels(link, pairs) {
            Ok(()) => {}
            Err(patchbay_netlink::Error::Refused(error)) => last = Some(error),
            Err(error) => return Err(error.into()),
        }
    }
    Err(refused(last.unwrap_or(KernelError {
        errno: Errno::EBUSY as i32,
        text: Some("the driver keeps setting another number".to_owned()),
    })))
}
