//! Giving a card its configuration: by difference, and undone when a step fails.
//!
//! Undoing is the same work the other way round: from what the kernel has by then to what it had.

use std::collections::HashSet;

use nix::errno::Errno;
use patchbay_protocols::model::{InterfaceAddress, LinkSpec, QueuePairs};

use super::state::{Admin, State};
use super::{Error, Kernel, Step, rename};
use crate::ethtool::Device;
use crate::netlink::{self, Batch, Kernel as _, Refusal, Route};
use crate::rtnl::address;
use crate::rtnl::link::{self, Change};

/// Makes link `index` what the spec says, or leaves it as it was.
pub(super) fn apply(kernel: &mut Kernel, index: u32, spec: &LinkSpec) -> Result<(), Error> {
    let name = &spec.parts().name;
    let gone = || Error::Gone { name: name.clone() };
    let links = link::list(&mut kernel.route)?;
    if links
        .iter()
        .any(|link| link.index != index && link.name == name.as_str())
    {
        return Err(Error::NameTaken { name: name.clone() });
    }
    let before = State::read(kernel, index)?.ok_or_else(gone)?;
    let Err(first) = change(kernel, index, &before, &State::from(spec)) else {
        return Ok(());
    };
    match undo(kernel, index, &before) {
        Ok(()) => Err(first),
        Err(undo) => Err(Error::NotUndone {
            first: first.into(),
            undo: undo.into(),
        }),
    }
}

/// A card that has gone needs no undoing.
fn undo(kernel: &mut Kernel, index: u32, before: &State) -> Result<(), Error> {
    match State::read(kernel, index)? {
        Some(now) => change(kernel, index, &now, before),
        None => Ok(()),
    }
}

/// From one state to the other. The order keeps traffic: what shapes packets comes before the
/// addresses that draw them, and the link goes up last.
fn change(kernel: &mut Kernel, index: u32, from: &State, to: &State) -> Result<(), Error> {
    if let Some(name) = to.name.as_ref().filter(|_| from.name != to.name) {
        rename::rename(kernel, index, from, name)?;
    }
    if let Some(mtu) = to.mtu.filter(|_| from.mtu != to.mtu) {
        let step = Step::Mtu(u32::from(mtu.get()));
        one(kernel, index, &Change::Mtu(mtu), step)?;
    }
    if let Some(pairs) = to.queues.filter(|_| from.queues != to.queues) {
        set_queues(kernel, index, pairs)?;
    }
    if from.arp != to.arp {
        one(kernel, index, &Change::Arp(to.arp), Step::Arp)?;
    }
    set_addresses(kernel, index, &from.addresses, &to.addresses)?;
    match (from.admin, to.admin) {
        (Admin::Down, Admin::Up) => one(kernel, index, &Change::Up, Step::Up),
        (Admin::Up, Admin::Down) => one(kernel, index, &Change::Down, Step::Down),
        (Admin::Up, Admin::Up) | (Admin::Down, Admin::Down) => Ok(()),
    }
}

/// One change of the link, committed alone.
pub(super) fn one(
    kernel: &mut Kernel,
    index: u32,
    change: &Change,
    step: Step,
) -> Result<(), Error> {
    let mut batch = Batch::default();
    link::change(&mut batch, index, change);
    commit(kernel, &batch, &[step])
}

/// Commits requests that don't depend on each other; the first refusal is told, with its step.
pub(super) fn commit(
    kernel: &mut Kernel,
    batch: &Batch<Route>,
    steps: &[Step],
) -> Result<(), Error> {
    match kernel.route.commit(batch)?.into_iter().next() {
        Some((position, refusal)) => Err(Error::Refused {
            step: steps[position].clone(),
            refusal,
        }),
        None => Ok(()),
    }
}

fn set_addresses(
    kernel: &mut Kernel,
    index: u32,
    from: &[InterfaceAddress],
    to: &[InterfaceAddress],
) -> Result<(), Error> {
    let have: HashSet<_> = from.iter().collect();
    let want: HashSet<_> = to.iter().collect();
    let (mut batch, mut steps) = (Batch::default(), Vec::new());
    for old in from.iter().filter(|old| !want.contains(old)) {
        address::remove(&mut batch, index, *old);
        steps.push(Step::RemoveAddress(*old));
    }
    commit(kernel, &batch, &steps)?;
    let (mut batch, mut steps) = (Batch::default(), Vec::new());
    for new in to.iter().filter(|new| !have.contains(new)) {
        address::add(&mut batch, index, *new);
        steps.push(Step::AddAddress(*new));
    }
    commit(kernel, &batch, &steps)
}

/// How often the queues are set before the driver is believed to refuse. It shows the card to us
/// before its probe has ended: then it may be busy, or set the number that it likes after ours.
const QUEUE_TRIES: usize = 5;

fn set_queues(kernel: &mut Kernel, index: u32, pairs: QueuePairs) -> Result<(), Error> {
    let mut last = None;
    for _ in 0..QUEUE_TRIES {
        let links = link::list(&mut kernel.route)?;
        let name = links
            .into_iter()
            .find(|link| link.index == index)
            .map(|link| link.name);
        let device = Device {
            index,
            name: name.as_deref().unwrap_or_default(),
        };
        let Some(channels) = kernel.ethtool.channels(device)? else {
            // A card with one pair has no channels to set, and needs none.
            let errno = Errno::EOPNOTSUPP as i32;
            let refusal = Refusal { errno, text: None };
            return match pairs {
                QueuePairs::ONE => Ok(()),
                _ => Err(Error::Refused {
                    step: Step::Queues(pairs),
                    refusal,
                }),
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
        match kernel.ethtool.set_channels(device, pairs) {
            Ok(()) => {}
            Err(netlink::Error::Refused(refusal)) => last = Some(refusal),
            Err(error) => return Err(error.into()),
        }
    }
    let refusal = last.unwrap_or(Refusal {
        errno: Errno::EBUSY as i32,
        text: Some("the driver keeps setting another number".to_owned()),
    });
    Err(Error::Refused {
        step: Step::Queues(pairs),
        refusal,
    })
}
