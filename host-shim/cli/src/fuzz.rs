//! What the fuzz targets need of this crate and nobody else: private readers, by thin wrappers.

use std::io;
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use patchbay_grammar::Resolver;
use patchbay_grammar::ipvsadm::Names;
use patchbay_types::failure::Failure;
use patchbay_types::ipvs::Protocol;
use patchbay_types::{LinkChange, LinkSpec, RoutePattern, RouteSpec};
use serde_json::Value;

use crate::args::Target;
use crate::input;
use crate::input::route::{self, RouteText};
use crate::name_service::HostsAndServices;
use patchbay_host::card::CardRequest;
use patchbay_host::hotplug::Inventory;
use patchbay_host::qmp::Session;
use patchbay_host::sandbox::{self, Journal};

/// The document of `add-iface`.
pub fn card(file: &Path) -> Result<LinkSpec, Failure> {
    Ok(CardRequest::try_from(input::interface(file)?)?.link)
}

/// The document of `update-iface`.
pub fn change(file: &Path) -> Result<LinkChange, Failure> {
    Ok(LinkChange::try_from(input::interface(file)?)?)
}

/// The document of `del-iface`.
pub fn name(file: &Path) -> Result<String, Failure> {
    Ok(input::name(&input::interface(file)?)?.to_string())
}

fn echoes<T>(read: Vec<(T, RouteText)>) -> (Vec<T>, Value) {
    let (read, echoes): (Vec<T>, Vec<RouteText>) = read.into_iter().unzip();
    (read, serde_json::to_value(echoes).unwrap_or_default())
}

/// The document of `add-route`, and its echo.
pub fn routes_to_add(file: &Path) -> Result<(Vec<RouteSpec>, Value), Failure> {
    route::to_add(file).map(echoes)
}

/// The document of `del-route`, and its echo.
pub fn routes_to_delete(file: &Path) -> Result<(Vec<RoutePattern>, Value), Failure> {
    route::to_delete(file).map(echoes)
}

/// The document of `update-routes`, and its echo.
pub fn routes_wanted(file: &Path) -> Result<Option<(Vec<RouteSpec>, Value)>, Failure> {
    Ok(route::wanted(file)?.map(echoes))
}

/// Finds the sandbox; `Err` holds a refusal.
pub fn find(target: &Target, id: &str) -> Result<(), Failure> {
    sandbox::find(&target.lookup(), id).map(|_| ())
}

/// Reads the journal below `state`, writes each card again, and says whether that changed one.
pub fn journal_is_kept(state: &Path) -> Result<bool, Failure> {
    let journal = Journal::at(state);
    let mut kept = true;
    for card in journal.cards()? {
        journal.write(&card)?;
        kept &= journal.card(&card.name)?.as_ref() == Some(&card);
        journal.remove(&card.name)?;
    }
    Ok(kept)
}

/// The files that have names of hosts and ports.
#[must_use]
pub fn names(hosts: &str, services: &str, wanted: &str) -> (Option<Ipv4Addr>, Option<u16>) {
    let files = HostsAndServices::parse(hosts, services);
    let found = (files.host(wanted), files.service(wanted, "tcp"));
    if let (Some(host), Some(port)) = found {
        files.show(Names::Resolved, Protocol::Tcp, host.into(), port);
    }
    found
}

/// Opens a port behind a Unix socket.
pub fn handshake(stream: &UnixStream) -> io::Result<()> {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
    patchbay_host::vsock_stream::handshake(stream, 7, deadline)
}

/// A whole session with a monitor: greeting, the machine's inventory, an event.
pub fn monitor(stream: UnixStream) -> Result<(), Failure> {
    let mut session = Session::over(stream, Path::new("/qmp.sock"))?;
    let inventory = Inventory::read(&mut session)?;
    let nics = inventory.nics();
    let soon = Instant::now() + Duration::from_millis(1);
    session.event(soon, |event| {
        nics.iter().any(|nic| event.is("DEVICE_DELETED", &nic.id))
    })?;
    Ok(())
}
