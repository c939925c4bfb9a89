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
use patchbay_protocols::failure::{Failure, Kind};
use patchbay_protocols::model::{IfName, QueuePairs};

use super::ifreq::{self, Links};
use crate::sandbox::TapBefore;

/// A TAP, no packet information, the virtio header: what QEMU's virtio-net wants.
const TAP: i32 = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
const MULTI_QUEUE: i32 = libc::IFF_MULTI_QUEUE;
/// Refuse a device that exists.
const EXCLUSIVE: i32 = libc::IFF_TUN_EXCL;

/// The queues of a TAP, open.
#[derive(Debug)]
pub(super) struct Tap {
    /// One for each queue pair.
    pub(super) queues: Vec<OwnedFd>,
    /// How it was before; `None` for one that was made.
    pub(super) before: Option<TapBefore>,
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
pub(super) fn set(netns: Option<&Path>, device: &IfName, to: TapBefore) -> Result<(), Failure> {
    within(netns, || {
        let set = Links::open().and_then(|links| links.set(device, to));
        set.map_err(|error| failure(device, &error))
    })
}

/// Gives an existing TAP back what it had. One that has gone meanwhile needs nothing.
pub(super) fn restore(netns: Option<&Path>, device: &IfName, to: TapBefore) -> Result<(), Failure> {
    match set(netns, device, to) {
        Err(failure) if failure.kind() == Kind::NotFound => Ok(()),
        done => done,
    }
}

fn made(device: &IfName, pairs: QueuePairs) -> Result<Vec<OwnedFd>, Failure> {
    let mode = if pairs == QueuePairs::ONE {
        TAP
    } else {
        TAP | MULTI_QUEUE
    };
    let first = queue(device, mode | EXCLUSIVE).map_err(|errno| failure(device, &errno.into()))?;
    let mut queues = vec![first];
    more(device, pairs, mode, &mut queues)?;
    Ok(queues)
}

/// A device that exists is a TAP with one queue, a TAP with several, or no TAP; only attaching
/// tells which.
fn existing(links: &Links, device: &IfName, pairs: QueuePairs) -> Result<Vec<OwnedFd>, Failure> {
    let busy = || {
        let sentence = format!("device '{device}' is in use by another process");
        Failure::new(Kind::Exists, sentence).with_field("device")
    };
    // Another queue of a multi-queue TAP can be opened while a second machine has the first.
    if links
        .is_running(device)
        .map_err(|error| failure(device, &error))?
    {
        return Err(busy());
    }
    let attached = match queue(device, TAP | MULTI_QUEUE) {
        Err(Errno::EINVAL) => queue(device, TAP).map(|queue| (queue, TAP)),
        many => many.map(|queue| (queue, TAP | MULTI_QUEUE)),
    };
    let (first, mode) = attached.map_err(|errno| match errno {
        Errno::EBUSY => busy(),
        Errno::EINVAL => {
            let sentence = format!("device '{device}' exists and is no TAP device");
            Failure::new(Kind::Invalid, sentence).with_field("device")
        }
        errno => failure(device, &errno.into()),
    })?;
    if mode == TAP && pairs != QueuePairs::ONE {
        let sentence = format!(
            "queues '{pairs}' is not allowed: the TAP device '{device}' was made with one queue"
        );
        return Err(Failure::new(Kind::Invalid, sentence).with_field("queues"));
    }
    let mut queues = vec![first];
    more(device, pairs, mode, &mut queues)?;
    Ok(queues)
}

fn more(
    device: &IfName,
    pairs: QueuePairs,
    mode: i32,
    queues: &mut Vec<OwnedFd>,
) -> Result<(), Failure> {
    for _ in 1..pairs.get() {
        queues.push(queue(device, mode).map_err(|errno| failure(device, &errno.into()))?);
    }
    Ok(())
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
