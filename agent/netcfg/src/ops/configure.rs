//! Giving a card its configuration: by difference, and undone when a step fails.
//!
//! Undoing is the same work the other way round: from what the kernel has by then to what it had.

use nix::errno::Errno;
use patchbay_types::{DadPolicy, IfName, LinkChange, LinkSpec, Mtu, QueuePairs};

use super::addresses::{self, Loss};
use super::state::{Admin, State};
use super::{Error, Sockets, Step, rename};
use crate::ethtool::Device;
use crate::rtnl::link::{self, Change};
use crate::rtnl::route::RouteMsg;
use patchbay_netlink::{Batch, KernelError, Rtnetlink, Transport as _};

/// How a link was before it was changed: enough to go back.
#[derive(Debug)]
pub(super) struct Before {
    pub(super) index: u32,
    name: IfName,
    state: State,
    routes: Vec<RouteMsg>,
}

impl Before {
    fn read(kernel: &mut Sockets, index: u32, name: &IfName) -> Result<Self, Error> {
        let gone = || Error::Gone { name: name.clone() };
        let state = State::read(kernel, index)?.ok_or_else(gone)?;
        let routes = addresses::leaning(kernel, index, &state.addresses)?;
        Ok(Self {
            index,
            name: name.clone(),
            state,
            routes,
        })
    }

    /// The link of this configuration is no more.
    pub(super) fn gone(&self) -> Error {
        Error::Gone {
            name: self.name.clone(),
        }
    }

    fn change(&self, kernel: &mut Sockets, to: &State, duplicates: DadPolicy) -> Result<(), Error> {
        let work = Work {
            index: self.index,
            routes: &self.routes,
            duplicates,
        };
        work.change(kernel, &self.state, to)
            .map_err(|first| self.restore(kernel, first))
    }

    /// Goes back after a failure, and tells it. A card that has gone needs no undoing.
    pub(super) fn restore(&self, kernel: &mut Sockets, first: Error) -> Error {
        let work = Work {
            index: self.index,
            routes: &self.routes,
            duplicates: DadPolicy::Skip,
        };
        let mut undo = || match State::read(kernel, self.index)? {
            Some(now) => {
                work.change(kernel, &now, &self.state)?;
                addresses::put_back(kernel, &self.routes, Loss::Refused)
            }
            None => Ok(()),
        };
        match undo() {
            Ok(()) => first,
            Err(undo) => Error::NotUndone {
                first: first.into(),
                undo: undo.into(),
            },
        }
    }
}

/// Makes link `index` what the spec says, or leaves it as it was.
pub(super) fn apply(kernel: &mut Sockets, index: u32, spec: &LinkSpec) -> Result<Before, Error> {
    let name = &spec.parts().name;
    let links = link::list(&mut kernel.route)?;
    if links
        .iter()
        .any(|link| link.index != index && link.name == name.as_str())
    {
        return Err(Error::NameTaken { name: name.clone() });
    }
    let before = Before::read(kernel, index, name)?;
    before.change(kernel, &State::from(spec), spec.duplicates())?;
    Ok(before)
}

/// Changes what the request says of an interface, or leaves it as it was.
pub(super) fn update(kernel: &mut Sockets, request: &LinkChange) -> Result<Before, Error> {
    let name = request.name();
    let links = link::list(&mut kernel.route)?;
    let unknown = || Error::NoInterface { name: name.clone() };
    let link = links.into_iter().find(|link| link.name == name.as_str());
    let link = link.ok_or_else(unknown)?;
    let before = Before::read(kernel, link.index, name)?;
    let mut to = before.state.clone();
    to.mtu = request.mtu().or(to.mtu);
    if let Some(addresses) = request.addresses() {
        to.addresses = addresses.to_vec();
    }
    let mtu = request.mtu().map_or(link.mtu, |mtu| u32::from(mtu.get()));
    let v6 = to.addresses.iter().find(|address| address.ip().is_ipv6());
    if let Some(address) = v6.filter(|_| mtu < u32::from(Mtu::IPV6_MIN.get())) {
        let address = *address;
        return Err(Error::SmallMtu { address, mtu });
    }
    before.change(kernel, &to, request.duplicates())?;
    Ok(before)
}

/// One change of a link.
struct Work<'a> {
    index: u32,
    /// To be kept over it.
    routes: &'a [RouteMsg],
    duplicates: DadPolicy,
}

impl Work<'_> {
    /// From one state to the other. The order keeps traffic: what shapes packets comes before the
    /// addresses that draw them, and the link goes up last.
    fn change(&self, kernel: &mut Sockets, from: &State, to: &State) -> Result<(), Error> {
        let index = self.index;
        if let Some(name) = to.name.as_ref().filter(|_| from.name != to.name) {
            rename::rename(kernel, index, from, name, self.routes)?;
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
        addresses::set(kernel, index, &to.addresses, self.duplicates)?;
        addresses::put_back(kernel, self.routes, Loss::Expected)?;
        match (from.admin, to.admin) {
            (Admin::Down, Admin::Up) => one(kernel, index, &Change::Up, Step::Up),
            (Admin::Up, Admin::Down) => one(kernel, index, &Change::Down, Step::Down),
            (Admin::Up, Admin::Up) | (Admin::Down, Admin::Down) => Ok(()),
        }
    }
}

/// One change of the link, committed alone.
pub(super) fn one(
    kernel: &mut Sockets,
    index: u32,
    change: &Change,
    step: Step,
) -> Result<(), Error> {
    let mut batch = Batch::default();
    link::change(&mut batch, index, change);
    send(kernel, &batch, |_| step)
}

/// Commits requests that don't depend on each other; the first refusal is told, with the
/// step of its position.
pub(super) fn send(
    kernel: &mut Sockets,
    batch: &Batch<Rtnetlink>,
    step: impl FnOnce(usize) -> Step,
) -> Result<(), Error> {
    match kernel.route.send(batch)?.into_iter().next() {
        Some((position, refusal)) => Err(Error::Refused {
            step: step(position),
            refusal,
        }),
        None => Ok(()),
    }
}

/// How often the queues are set before the driver is believed to refuse. It shows the card to us
/// before its probe has ended: then it may be busy, or set the number that it likes after ours.
const QUEUE_TRIES: usize = 5;

fn set_queues(kernel: &mut Sockets, index: u32, pairs: QueuePairs) -> Result<(), Error> {
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
            let refusal = KernelError { errno, text: None };
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
            Err(patchbay_netlink::Error::Refused(refusal)) => last = Some(refusal),
            Err(error) => return Err(error.into()),
        }
    }
    let refusal = last.unwrap_or(KernelError {
        errno: Errno::EBUSY as i32,
        text: Some("the driver keeps setting another number".to_owned()),
    });
    Err(Error::Refused {
        step: Step::Queues(pairs),
        refusal,
    })
}
