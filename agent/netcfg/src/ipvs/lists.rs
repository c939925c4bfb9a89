//! Faster ways than netlink to list the servers of all services.

use patchbay_types::ipvs::{Detail, Family, ListedServer, ListedService, ServiceId};

use super::proc_lists::ProcLists;
use super::sockopt::SockoptLists;

/// Cursor over the servers of all services, in the order in which netlink lists the services.
#[derive(Debug)]
pub enum Lists {
    /// Socket options: no IPv6 services.
    Sockopt(SockoptLists),
    /// `/proc`: no thresholds.
    Proc(ProcLists),
    /// Neither.
    None,
}

impl Lists {
    /// Starts before the first of these services, which are all that exist.
    #[must_use]
    pub fn open(services: &[ListedService], detail: Detail) -> Self {
        let is_v6 = |listed: &&ListedService| listed.service.id.family() == Family::V6;
        // The file always has all services; socket options and netlink list single ones.
        let many_v6 = services.iter().filter(is_v6).count() > services.len() / 4;
        match detail {
            Detail::Full => Self::None,
            Detail::Brief if many_v6 => ProcLists::open().map_or(Self::None, Self::Proc),
            Detail::Brief | Detail::Rules => SockoptLists::open().map_or(Self::None, Self::Sockopt),
        }
    }

    /// Returns the servers of the next service if it is service `id` and the detail is there; else
    /// netlink has to list them.
    pub fn of(&mut self, id: ServiceId) -> Option<&[ListedServer]> {
        match self {
            Self::Sockopt(lists) => lists.of(id),
            Self::Proc(lists) => lists.of(id),
            Self::None => None,
        }
    }
}
