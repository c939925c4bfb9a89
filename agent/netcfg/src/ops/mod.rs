//! Operations behind the agent's requests: each validates, orders its netlink changes, and rolls back
//! on failure. Lower modules know nothing of the RPC layer.

mod addresses;
mod claims;
mod configure;
pub mod conntrack;
mod error;
pub mod ipvs;
mod link_settings;
mod neighbors;
mod queues;
mod rename;
mod routes;
mod step;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::utsname::uname;
use patchbay_types::{
    DadPolicy, Interface, LinkChange, LinkSpec, MacAddr, Neighbor, NeighborPattern, NetworkManager,
    PciPath, Place, Route, RoutePattern, RouteSpec,
};

use crate::device::{self, Sysfs};
use crate::ethtool::{Ethtool, EthtoolBackend, EthtoolLink};
use crate::managers::{self, CardMarks};
use crate::rtnl::address;
use crate::rtnl::link::{self, Link};
use claims::{Claim, Claims};
use configure::SavedLink;
use patchbay_netlink::{RecvBuffer, Rtnetlink, Socket};

use conntrack::ConntrackOps;
pub use error::{ConfigAction, Error};
use ipvs::IpvsOps;

/// Maximum wait for the carrier of a card that was set up.
const CARRIER_TIMEOUT: Duration = Duration::from_secs(1);

/// Sockets for links, addresses, routes and queues. A single lock guards them, so that changes of
/// links exclude each other.
#[derive(Debug)]
struct Sockets {
    route: Socket<Rtnetlink>,
    ethtool: Ethtool,
}

/// All operations on a network namespace.
///
/// ```no_run
/// use std::time::{Duration, Instant};
///
/// use patchbay_netcfg::device::Sysfs;
/// use patchbay_netcfg::ethtool::EthtoolBackend;
/// use patchbay_netcfg::ops::Netcfg;
/// use patchbay_types::{Arp, InterfaceAddress, LinkFields, LinkSpec, Mtu, PciAddress, PciPath};
///
/// let netcfg = Netcfg::open(Sysfs::at("/sys"), EthtoolBackend::Auto, None)?;
/// let fields = LinkFields {
///     name: "eth1".parse()?,
///     mac: "02:42:20:6f:a3:69".parse()?,
///     mtu: Mtu::try_from(1500)?,
///     addresses: vec![InterfaceAddress::new("172.16.0.3".parse()?, 16)?],
///     queues: None,
///     arp: Arp::On,
/// };
/// let spec = LinkSpec::new(fields, "addresses")?;
/// let deadline = Instant::now() + Duration::from_secs(10);
/// let path = PciPath::new(vec![PciAddress::new(1, 0)?, PciAddress::new(0, 0)?])?;
/// let configured = netcfg.configure(&path, &spec, &[], deadline)?;
/// println!("{} is up: {}", configured.interface.name, configured.interface.up);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Netcfg {
    sysfs: Sysfs,
    /// Feature name of the ethtool interface that the kernel has; reading it needs no lock.
    pub ethtool: &'static str,
    sockets: Mutex<Sockets>,
    claims: Claims,
    marks: Option<CardMarks>,
    /// Operations on IPVS.
    pub ipvs: IpvsOps,
    /// Operations on connection tracking.
    pub conntrack: ConntrackOps,
}

/// Result of [`Netcfg::configure`].
#[derive(Debug)]
pub struct Configured {
    /// Interface as the kernel reports it afterwards.
    pub interface: Interface,
    /// Time until the card appeared.
    pub discovery: Duration,
    /// Time for its configuration.
    pub netlink: Duration,
}

impl Netcfg {
    /// Opens the sockets in the network namespace of the calling thread. `undo_log` is the path of
    /// the IPVS undo log; without one a crash during a restore leaves the rules half changed.
    pub fn open(
        sysfs: Sysfs,
        ethtool: EthtoolBackend,
        undo_log: Option<PathBuf>,
    ) -> Result<Self, patchbay_netlink::Error> {
        let sockets = Sockets {
            route: Socket::open(RecvBuffer::Large)?,
            ethtool: Ethtool::open(ethtool)?,
        };
        let ethtool = match sockets.ethtool {
            Ethtool::Family(..) => "ethtool-netlink",
            Ethtool::Ioctl => "ethtool-ioctl",
        };
        Ok(Self {
            sysfs,
            ethtool,
            sockets: Mutex::new(sockets),
            claims: Claims::default(),
            marks: None,
            ipvs: IpvsOps::open(undo_log)?,
            conntrack: ConntrackOps::default(),
        })
    }

    /// Marks cards for the guest's udev.
    #[must_use]
    pub fn with_marks(self, marks: Option<CardMarks>) -> Self {
        Self { marks, ..self }
    }

    /// Returns whether cards are marked.
    pub fn has_marks(&self) -> bool {
        self.marks.is_some()
    }

    /// Marks a card before it appears, so that no network manager configures it.
    pub fn mark_card(&self, mac: MacAddr) -> Result<(), Error> {
        let Some(marks) = &self.marks else {
            return Ok(());
        };
        let links = link::list(&mut self.lock().route)?;
        let present = |mac| links.iter().any(|link| link.mac == Some(mac));
        marks.add(mac, present).map_err(Error::Mark)
    }

    /// Lists the programs that configure links on their own.
    pub fn managers(&self) -> Result<Vec<NetworkManager>, Error> {
        managers::running(Path::new("/")).map_err(Error::Processes)
    }

    /// Returns the kernel's release (`uname -r`).
    pub fn kernel_release(&self) -> String {
        uname().map_or_else(
            |_| String::new(),
            |name| name.release().to_string_lossy().into_owned(),
        )
    }

    /// Waits until a card with the MAC address of `spec` is at `path`, then configures it completely
    /// or leaves it unchanged. A card at one of the paths `yielding` loses its name if `spec` has it.
    ///
    /// # Errors
    /// Fails if the card doesn't appear before `deadline`, if a later call has claimed `path`, or if
    /// the kernel refuses a setting.
    pub fn configure(
        &self,
        path: &PciPath,
        spec: &LinkSpec,
        yielding: &[PciPath],
        deadline: Instant,
    ) -> Result<Configured, Error> {
        let start = Instant::now();
        let claim = self.claims.claim(path);
        // For hosts that don't mark cards, and after a reboot of the guest.
        self.mark_card(spec.parts().mac)?;
        let index = self.wait_for_card(&claim, spec, deadline)?;
        let discovery = start.elapsed();
        let saved = {
            let mut sockets = self.lock();
            claim.check()?;
            let is_yielding = |link: &Link| {
                let path = self.sysfs.path_of(&link.name, link.index);
                path.is_some_and(|path| yielding.contains(&path))
            };
            configure::apply(&mut sockets, index, spec, is_yielding)?
        };
        let finished = match self.wait_for_carrier(index) {
            Ok(()) => self.finish(&saved, spec.duplicates()),
            Err(error) => Err(error.into()),
        };
        let interface = finished.map_err(|error| {
            let mut sockets = self.lock();
            match claim.check() {
                Ok(()) => saved.roll_back(&mut sockets, error),
                Err(superseded) => superseded,
            }
        })?;
        Ok(Configured {
            interface,
            discovery,
            netlink: start.elapsed().saturating_sub(discovery),
        })
    }

    /// Changes an interface, or leaves it unchanged.
    pub fn update(&self, change: &LinkChange) -> Result<Interface, Error> {
        let saved = configure::update(&mut self.lock(), &self.sysfs, change)?;
        let finished = self.finish(&saved, change.duplicates());
        finished.map_err(|error| saved.roll_back(&mut self.lock(), error))
    }

    /// Adds all routes, or none.
    pub fn add_routes(&self, specs: &[RouteSpec]) -> Result<(), Error> {
        routes::add(&mut self.lock(), specs)
    }

    /// Deletes every route that matches a pattern; none if a pattern matches no route.
    pub fn delete_routes(&self, patterns: &[RoutePattern]) -> Result<(), Error> {
        routes::delete(&mut self.lock(), patterns)
    }

    /// Replaces the routes of the main table, except those that the kernel made.
    pub fn replace_routes(&self, specs: &[RouteSpec]) -> Result<(), Error> {
        routes::replace(&mut self.lock(), specs)
    }

    /// Lists the routes of the main table.
    pub fn routes(&self) -> Result<Vec<Route>, Error> {
        routes::list(&mut self.lock())
    }

    /// Adds all static neighbors, or none.
    pub fn add_neighbors(&self, neighbors: &[Neighbor]) -> Result<(), Error> {
        neighbors::add(&mut self.lock(), neighbors)
    }

    /// Deletes every static neighbor that matches a pattern; none if a pattern matches no neighbor.
    pub fn delete_neighbors(&self, patterns: &[NeighborPattern]) -> Result<(), Error> {
        neighbors::delete(&mut self.lock(), patterns)
    }

    /// Lists the static neighbors.
    pub fn neighbors(&self) -> Result<Vec<Neighbor>, Error> {
        neighbors::list(&mut self.lock())
    }

    /// Waits for duplicate address detection if requested, and reads the interface. The sockets aren't
    /// locked while the kernel probes for duplicates.
    fn finish(&self, saved: &SavedLink, duplicates: DadPolicy) -> Result<Interface, Error> {
        if duplicates == DadPolicy::Detect {
            addresses::wait_for_dad(saved.index, || self.lock())?;
        }
        let mut interfaces = self.list()?.into_iter();
        let interface = interfaces.find(|interface| interface.index == saved.index);
        interface.ok_or_else(|| saved.gone())
    }

    /// A panic in another thread leaves the sockets usable.
    fn lock(&self) -> MutexGuard<'_, Sockets> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the index of the card's link.
    fn wait_for_card(
        &self,
        claim: &Claim<'_>,
        spec: &LinkSpec,
        deadline: Instant,
    ) -> Result<u32, Error> {
        let mac = spec.parts().mac;
        let mut other_mac = None;
        let found = device::wait_until(deadline, || {
            claim.check()?;
            let links = link::list(&mut self.lock().route)?;
            let at_path = links.iter().find(|link| {
                self.sysfs.path_of(&link.name, link.index).as_ref() == Some(claim.path)
            });
            other_mac = at_path
                .and_then(|link| link.mac)
                .filter(|found| *found != mac);
            let matching = at_path.filter(|link| link.mac == Some(mac));
            Ok::<_, Error>(matching.map(|link| link.index))
        })?;
        let path = claim.path.clone();
        found.ok_or(match other_mac {
            Some(found) => Error::OtherMac {
                path,
                wanted: mac,
                found,
            },
            None => Error::NoCard { path, mac },
        })
    }

    /// Waits for the carrier, because packets before it are dropped. The driver reports it a moment
    /// after its probe. A card that stays without one isn't an error: its other end can be unplugged.
    /// `IFF_RUNNING` isn't needed, and the kernel delays it by up to a second.
    fn wait_for_carrier(&self, index: u32) -> Result<(), patchbay_netlink::Error> {
        device::wait_until(Instant::now() + CARRIER_TIMEOUT, || {
            let link = link::get(&mut self.lock().route, index)?;
            Ok::<_, patchbay_netlink::Error>(link.is_none_or(|link| link.carrier).then_some(()))
        })?;
        Ok(())
    }

    /// Locates the cards at these paths, also those without an interface in the network namespace.
    ///
    /// # Errors
    /// The list of PCI devices can't be read.
    pub fn places(&self, paths: &[PciPath]) -> io::Result<Vec<Place>> {
        self.sysfs.places(paths)
    }

    /// Lists the interfaces of the network namespace.
    pub fn list(&self) -> Result<Vec<Interface>, Error> {
        let mut sockets = self.lock();
        let links = link::list(&mut sockets.route)?;
        let addresses = address::list(&mut sockets.route)?;
        let mut interfaces = Vec::with_capacity(links.len());
        for link in links {
            let path = self.sysfs.path_of(&link.name, link.index);
            let ethtool_link = EthtoolLink {
                index: link.index,
                name: &link.name,
            };
            // Only cards have queues that a request can set. A link that was removed in the meantime
            // must not fail the list.
            let channels = match path {
                Some(_) => sockets.ethtool.channels(ethtool_link).unwrap_or(None),
                None => None,
            };
            let own = addresses.iter().filter(|listed| listed.index == link.index);
            interfaces.push(Interface {
                index: link.index,
                name: link.name,
                mac: link.mac,
                mtu: link.mtu,
                addresses: own.map(|listed| listed.address).collect(),
                path,
                queues: channels.map(|channels| channels.count),
                up: link.up,
                arp: link.arp,
            });
        }
        Ok(interfaces)
    }
}
