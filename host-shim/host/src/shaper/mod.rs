//! Bandwidth limits of a card, by `tc` on its TAP (decision 0027).
//!
//! Frames that the card receives are sent by the TAP, whose root qdisc limits them. Frames that it sends are
//! received by the TAP, and pass through a device of the kind `ifb` whose root qdisc limits them.

mod tbf;

use std::io;

use patchbay_types::LinkName;
use patchbay_types::failure::{Failure, Kind};

use crate::limit::Limit;
use crate::mirror::WireRecord;
use crate::netns::rtnl::tc_failure;
use crate::netns::{HostLinkKind, HostLinkState, Links};
use crate::sandbox::ShaperRecord;
use tbf::Root;

/// Prefix of the names of devices.
const PREFIX: &str = "pbi";
/// MTU of a device: the length of the largest frame doesn't matter, as no socket sends through it.
const MTU: u32 = 1500;

/// Limits of a TAP.
pub(crate) struct Shaper<'a> {
    /// Network namespace of the TAP.
    pub(crate) links: &'a Links,
    /// Index of the TAP.
    pub(crate) tap: u32,
}

impl Shaper<'_> {
    /// Plans the limit of the frames that the card sends. `suffix` is that of the card's record.
    ///
    /// # Errors
    /// [`Kind::Exists`] for a TAP whose frames another program filters.
    pub(crate) fn plan(&self, suffix: &str) -> Result<ShaperRecord, Failure> {
        // The kernel's limit is 15 characters; the last digits of a time change the fastest.
        let start = suffix.len().saturating_sub(12);
        let name = format!("{PREFIX}{}", suffix.get(start..).unwrap_or_default());
        let device: LinkName = name
            .parse()
            .map_err(|invalid: patchbay_types::InvalidValue| {
                Failure::from(invalid.in_field("txLimit"))
            })?;
        let tap = WireRecord::plan(self.links.rtnetlink(), self.tap)?;
        Ok(ShaperRecord { device, tap })
    }

    /// Limits the frames that the card receives.
    ///
    /// # Errors
    /// [`Kind::Exists`] for a TAP with a qdisc of another program.
    pub(crate) fn limit_received(&self, limit: Limit) -> Result<(), Failure> {
        let rtnl = self.links.rtnetlink();
        let done = match (limit, tbf::root(rtnl, self.tap)) {
            (_, Err(error)) => Err(error),
            (Limit::Rate(_), Ok(Root::Foreign)) => {
                let message = "the TAP device of the card has a qdisc of another program: remove it ('tc \
                               qdisc del dev TAP root')";
                return Err(Failure::new(Kind::Exists, message).with_field("rxLimit"));
            }
            (Limit::Rate(limit), Ok(_)) => tbf::set(rtnl, self.tap, limit),
            (Limit::None, Ok(_)) => tbf::remove(rtnl, self.tap),
        };
        done.map_err(|error| failure("rxLimit", &error))
    }

    /// Limits the frames that the card sends. Without a limit the device is removed.
    pub(crate) fn limit_sent(&self, record: &ShaperRecord, limit: Limit) -> Result<(), Failure> {
        let Limit::Rate(limit) = limit else {
            return remove(self.links, record);
        };
        let set = || {
            let device = self.device(&record.device)?;
            let rtnl = self.links.rtnetlink();
            tbf::set(rtnl, device, limit)?;
            record.tap.redirect(rtnl, device)
        };
        set().map_err(|error| failure("txLimit", &error))
    }

    /// Returns the index of the device, which is made if it is missing, and sets it up.
    fn device(&self, name: &LinkName) -> io::Result<u32> {
        let found = match self.links.link(name)? {
            None => {
                self.links.add_ifb(name)?;
                self.links.link(name)?
            }
            found => found,
        };
        let device = found.filter(|link| link.kind == HostLinkKind::Ifb);
        let device = device.ok_or_else(|| {
            io::Error::other(format!("the link '{name}' is of another kind than ifb"))
        })?;
        if !device.state.up {
            self.links.without_ipv6_addresses(device)?;
        }
        let up = HostLinkState {
            mtu: device.state.mtu.max(MTU),
            up: true,
        };
        self.links.set_link(device, up)?;
        Ok(device.index)
    }
}

/// Removes the limit of the frames that a card sends. Repeating it changes nothing, also if the TAP is gone.
pub(crate) fn remove(links: &Links, record: &ShaperRecord) -> Result<(), Failure> {
    record.tap.cut(links.rtnetlink())?;
    let removed = links.link(&record.device).and_then(|link| match link {
        Some(link) if link.kind == HostLinkKind::Ifb => links.remove(link),
        _ => Ok(()),
    });
    removed.map_err(|error| failure("txLimit", &error))
}

fn failure(field: &str, error: &io::Error) -> Failure {
    let message = "could not change the bandwidth limit of the card";
    let modules = "sch_tbf; for txLimit also sch_ingress, cls_u32, act_mirred and ifb";
    tc_failure(message, error, modules).with_field(field)
}
