//! TAP devices, in the sandbox's network namespace.
//!
//! A TAP that has to be made is not made persistent: it ends with its last descriptor, so neither
//! our death nor QEMU's leaves it behind.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::thread;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use patchbay_types::failure::{Failure, Kind};
use patchbay_types::{IfName, QueuePairs};

use super::carrier::has_carrier;
use super::ifreq::{self, Links};
use crate::netns::LinkState;

/// A TAP, no packet information, the virtio header: what QEMU's virtio-net wants.
const TAP: i32 = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
const MULTI_QUEUE: i32 = libc::IFF_MULTI_QUEUE;
/// Refuse a device that exists.
const EXCLUSIVE: i32 = libc::IFF_TUN_EXCL;

/// The queues of a TAP, open.
#[derive(Debug)]
pub(super) struct Tap {
    /// One for each queue pair.
    pub queues: Vec<OwnedFd>,
    /// How it was before; `None` for one that was made.
    pub before: Option<LinkState>,
}

/// Opens the queues of the TAP `device`, which is made if there is none, and changes nothing else.
pub(super) fn open(
    netns: Option<&Path>,
    device: &IfName,
    pairs: QueuePairs,
) -> Result<Tap, Failure> {
    within(netns, || {
        let links = Links::open().map_err(|error| failure(device, &error))?;
        let before = links
            .state(device)
            .map_err(|error| failure(device, &error))?;
        let queues = match before {
            Some(_) => existing(&links, device, pairs)?,
            None => made(device, pairs)?,
        };
        Ok(Tap { queues, before })
    })
}

/// Gives the TAP an MTU and a state.
pub(super) fn set(netns: Option<&Path>, device: &IfName, to: LinkState) -> Result<(), Failure> {
    within(netns, || {
        let set = Links::open().and_then(|links| links.set(device, to));
        set.map_err(|error| failure(device, &error))
    })
}

/// Gives an existing TAP back what it had, once our machine has let it go. One that has gone
/// meanwhile needs nothing, and one that is open again serves somebody else by now.
pub(super) fn restore(netns: Option<&Path>, device: &IfName, to: LinkState) -> Result<(), Failure> {
    within(netns, || {
        let links = Links::open().map_err(|error| failure(device, &error))?;
        let restore = || match links.state(device)? {
            Some(_) if links.is_tap(device)? && !has_carrier(device)? => links.set(device, to),
            _ => Ok(()),
        };
        restore().map_err(|error: io::Error| failure(device, &error))
    })
}

fn made(device: &IfName, pairs: QueuePairs) -> Result<Vec<OwnedFd>, Failure> {
    let mode = if pairs == QueuePairs::ONE {
        TAP
    } else {
        TAP | MULTI_QUEUE
    };
    let first = queue(device, mode | EXCLUSIVE).map_err(|errno| failure(device, &errno.into()))?;
    with_others(device, pairs, first)
}

/// Nothing is opened before it is sure that the device will do: opening changes its flags.
fn existing(links: &Links, device: &IfName, pairs: QueuePairs) -> Result<Vec<OwnedFd>, Failure> {
    let refuse = |kind, field, sentence| Err(Failure::new(kind, sentence).with_field(field));
    let told = |error: io::Error| failure(device, &error);
    if !links.is_tap(device).map_err(told)? {
        let sentence = format!("device '{device}' exists and is no TAP device");
        return refuse(Kind::Invalid, "device", sentence);
    }
    let busy = format!("device '{device}' is in use by another process");
    // Another queue of a multi-queue TAP could be opened while a second machine has the first.
    if has_carrier(device).map_err(told)? {
        return refuse(Kind::Exists, "device", busy);
    }
    let many = pairs != QueuePairs::ONE;
    let first = match queue(device, if many { TAP | MULTI_QUEUE } else { TAP }) {
        Ok(first) => first,
        Err(Errno::EINVAL) if many => {
            let sentence = format!(
                "queues '{pairs}' is not allowed: the TAP device '{device}' was made with one queue"
            );
            return refuse(Kind::Invalid, "queues", sentence);
        }
        // A multi-queue TAP takes one queue too, if it is called what it is.
        Err(Errno::EINVAL) => {
            queue(device, TAP | MULTI_QUEUE).map_err(|errno| told(errno.into()))?
        }
        Err(Errno::EBUSY) => return refuse(Kind::Exists, "device", busy),
        Err(errno) => return Err(told(errno.into())),
    };
    with_others(device, pairs, first)
}

/// Opens the queues after the first.
fn with_others(
    device: &IfName,
    pairs: QueuePairs,
    first: OwnedFd,
) -> Result<Vec<OwnedFd>, Failure> {
    let mut queues = vec![first];
    for _ in 1..pairs.get() {
        let next = queue(device, TAP | MULTI_QUEUE);
        queues.push(next.map_err(|errno| failure(device, &errno.into()))?);
    }
    Ok(queues)
}

fn queue(device: &IfName, mode: i32) -> Result<OwnedFd, Errno> {
    let tun = File::options().read(true).write(true).open("/dev/net/tun");
    let tun = tun.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or_default()))?;
    let tun = OwnedFd::from(tun);
    ifreq::attach(&tun, device, mode)?;
    Ok(tun)
}

fn failure(device: &IfName, error: &io::Error) -> Failure {
    let kind = error.raw_os_error().map_or(Kind::Other, Kind::from_errno);
    Failure::new(kind, format!("could not use the TAP device '{device}'"))
        .with_field("device")
        .with_cause(error.to_string())
}

/// Works in another network namespace, on a thread that ends there: nothing else of us moves.
fn within<T: Send>(
    netns: Option<&Path>,
    work: impl FnOnce() -> Result<T, Failure> + Send,
) -> Result<T, Failure> {
    let Some(netns) = netns else {
        return work();
    };
    let enter = || {
        let namespace = File::open(netns)?;
        io::Result::Ok(setns(namespace, CloneFlags::CLONE_NEWNET)?)
    };
    let done = thread::scope(|scope| {
        let thread = scope.spawn(|| match enter() {
            Ok(()) => work(),
            Err(error) => {
                let kind = error.raw_os_error().map_or(Kind::Other, Kind::from_errno);
                let sentence = format!("could not enter the network namespace {}", netns.display());
                Err(Failure::new(kind, sentence).with_cause(error.to_string()))
            }
        });
        thread.join()
    });
    done.unwrap_or_else(|_| {
        Err(Failure::new(
            Kind::Other,
            "the thread for the TAP device broke",
        ))
    })
}
