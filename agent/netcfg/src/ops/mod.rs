//! Operations behind the agent's requests: each validates, orders its netlink changes, and rolls back
//! on failure. Lower modules know nothing of the RPC layer.

mod address_undo;
mod addresses;
mod claims;
mod configure;
pub mod conntrack;
mod down_losses;
mod error;
mod events;
mod interfaces;
pub mod ipvs;
mod link_settings;
mod locks;
mod lost_routes;
mod neighbors;
mod queues;
mod release;
mod rename;
mod routes;
mod step;
mod waiting;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::utsname::uname;
use patchbay_types::{
    AddressDetail, Interface, LinkChange, LinkSpec, MacAddr, Neighbor, NeighborPattern,
    NetworkManager, PciPath, Route, RoutePattern, RouteSpec,
};

use crate::cancellation::Cancellation;
use crate::device::{self, Sysfs};
use crate::ethtool::{Ethtool, EthtoolBackend, EthtoolKind};
use crate::managers::{self, CardMarks};
use crate::modules::Loader;
use crate::rtnl::link::{self, Link};
use addresses::Untagged;
use claims::{Claim, Claims};
use configure::Change;
use locks::{BusyLinks, Tables};
use patchbay_netlink::{RecvBuffer, Rtnetlink, Socket};
use waiting::{WaitingChanges, wait_for_carrier, wait_for_dad};

use conntrack::ConntrackOps;
pub use error::{ConfigAction, Error};
pub use events::NetEvents;
use ipvs::IpvsOps;

/// First version of Linux that keeps the tags of addresses (`IFA_PROTO`).
const TAGS_SINCE: (u32, u32) = (5, 18);

/// Timeout of an update's steps that another program can disturb.
const UPDATE_TIMEOUT: Duration = Duration::from_secs(5);

/// Sockets of one request.
#[derive(Debug)]
struct Sockets {
    route: Socket<Rtnetlink>,
    ethtool: Ethtool,
    tables: Arc<Tables>,
    cancellation: Cancellation,
}

/// All operations on a network namespace. Clones share the state, except for the cancellation.
///
/// ```no_run
/// use std::time::{Duration, Instant};
///
/// use patchbay_netcfg::device::Sysfs;
/// use patchbay_netcfg::ethtool::EthtoolBackend;
/// use patchbay_netcfg::modules::Loader;
/// use patchbay_netcfg::ops::Netcfg;
/// use patchbay_types::{Arp, InterfaceAddress, LinkFields, LinkSpec, Mtu, PciAddress, PciPath};
///
/// let netcfg = Netcfg::open(Sysfs::at("/sys"), EthtoolBackend::Auto, None, Loader::default())?;
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
#[derive(Debug, Clone)]
pub struct Netcfg {
    sysfs: Sysfs,
    ethtool: EthtoolKind,
    /// Handling of addresses on a card that have no tag.
    untagged: Untagged,
    claims: Arc<Claims>,
    marks: Option<CardMarks>,
    links: Arc<BusyLinks>,
    waiting: Arc<WaitingChanges>,
    tables: Arc<Tables>,
    cancellation: Cancellation,
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
    /// the IPVS undo log; without one a crash during a restore leaves the rules half changed. `modules`
    /// loads the kernel modules that requests need.
    pub fn open(
        sysfs: Sysfs,
        ethtool: EthtoolBackend,
        undo_log: Option<PathBuf>,
        modules: Loader,
    ) -> Result<Self, patchbay_netlink::Error> {
        let modules = Arc::new(modules);
        Ok(Self {
            sysfs,
            ethtool: EthtoolKind::find(ethtool)?,
            untagged: if version(&kernel_release()) >= Some(TAGS_SINCE) {
                Untagged::Keep
            } else {
                Untagged::Replace
            },
            claims: Arc::default(),
            marks: None,
            links: Arc::default(),
            waiting: Arc::default(),
            tables: Arc::default(),
            cancellation: Cancellation::default(),
            ipvs: IpvsOps::new(undo_log, Arc::clone(&modules)),
            conntrack: ConntrackOps(modules),
        })
    }

    /// Marks cards for the guest's udev.
    #[must_use]
    pub fn with_marks(self, marks: Option<CardMarks>) -> Self {
        Self { marks, ..self }
    }

    /// Makes changes stop, and undo what they have done, when `cancellation` is requested.
    #[must_use]
    pub fn with_cancellation(self, cancellation: &Cancellation) -> Self {
        Self {
            ipvs: self.ipvs.with_cancellation(cancellation),
            cancellation: cancellation.clone(),
            ..self
        }
    }

    /// Returns whether cards are marked.
    #[must_use]
    pub fn has_marks(&self) -> bool {
        self.marks.is_some()
    }

    /// Marks a card before it appears, so that no network manager configures it.
    pub fn mark_card(&self, mac: MacAddr) -> Result<(), Error> {
        let Some(marks) = &self.marks else {
            return Ok(());
        };
        let links = link::list(&mut self.sockets()?.route)?;
        let present = |mac| links.iter().any(|link| link.mac == Some(mac));
        marks.add(mac, present).map_err(Error::Mark)
    }

    /// Lists the programs that configure links on their own.
    pub fn managers(&self) -> Result<Vec<NetworkManager>, Error> {
        managers::running(Path::new("/")).map_err(Error::Processes)
    }

    /// Returns the feature name of the ethtool interface that the kernel has.
    #[must_use]
    pub fn ethtool_feature(&self) -> &'static str {
        match self.ethtool {
            EthtoolKind::Family(_) => "ethtool-netlink",
            EthtoolKind::Ioctl => "ethtool-ioctl",
        }
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
        let mut sockets = self.sockets()?;
        let (epoch, dad) = {
            let _busy = self.links.take(index);
            claim.check()?;
            self.waiting.undo(&mut sockets, index)?;
            let is_yielding = |link: &Link| {
                let path = self.sysfs.path_of(&link.name, link.index);
                path.is_some_and(|path| yielding.contains(&path))
            };
            let mut change =
                Change::configure(&mut sockets, index, spec, self.untagged, is_yielding)?;
            change.begin(&mut sockets, deadline)?;
            let dad = change.dad();
            (self.waiting.begin(change), dad)
        };
        let waited = wait_for_carrier(&mut sockets, index);
        let waited = waited.and_then(|()| wait_for_dad(&mut sockets, dad));
        let interface = self.finish(&mut sockets, &epoch, waited, || claim.check())?;
        Ok(Configured {
            interface,
            discovery,
            netlink: start.elapsed().saturating_sub(discovery),
        })
    }

    /// Changes an interface, or leaves it unchanged.
    pub fn update(&self, request: &LinkChange, detail: AddressDetail) -> Result<Interface, Error> {
        let mut sockets = self.sockets()?;
        let links = link::list(&mut sockets.route)?;
        let index = configure::find(links, &self.sysfs, request)?.index;
        let (epoch, dad) = {
            let _busy = self.links.take(index);
            self.waiting.undo(&mut sockets, index)?;
            let link = link::by_index(&mut sockets.route, index)?;
            let link = link.ok_or_else(|| Error::NoInterface(request.name().clone()))?;
            let untagged = match request.card() {
                Some(_) => self.untagged,
                None => Untagged::Replace,
            };
            let mut change =
                Change::update(&mut sockets, &link, request, untagged)?.reporting(detail);
            change.begin(&mut sockets, Instant::now() + UPDATE_TIMEOUT)?;
            match change.dad() {
                None => return self.complete(&mut sockets, change, Ok(())),
                dad => (self.waiting.begin(change), dad),
            }
        };
        let waited = wait_for_dad(&mut sockets, dad);
        self.finish(&mut sockets, &epoch, waited, || Ok(()))
    }

    /// Adds all routes, or none.
    pub fn add_routes(&self, specs: &[RouteSpec]) -> Result<(), Error> {
        let _held = self.tables.exclude();
        routes::add(&mut self.sockets()?, specs)
    }

    /// Deletes every route that matches a pattern; none if a pattern matches no route.
    pub fn delete_routes(&self, patterns: &[RoutePattern]) -> Result<(), Error> {
        let _held = self.tables.exclude();
        routes::delete(&mut self.sockets()?, patterns)
    }

    /// Replaces the routes of the main table, except those that the kernel made.
    pub fn replace_routes(&self, specs: &[RouteSpec]) -> Result<(), Error> {
        let _held = self.tables.exclude();
        routes::replace(&mut self.sockets()?, specs)
    }

    /// Lists the routes of the main table.
    pub fn routes(&self) -> Result<Vec<Route>, Error> {
        // A change is listed as a whole or not at all.
        let _held = self.tables.exclude();
        routes::list(&mut self.sockets()?)
    }

    /// Adds all static neighbors, or none.
    pub fn add_neighbors(&self, neighbors: &[Neighbor]) -> Result<(), Error> {
        let _held = self.tables.exclude();
        neighbors::add(&mut self.sockets()?, neighbors)
    }

    /// Deletes every static neighbor that matches a pattern; none if a pattern matches no neighbor.
    pub fn delete_neighbors(&self, patterns: &[NeighborPattern]) -> Result<(), Error> {
        let _held = self.tables.exclude();
        neighbors::delete(&mut self.sockets()?, patterns)
    }

    /// Lists the static neighbors.
    pub fn neighbors(&self) -> Result<Vec<Neighbor>, Error> {
        let _held = self.tables.exclude();
        neighbors::list(&mut self.sockets()?)
    }

    /// Opens the sockets of a request. They aren't shared, so that no request waits for another.
    fn sockets(&self) -> Result<Sockets, patchbay_netlink::Error> {
        Ok(Sockets {
            route: Socket::open(RecvBuffer::Large)?,
            ethtool: self.ethtool.open()?,
            tables: Arc::clone(&self.tables),
            cancellation: self.cancellation.clone(),
        })
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
        let mut sockets = self.sockets()?;
        let found = device::wait_until(deadline, &self.cancellation, || {
            claim.check()?;
            let links = link::list(&mut sockets.route)?;
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
}

/// Returns the kernel's release (`uname -r`).
#[must_use]
pub fn kernel_release() -> String {
    uname().map_or_else(
        |_| String::new(),
        |name| name.release().to_string_lossy().into_owned(),
    )
}

/// Returns the two numbers that a kernel's release begins with.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_reads_first_two_numbers() {
        for (release, numbers) in [
            ("6.1.0-32-amd64", Some((6, 1))),
            ("5.18-rc1", Some((5, 18))),
            ("4.19.90", Some((4, 19))),
            ("6", None),
            ("", None),
        ] {
            assert_eq!(version(release), numbers, "{release}");
        }
        assert!(version("") < Some(TAGS_SINCE));
    }
}
