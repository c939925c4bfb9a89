//! What the agent does: decide, order, undo. The rooms below know the domain and no wire.

mod configure;
pub mod conntrack;
mod error;
pub mod ipvs;
mod rename;
mod state;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use nix::sys::utsname::uname;
use patchbay_protocols::model::{Interface, LinkSpec, PciPath};

use crate::config::EthtoolWay;
use crate::device::{self, Sysfs};
use crate::ethtool::{Device, Ethtool};
use crate::netlink::{self, Route, Socket};
use crate::rtnl::{address, link};

use conntrack::ConntrackService;
pub use error::{Error, Step};
use ipvs::IpvsService;

/// The sockets of the one rtnetlink interface, under one lock: who changes links does so alone.
#[derive(Debug)]
struct Kernel {
    route: Socket<Route>,
    ethtool: Ethtool,
}

/// Everything that the agent can be asked, over the kernel of its network namespace.
#[derive(Debug)]
pub struct Services {
    sysfs: Sysfs,
    kernel: Mutex<Kernel>,
    ipvs: IpvsService,
    conntrack: ConntrackService,
}

impl Services {
    /// Opens the sockets in the network namespace of the calling thread.
    pub fn open(sysfs: Sysfs, ethtool: EthtoolWay) -> Result<Self, netlink::Error> {
        let kernel = Kernel {
            route: Socket::open()?,
            ethtool: Ethtool::open(ethtool)?,
        };
        Ok(Self {
            sysfs,
            kernel: Mutex::new(kernel),
            ipvs: IpvsService::open()?,
            conntrack: ConntrackService::new(),
        })
    }

    /// What this agent can do on this kernel, in words that a host may look for.
    pub fn features(&self) -> Vec<&'static str> {
        let ethtool = match self.lock().ethtool {
            Ethtool::Family(..) => "ethtool-netlink",
            Ethtool::Ioctl => "ethtool-ioctl",
        };
        vec!["interfaces", "ipvs", "conntrack", ethtool]
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
    ) -> Result<Interface, Error> {
        let index = self.find(path, spec, deadline)?;
        let mut kernel = self.lock();
        configure::apply(&mut kernel, index, spec)?;
        let listed = self
            .interfaces(&mut kernel)?
            .into_iter()
            .find(|i| i.index == index);
        listed.ok_or_else(|| Error::Gone {
            name: spec.parts().name.clone(),
        })
    }

    /// Every interface of the namespace.
    pub fn list(&self) -> Result<Vec<Interface>, Error> {
        Ok(self.interfaces(&mut self.lock())?)
    }

    /// A panic while it was held leaves nothing of the kernel's half done in memory.
    fn lock(&self) -> MutexGuard<'_, Kernel> {
        self.kernel.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, path: &PciPath, spec: &LinkSpec, deadline: Instant) -> Result<u32, Error> {
        let mac = spec.parts().mac;
        let mut other_mac = None;
        let found = device::until(deadline, || {
            let links = link::list(&mut self.lock().route)?;
            let here = links
                .iter()
                .find(|link| self.sysfs.path_of(&link.name, link.index).as_ref() == Some(path));
            other_mac = here.and_then(|link| link.mac).filter(|found| *found != mac);
            let matching = here.filter(|link| link.mac == Some(mac));
            Ok::<_, netlink::Error>(matching.map(|link| link.index))
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

    fn interfaces(&self, kernel: &mut Kernel) -> Result<Vec<Interface>, netlink::Error> {
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
            let here = addresses.iter().filter(|(index, _)| *index == link.index);
            interfaces.push(Interface {
                index: link.index,
                name: link.name,
                mac: link.mac,
                mtu: link.mtu,
                addresses: here.map(|(_, address)| *address).collect(),
                path,
                queues: channels.map(|channels| channels.count),
                up: link.up,
            });
        }
        Ok(interfaces)
    }
}
