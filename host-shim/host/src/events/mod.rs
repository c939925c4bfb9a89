//! Events of sandboxes as they happen: on this host, and in their guests.
//!
//! One thread follows the files of the host, and one the agent of each sandbox, with a second one for its IPVS table. They share a short queue, and
//! wait while it is full: then the guests' kernels drop events, and report that.

mod guest;
mod host;
mod ipvs;

use std::sync::mpsc::{self, SyncSender};
use std::thread;
use std::time::{Duration, SystemTime};

use patchbay_types::failure::Failure;
use patchbay_types::ipvs::Change;
use patchbay_types::{IfName, LinkName, MacAddr, NetEvent};

use crate::sandbox::{Lookup, SandboxId};

/// Maximum number of events that wait for the receiver.
const QUEUE_DEPTH: usize = 256;

/// Event of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Time at which this host learnt it.
    pub time: SystemTime,
    /// Sandbox.
    pub sandbox: SandboxId,
    /// Kind.
    pub kind: EventKind,
}

/// Kind of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventKind {
    /// The sandbox is registered, and its monitor exists.
    SandboxAppeared,
    /// The registration, or the monitor, is gone, and with it all cards.
    SandboxEnded,
    /// Events of the guest are received from now on.
    AgentConnected,
    /// Events of the guest are missed from now on, for this reason.
    AgentDisconnected(String),
    /// A card is plugged and configured.
    CardPlugged(PluggedCard),
    /// A card is unplugged.
    CardUnplugged(PluggedCard),
    /// The network of the guest has changed.
    Guest(NetEvent),
    /// The IPVS table of the guest has changed, as by this request.
    Ipvs(Change),
}

/// Card in the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluggedCard {
    /// Name under which it was plugged.
    pub name: IfName,
    /// MAC address; `None` for a card of release 0.1.0.
    pub mac: Option<MacAddr>,
    /// Host device.
    pub device: LinkName,
}

/// Sandboxes whose events are received.
#[derive(Debug, Clone)]
pub struct Scope {
    /// Places to look for sandboxes.
    pub lookup: Lookup,
    /// Whole ids, since more sandboxes can get a prefix; empty: all sandboxes.
    pub ids: Vec<String>,
    /// Interval at which the IPVS tables of guests are compared; `None`: they are not.
    pub ipvs_interval: Option<Duration>,
}

/// Message of a thread: an event, or the failure that ends the watch.
type Message = Result<Event, Failure>;

/// Passes on the events of sandboxes, also of those that appear later, until `each` fails. A sandbox whose guest
/// can't be watched is a warning. Threads that wait for a guest or a file outlive the call until their next event.
///
/// # Errors
/// Folders that can't be watched; those of `each`.
pub fn follow(
    scope: Scope,
    each: &mut dyn FnMut(&Event) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let (sender, messages) = mpsc::sync_channel(QUEUE_DEPTH);
    let work = move || host::run(&scope, &sender);
    thread::Builder::new()
        .spawn(work)
        .map_err(|error| Failure::of_io("could not start a thread", &error))?;
    for message in messages {
        each(&message?)?;
    }
    Ok(())
}

/// Sender of the events of a sandbox.
#[derive(Debug, Clone)]
struct Sender {
    sandbox: SandboxId,
    queue: SyncSender<Message>,
}

/// The receiver has gone.
struct Closed;

impl Sender {
    fn send(&self, kind: EventKind) -> Result<(), Closed> {
        let event = Event {
            time: SystemTime::now(),
            sandbox: self.sandbox.clone(),
            kind,
        };
        self.queue.send(Ok(event)).map_err(|_| Closed)
    }
}
