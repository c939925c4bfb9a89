//! Routes that a guest lacks because it has them by another card, until that card loses them.

use patchbay_types::failure::Failure;

use super::examiner::is_watched;
use crate::sandbox::{CardRecord, Journal, Phase, RouteRecord};

/// Marks the other cards whose links have a route in place of one that `card` is about to lose, so that the
/// next comparison updates them: the guest can lack their route. The journal has the marks first, so a
/// process that is killed loses none.
pub(super) fn mark(
    journal: &Journal,
    card: &CardRecord,
    lost: &[&RouteRecord],
) -> Result<(), Failure> {
    if lost.is_empty() {
        return Ok(());
    }
    let mut others = journal.cards()?;
    others.retain(|other| {
        other.name != card.name && other.phase == Phase::Plugged && is_watched(other)
    });
    for mut other in others {
        let Some(mirror) = &mut other.mirror else {
            continue;
        };
        let mut routes = mirror.link_routes.iter();
        let has_substitute = routes.any(|route| lost.iter().any(|lost| route.excludes(lost)));
        if has_substitute && !mirror.is_changing {
            mirror.is_changing = true;
            journal.write(&other)?;
        }
    }
    Ok(())
}
