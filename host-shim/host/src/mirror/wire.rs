//! Wire between a link and the TAP of its card: each passes the frames that it receives to the other, by
//! a `tc` filter with the action mirred, before the namespace's IP stack sees them.
//!
//! The commands of `tc` are
//!
//! ```text
//! tc qdisc add dev LINK ingress
//! tc filter add dev LINK ingress protocol all pref 28770 u32 match u8 0 0 \
//!     action mirred egress redirect dev TAP cookie 7061746368626179
//! ```
//!
//! and the same for the TAP, whose qdisc and filter end with it. That of the link would then swallow
//! every frame, so it is removed with the card.

use std::collections::HashSet;
use std::io;
use std::thread;
use std::time::Duration;

use netlink_packet_core::{
    DecodeError, NLM_F_CREATE, NLM_F_EXCL, NetlinkDeserializable, NetlinkHeader, Parseable,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{
    TcAction, TcActionAttribute, TcActionMirror, TcActionMirrorOption, TcActionOption,
    TcActionType, TcAttribute, TcFilterU32Option, TcHandle, TcHeader, TcMessage, TcMirror,
    TcMirrorActionType, TcOption, TcU32Key, TcU32Selector, TcU32SelectorFlags,
};
use patchbay_types::failure::{Failure, Kind};
use serde::{Deserialize, Serialize};

use crate::netns::Rtnetlink;
use crate::netns::rtnl::tc_failure;

/// Preference of patchbay's filters, by which they are found again.
const PREFERENCE: u16 = 28_770;
/// Cookie of patchbay's filters.
const COOKIE: &[u8] = b"patchbay";
/// `ETH_P_ALL` (`linux/if_ether.h`), in network order as in `tcm_info`.
const ALL_PROTOCOLS: u16 = 0x0003_u16.to_be();
/// Parent of the filters of an `ingress` and of a `clsact` qdisc.
const PARENT: TcHandle = TcHandle {
    major: u16::MAX,
    minor: TcHandle::MIN_INGRESS,
};
/// Handle of both qdiscs.
const QDISC: TcHandle = TcHandle {
    major: u16::MAX,
    minor: 0,
};
/// Attempts to change a link that another process is changing. Each waits 10 ms longer.
const MAX_ATTEMPTS: u32 = 5;

/// Qdisc of a link that holds its filters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Qdisc {
    /// Made for the wire, and removed with it.
    Own,
    /// Made by another program.
    Foreign,
}

/// Wire in the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WireRecord {
    /// Index of the link in its namespace.
    pub(crate) index: u32,
    pub(crate) qdisc: Qdisc,
}

impl WireRecord {
    /// Examines a link that is not wired yet.
    ///
    /// # Errors
    /// [`Kind::Exists`] if its frames are redirected already.
    pub(crate) fn plan(rtnl: &Rtnetlink, link: u32) -> Result<Self, Failure> {
        let failure = |error| wire_failure(&error);
        let filters = Filter::of(rtnl, link).map_err(failure)?;
        if let Some(filter) = filters.first() {
            let by = match filter.owner {
                Owner::Patchbay { .. } => "by patchbay for another card",
                Owner::Other => "by another program (Kata's own hot-plug, a CNI plugin)",
            };
            let message = format!("the link's frames are filtered or redirected already, {by}");
            let failure = Failure::new(Kind::Exists, message).with_field("link");
            return Err(failure.with_cause("'tc filter show dev LINK ingress' lists the filters"));
        }
        let has_qdisc = has_ingress_qdisc(rtnl, link).map_err(failure)?;
        let qdisc = if has_qdisc {
            Qdisc::Foreign
        } else {
            Qdisc::Own
        };
        Ok(Self { index: link, qdisc })
    }

    /// Connects the link and the TAP with index `tap`, which is down.
    pub(crate) fn connect(&self, rtnl: &Rtnetlink, tap: u32) -> Result<(), Failure> {
        let connect = || {
            if self.qdisc == Qdisc::Own {
                add_qdisc(rtnl, self.index)?;
            }
            add_qdisc(rtnl, tap)?;
            add_filter(rtnl, self.index, tap)?;
            add_filter(rtnl, tap, self.index)?;
            self.is_connected(rtnl, tap)
        };
        match connect() {
            Ok(true) => Ok(()),
            Ok(false) => {
                let message = "another process has changed the filters of the link or of its TAP";
                Err(Failure::new(Kind::Kernel, message).with_field("link"))
            }
            Err(error) => Err(wire_failure(&error)),
        }
    }

    /// Passes the frames of the link to another one, if it does not yet, and reads that back. A filter of
    /// patchbay to a link that is gone drops them, and is replaced.
    pub(crate) fn redirect(&self, rtnl: &Rtnetlink, to: u32) -> io::Result<()> {
        if passes(rtnl, self.index, to)? {
            return Ok(());
        }
        let filters = Filter::of(rtnl, self.index)?;
        if filters.iter().any(|filter| filter.owner != Owner::Other) {
            remove_filters(rtnl, self.index)?;
        }
        if !has_ingress_qdisc(rtnl, self.index)? {
            add_qdisc(rtnl, self.index)?;
        }
        add_filter(rtnl, self.index, to)?;
        if passes(rtnl, self.index, to)? {
            return Ok(());
        }
        Err(io::Error::other("another process has changed the filters"))
    }

    /// Returns whether each of the two passes its frames to the other.
    pub(crate) fn is_connected(&self, rtnl: &Rtnetlink, tap: u32) -> io::Result<bool> {
        Ok(passes(rtnl, self.index, tap)? && passes(rtnl, tap, self.index)?)
    }

    /// Removes the filter from the link, and its qdisc if it was made for the wire and has no other
    /// filter. Repeating it changes nothing.
    pub(crate) fn cut(&self, rtnl: &Rtnetlink) -> Result<(), Failure> {
        let cut = || {
            let filters = Filter::of(rtnl, self.index)?;
            let (own, others): (Vec<_>, Vec<_>) = filters
                .iter()
                .partition(|filter| filter.owner != Owner::Other);
            if !own.is_empty() {
                remove_filters(rtnl, self.index)?;
            }
            if self.qdisc == Qdisc::Own && others.is_empty() && has_ingress_qdisc(rtnl, self.index)?
            {
                remove_qdisc(rtnl, self.index)?;
            }
            Ok(())
        };
        match cut() {
            Err(error) if is_absent(&error) => Ok(()),
            cut => cut.map_err(|error: io::Error| wire_failure(&error)),
        }
    }
}

/// Removes patchbay's filter from a link if it passes the frames to none of these links. Returns whether it
/// did.
pub(super) fn cut_stray(rtnl: &Rtnetlink, link: u32, links: &HashSet<u32>) -> io::Result<bool> {
    let filters = Filter::of(rtnl, link)?;
    let is_stray =
        |filter: &Filter| matches!(filter.owner, Owner::Patchbay { to } if !links.contains(&to));
    if !filters.iter().any(is_stray) {
        return Ok(false);
    }
    remove_filters(rtnl, link).map(|()| true)
}

/// Returns whether the frames of a link are filtered or redirected.
pub(super) fn has_filters(rtnl: &Rtnetlink, link: u32) -> io::Result<bool> {
    Ok(!Filter::of(rtnl, link)?.is_empty())
}

fn wire_failure(error: &io::Error) -> Failure {
    let message = "could not change the redirection of the link's frames";
    let modules = "sch_ingress, cls_u32 and act_mirred";
    tc_failure(message, error, modules).with_field("link")
}

/// Returns whether the link or the filter is gone.
pub(super) fn is_absent(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENODEV | libc::ENOENT))
}

fn message(link: u32, parent: TcHandle) -> TcMessage {
    let mut message = TcMessage::default();
    message.header.index = link.cast_signed();
    message.header.parent = parent;
    message
}

/// Sends a change, again if the kernel is busy with another one of the link.
pub(crate) fn change(
    rtnl: &Rtnetlink,
    request: &RouteNetlinkMessage,
    flags: u16,
) -> io::Result<()> {
    let mut attempts = 1;
    loop {
        match rtnl.change(request, flags) {
            Err(error) if is_busy(&error) && attempts < MAX_ATTEMPTS => {
                thread::sleep(Duration::from_millis(10) * attempts);
                attempts += 1;
            }
            done => return done,
        }
    }
}

fn is_busy(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EAGAIN))
}

/// Adds an `ingress` qdisc, which holds filters of frames that the link receives.
pub(crate) fn add_qdisc(rtnl: &Rtnetlink, link: u32) -> io::Result<()> {
    let mut message = message(link, TcHandle::INGRESS);
    message.header.handle = QDISC;
    message
        .attributes
        .push(TcAttribute::Kind("ingress".to_owned()));
    let request = RouteNetlinkMessage::NewQueueDiscipline(message);
    change(rtnl, &request, NLM_F_CREATE | NLM_F_EXCL)
}

/// Removes the `ingress` qdisc with its filters.
pub(crate) fn remove_qdisc(rtnl: &Rtnetlink, link: u32) -> io::Result<()> {
    let mut message = message(link, TcHandle::INGRESS);
    message.header.handle = QDISC;
    change(rtnl, &RouteNetlinkMessage::DelQueueDiscipline(message), 0)
}

/// Returns whether a filter of patchbay passes the frames of a link to another one.
pub(crate) fn passes(rtnl: &Rtnetlink, from: u32, to: u32) -> io::Result<bool> {
    let filters = Filter::of(rtnl, from)?;
    let owner = Owner::Patchbay { to };
    Ok(filters.iter().any(|filter| filter.owner == owner))
}

/// Returns whether the link has an `ingress` or a `clsact` qdisc, which exclude each other.
pub(crate) fn has_ingress_qdisc(rtnl: &Rtnetlink, link: u32) -> io::Result<bool> {
    let request = RouteNetlinkMessage::GetQueueDiscipline(message(link, TcHandle::UNSPEC));
    let qdiscs: Vec<Header> = rtnl.dump(&request)?;
    Ok(qdiscs.iter().any(|Header(qdisc)| {
        qdisc.index.cast_unsigned() == link && qdisc.parent == TcHandle::INGRESS
    }))
}

/// Adds a filter that passes all frames that a link receives to another one.
pub(crate) fn add_filter(rtnl: &Rtnetlink, from: u32, to: u32) -> io::Result<()> {
    let mut mirror = TcMirror::default();
    mirror.generic.action = TcActionType::Stolen;
    mirror.eaction = TcMirrorActionType::EgressRedir;
    mirror.ifindex = to;
    let mut action = TcAction::default();
    action.attributes = vec![
        TcActionAttribute::Kind(TcActionMirror::KIND.to_owned()),
        TcActionAttribute::Cookie(COOKIE.to_vec()),
        TcActionAttribute::Options(vec![TcActionOption::Mirror(TcActionMirrorOption::Parms(
            mirror,
        ))]),
    ];
    let mut all = TcU32Selector::default();
    all.flags = TcU32SelectorFlags::Terminal;
    all.nkeys = 1;
    all.keys = vec![TcU32Key::default()];
    let mut message = filter_message(from);
    message.attributes = vec![
        TcAttribute::Kind("u32".to_owned()),
        TcAttribute::Options(vec![
            TcOption::U32(TcFilterU32Option::Selector(all)),
            TcOption::U32(TcFilterU32Option::Action(vec![action])),
        ]),
    ];
    let request = RouteNetlinkMessage::NewTrafficFilter(message);
    change(rtnl, &request, NLM_F_CREATE | NLM_F_EXCL)
}

fn remove_filters(rtnl: &Rtnetlink, link: u32) -> io::Result<()> {
    let message = filter_message(link);
    change(rtnl, &RouteNetlinkMessage::DelTrafficFilter(message), 0)
}

/// Message about the filters of patchbay's preference.
fn filter_message(link: u32) -> TcMessage {
    let mut message = message(link, PARENT);
    message.header.info = u32::from(PREFERENCE) << 16 | u32::from(ALL_PROTOCOLS);
    message
}

/// Header of any `tc` message.
#[derive(Debug)]
struct Header(TcHeader);

impl NetlinkDeserializable for Header {
    type Error = DecodeError;

    fn deserialize(_: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        TcHeader::parse(payload).map(Self)
    }
}

/// Filter of frames that a link receives.
#[derive(Debug)]
struct Filter {
    owner: Owner,
}

/// Program that made a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// patchbay, with the index of the link that gets the frames.
    Patchbay {
        to: u32,
    },
    Other,
}

/// Part of a dump of filters: those of `u32` contain hash tables, which have no action.
#[derive(Debug)]
pub(super) enum FilterPart {
    Filter(Owner),
    Table,
}

impl NetlinkDeserializable for FilterPart {
    type Error = DecodeError;

    /// Accepts every filter: one of another program that can't be read is one of another program.
    fn deserialize(_: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        let header = TcHeader::parse(payload)?;
        if header.info >> 16 != u32::from(PREFERENCE) {
            return Ok(Self::Filter(Owner::Other));
        }
        let Ok(message) = TcMessage::parse(payload) else {
            return Ok(Self::Filter(Owner::Other));
        };
        let options = message
            .attributes
            .iter()
            .filter_map(|attribute| match attribute {
                TcAttribute::Options(options) => Some(options),
                _ => None,
            });
        let mut actions = options.flatten().filter_map(|option| match option {
            TcOption::U32(TcFilterU32Option::Action(actions)) => Some(actions),
            _ => None,
        });
        let own = |actions: &Vec<TcAction>| match owner(actions) {
            Some(to) => Owner::Patchbay { to },
            None => Owner::Other,
        };
        Ok(actions
            .next()
            .map_or(Self::Table, |actions| Self::Filter(own(actions))))
    }
}

/// Returns the link that gets the frames if the cookie is patchbay's.
fn owner(actions: &[TcAction]) -> Option<u32> {
    let attributes = || actions.iter().flat_map(|action| &action.attributes);
    let has_cookie = |attribute: &TcActionAttribute| matches!(attribute, TcActionAttribute::Cookie(cookie) if cookie == COOKIE);
    attributes().any(has_cookie).then(|| {
        attributes().find_map(|attribute| match attribute {
            TcActionAttribute::Options(options) => options.iter().find_map(|option| match option {
                TcActionOption::Mirror(TcActionMirrorOption::Parms(mirror)) => Some(mirror.ifindex),
                _ => None,
            }),
            _ => None,
        })
    })?
}

impl Filter {
    /// Lists the filters of frames that the link receives.
    fn of(rtnl: &Rtnetlink, link: u32) -> io::Result<Vec<Self>> {
        let request = RouteNetlinkMessage::GetTrafficFilter(message(link, PARENT));
        let parts: Vec<FilterPart> = rtnl.dump(&request)?;
        let filters = parts.into_iter().filter_map(|part| match part {
            FilterPart::Filter(owner) => Some(Self { owner }),
            FilterPart::Table => None,
        });
        Ok(filters.collect())
    }
}
