//! What the agent does: decide, order, undo. The rooms below know the domain and no wire.

mod addresses;
mod configure;
pub mod conntrack;
mod error;
pub mod ipvs;
mod places;
mod rename;
mod routes;
mod state;

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::utsname::uname;
use patchbay_types::{
    DadPolicy, Interface, LinkChange, LinkSpec, PciPath, Route, RoutePattern, RouteSpec,
};

use crate::device::{self, Sysfs};
use crate::ethtool::{Device, Ethtool, EthtoolBackend};
use crate::rtnl::{address, link};
use configure::Before;
use patchbay_netlink::{RecvBuffer, Rtnetlink, Socket};

use conntrack::ConntrackService;
pub use error::{Error, Step};
use ipvs::IpvsService;
use places::{Place, Places};

/// Longest wait for the carrier of a card that has come up.
const CARRIER: Duration = Duration::from_secs(1);

/// The sockets of the one rtnetlink interface, under one lock: who changes links does so alone.
#[derive(Debug)]
struct Sockets {
    route: Socket<Rtnetlink>,
    ethtool: Ethtool,
}

/// Everything that the agent can be asked, over the kernel of its network namespace.
#[derive(Debug)]
pub struct Netcfg {
    sysfs: Sysfs,
    /// The feature's word for the way in which queues are set: told without waiting for the lock.
    ethtool: &'static str,
    kernel: Mutex<Sockets>,
    places: Places,
    ipvs: IpvsService,
    conntrack: ConntrackService,
}

/// A card that was configured, and what that took.
#[derive(Debug)]
pub struct Configured {
    /// As the kernel has it now.
    pub interface: Interface,
    /// Until the card was there.
    pub discovery: Duration,
    /// From then on.
    pub netlink: Duration,
}

impl Netcfg {
    /// Opens the sockets in the network namespace of the calling thread.
    pub fn open(
        sysfs: Sysfs,
        ethtool: EthtoolBackend,
        undo_log: Option<PathBuf>,
    ) -> Result<Self, patchbay_netlink::Error> {
        let kernel = Sockets {
            route: Socket::open(RecvBuffer::Large)?,
            ethtool: Ethtool::open(ethtool)?,
        };
        let ethtool = match kernel.ethtool {
            Ethtool::Family(..) => "ethtool-netlink",
            Ethtool::Ioctl => "ethtool-ioctl",
        };
        Ok(Self {
            sysfs,
            ethtool,
            kernel: Mutex::new(kernel),
            places: Places::default(),
            ipvs: IpvsService::open(undo_log)?,
            conntrack: ConntrackService::new(),
        })
    }

    /// What this agent can do on this kernel, in words that a host may look for.
    pub fn features(&self) -> Vec<&'static str> {
        vec!["interfaces", "routes", "ipvs", "conntrack", self.ethtool]
    }

    /// IPVS.
    pub fn ipvs(&self) -> &IpvsService {
        &self.ipvs
    }

    /// Connection tracking.
    pub fn conntrack(&self) -> &ConntrackService {
        &self.conntrack
    }

    /// The kernel's release, as `uname -r` prints it.
    pub fn kernel_release(&self) -> String {
        uname().map_or_else(
            |_| String::new(),
            |name| name.release().to_string_lossy().into_owned(),
        )
    }

    /// Waits for the card, then gives it the whole configuration, or undoes what it did.
    pub fn configure(
        &self,
        path: &PciPath,
        spec: &LinkSpec,
        deadline: Instant,
    ) -> Result<Configured, Error> {
        let begun = Instant::now();
        let place = self.places.take(path);
        let index = self.find(&place, spec, deadline)?;
        let discovery = begun.elapsed();
        let before = {
            let mut kernel = self.lock();
            place.check()?;
            configure::apply(&mut kernel, index, spec)?
        };
        let finished = match self.wait_for_carrier(index) {
            Ok(()) => self.finish(&before, spec.duplicates()),
            Err(error) => Err(error.into()),
        };
        let interface = finished.map_err(|first| {
            let mut kernel = self.lock();
            match place.check() {
                Ok(()) => before.restore(&mut kernel, first),
                Err(lost) => lost,
            }
        })?;
        Ok(Configured {
            interface,
            discovery,
            netlink: begun.elapsed().saturating_sub(discovery),
        })
    }

    /// Changes an interface by difference, or leaves it as it was.
    pub fn update(&self, change: &LinkChange) -> Result<Interface, Error> {
        let before = configure::update(&mut self.lock(), change)?;
        let finished = self.finish(&before, change.duplicates());
        finished.map_err(|first| before.restore(&mut self.lock(), first))
    }

    /// Adds routes, or none of them.
    pub fn add_routes(&self, specs: &[RouteSpec]) -> Result<(), Error> {
        routes::add(&mut self.lock(), specs)
    }

    /// Deletes every route that agrees with a pattern, or none.
    pub fn delete_routes(&self, patterns: &[RoutePattern]) -> Result<(), Error> {
        routes::delete(&mut self.lock(), patterns)
    }

    /// Makes these the routes of the main table, besides those that the kernel makes.
    pub fn replace_routes(&self, specs: &[RouteSpec]) -> Result<(), Error> {
        routes::replace(&mut self.lock(), specs)
    }

    /// The routes of the main table.
    pub fn routes(&self) -> Result<Vec<Route>, Error> {
        routes::list(&mut self.lock())
    }

    /// Waits for the new addresses if that was asked, and shows what became of the interface. The
    /// kernel is not locked while it asks the other hosts.
    fn finish(&self, before: &Before, duplicates: DadPolicy) -> Result<Interface, Error> {
        if duplicates == DadPolicy::Detect {
            addresses::settled(before.index, || self.lock())?;
        }
        let listed = self.list()?;
        listed
            .into_iter()
            .find(|interface| interface.index == before.index)
            .ok_or_else(|| before.gone())
    }

    /// Every interface of the namespace.
    pub fn list(&self) -> Result<Vec<Interface>, Error> {
        Ok(self.interfaces(&mut self.lock())?)
    }

    /// A panic while it was held leaves nothing of the kernel's half done in memory.
    fn lock(&self) -> MutexGuard<'_, Sockets> {
        self.kernel.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, place: &Place<'_>, spec: &LinkSpec, deadline: Instant) -> Result<u32, Error> {
        let path = place.path;
        let mac = spec.parts().mac;
        let mut other_mac = None;
        let found = device::until(deadline, || {
            place.check()?;
            let links = link::list(&mut self.lock().route)?;
            let here = links
                .iter()
                .find(|link| self.sysfs.path_of(&link.name, link.index).as_ref() == Some(path));
            other_mac = here.and_then(|link| link.mac).filter(|found| *found != mac);
            let matching = here.filter(|link| link.mac == Some(mac));
            Ok::<_, Error>(matching.map(|link| link.index))
        })?;
        found.ok_or(match other_mac {
            Some(found) => Error::OtherMac {
                path: path.clone(),
                wanted: mac,
                found,
            },
            None => Error::NoCard {
                path: path.clone(),
                mac,
            },
        })
    }

    /// The driver switches the carrier on a moment after its probe, and what is sent before is
    /// dropped. A card whose other end is unplugged stays without one: that is no error. Not
    /// waited for is `IFF_RUNNING`, which the kernel holds back for up to a second.
    fn wait_for_carrier(&self, index: u32) -> Result<(), patchbay_netlink::Error> {
        device::until(Instant::now() + CARRIER, || {
            let links = link::list(&mut self.lock().route)?;
            let link = links.iter().find(|link| link.index == index);
            Ok::<_, patchbay_netlink::Error>(link.is_none_or(|link| link.carrier).then_some(()))
        })?;
        Ok(())
    }

    fn interfaces(&self, kernel: &mut Sockets) -> Result<Vec<Interface>, patchbay_netlink::Error> {
        let links = link::list(&mut kernel.route)?;
        let addresses = address::list(&mut kernel.route)?;
        let mut interfaces = Vec::with_capacity(links.len());
        for link in links {
            let path = self.sysfs.path_of(&link.name, link.index);
            let device = Device {
                index: link.index,
                name: &link.name,
            };
            // Only cards have queues that are ours to tell; a virtual link may be gone by now.
            let channels = match path {
                Some(_) => kernel.ethtool.channels(device).unwrap_or(None),
                None => None,
            };
            let here = addresses.iter().filter(|listed| listed.index == link.index);
            interfaces.push(Interface {
                index: link.index,
                name: link.name,
                mac: link.mac,
                mtu: link.mtu,
                addresses: here.map(|listed| listed.address).collect(),
                path,
                queues: channels.map(|channels| channels.count),
                up: link.up,
                arp: link.arp,
            });
        }
        Ok(interfaces)
    }
}
