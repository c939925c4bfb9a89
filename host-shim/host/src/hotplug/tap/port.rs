//! TAPs as ports of a bridge in their network namespace.

use patchbay_types::LinkName;
use patchbay_types::failure::{Failure, Kind};

use super::Tap;
use crate::card::BridgePort;
use crate::netns::{HostLink, HostLinkKind, Links, Netns};
use crate::sandbox::{Membership, PortRecord, Sandbox};

/// Opens the network namespace that has a bridge: the sandbox's or the host's.
///
/// # Errors
/// [`Kind::NotFound`] if neither has it, [`Kind::Invalid`] for a link of another kind.
pub(crate) fn netns_of_bridge(sandbox: &Sandbox, port: &BridgePort) -> Result<Netns, Failure> {
    let own = Links::open(Netns::open_or_current(sandbox.netns.as_deref())?)?;
    if find(&own, &port.bridge)?.is_some() {
        return Ok(own.into_netns());
    }
    let host = Links::open(Netns::of_host()?)?;
    match find(&host, &port.bridge)? {
        Some(_) => Ok(host.into_netns()),
        None => Err(not_found(&port.bridge)),
    }
}

fn not_found(bridge: &LinkName) -> Failure {
    let message = format!(
        "bridge '{bridge}' doesn't exist in the network namespaces of the sandbox and the host: make it \
         with 'ip link add {bridge} type bridge'"
    );
    Failure::new(Kind::NotFound, message).with_field("bridge")
}

/// Finds a bridge by its name.
fn find(links: &Links, bridge: &LinkName) -> Result<Option<HostLink>, Failure> {
    let link = links.link(bridge).map_err(|error| {
        let message = format!("could not read the bridge '{bridge}'");
        Failure::of_io(message, &error).with_field("bridge")
    })?;
    match link {
        Some(link) if !matches!(link.kind, HostLinkKind::Bridge { .. }) => {
            let message = format!(
                "bridge '{bridge}' is a link of another kind: it must be a Linux bridge (for one of Open \
                 vSwitch, 'ovs-vsctl add-port' a TAP device and give that as the device)"
            );
            Err(Failure::new(Kind::Invalid, message).with_field("bridge"))
        }
        link => Ok(link),
    }
}

impl Tap {
    fn bridge(&self, port: &BridgePort) -> Result<HostLink, Failure> {
        find(&self.links, &port.bridge)?.ok_or_else(|| not_found(&port.bridge))
    }

    /// Returns which program has made, or is to make, the device a port of a bridge.
    ///
    /// # Errors
    /// [`Kind::Exists`] for a port of another bridge.
    pub(in crate::hotplug) fn membership(&self, port: &BridgePort) -> Result<Membership, Failure> {
        let bridge = self.bridge(port)?;
        match self.link()?.and_then(|link| link.controller) {
            None => Ok(Membership::Own),
            Some(index) if index == bridge.index => Ok(Membership::Foreign),
            Some(_) => {
                let message = format!(
                    "device '{}' is a port of another bridge than '{}': take it out first",
                    self.device, port.bridge
                );
                Err(Failure::new(Kind::Exists, message).with_field("bridge"))
            }
        }
    }

    /// Makes the device a port of a bridge.
    ///
    /// # Errors
    /// Those of [`Tap::membership`]; failures of the kernel.
    pub(in crate::hotplug) fn join(&self, port: &BridgePort) -> Result<(), Failure> {
        if self.membership(port)? == Membership::Foreign {
            return Ok(());
        }
        let (link, bridge) = (self.present()?, self.bridge(port)?);
        let joined = self.links.set_controller(link, Some(bridge.index));
        joined.map_err(|error| {
            let (device, bridge) = (&self.device, &port.bridge);
            let message = format!("could not make '{device}' a port of the bridge '{bridge}'");
            Failure::of_io(message, &error).with_field("bridge")
        })
    }

    /// Takes the device, which is closed, out of the bridge that patchbay put it into. One that another
    /// program has put into another bridge meanwhile stays there.
    pub(super) fn leave(&self, link: HostLink, port: &PortRecord) -> Result<HostLink, Failure> {
        let left = HostLink {
            controller: None,
            ..link
        };
        let bridge = match (port.membership, link.controller) {
            (Membership::Own, Some(_)) => find(&self.links, &port.wanted.bridge).ok().flatten(),
            _ => None,
        };
        if bridge.is_none_or(|bridge| Some(bridge.index) != link.controller) {
            return Ok(link);
        }
        let done = self.links.set_controller(link, None);
        done.map(|()| left).map_err(|error| self.failure(&error))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::OwnedFd;

    use patchbay_types::QueuePairs;

    use super::super::tests::{in_netns, ip};
    use super::*;
    use crate::netns::HostLinkState;
    use crate::sandbox::SavedTap;

    fn port(bridge: &str) -> BridgePort {
        BridgePort {
            bridge: bridge.parse().unwrap(),
        }
    }

    /// Returns the bridge of the TAP, as `ip` shows it.
    fn bridge_of(device: &str) -> String {
        let shown = ip(&["-j", "link", "show", "dev", device]);
        let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
        shown[0]["master"].as_str().unwrap_or_default().to_owned()
    }

    fn open(tap: &Tap) -> (Vec<OwnedFd>, SavedTap) {
        let (queues, before) = tap.open(QueuePairs::ONE).unwrap();
        (queues, before.unwrap())
    }

    #[test]
    fn join_is_reversed_by_restore_unless_the_port_was_there() {
        for found in [Membership::Own, Membership::Foreign] {
            in_netns(|device, tap| {
                let device = device.as_str();
                ip(&["link", "add", "br0", "type", "bridge"]);
                ip(&["tuntap", "add", device, "mode", "tap"]);
                if found == Membership::Foreign {
                    ip(&["link", "set", device, "master", "br0"]);
                }
                let wanted = port("br0");
                let membership = tap.membership(&wanted).unwrap();
                assert_eq!(membership, found);
                let (queues, before) = open(&tap);
                tap.join(&wanted).unwrap();
                tap.join(&wanted).unwrap();
                assert_eq!(bridge_of(device), "br0");
                let up = HostLinkState {
                    up: true,
                    ..before.state
                };
                tap.set(up).unwrap();
                let record = PortRecord { wanted, membership };
                // Another process uses it.
                tap.restore(before, Some(&record)).unwrap();
                assert_eq!(bridge_of(device), "br0");
                drop(queues);
                for _ in 0..2 {
                    tap.restore(before, Some(&record)).unwrap();
                    let stays = found == Membership::Foreign;
                    assert_eq!(bridge_of(device), if stays { "br0" } else { "" });
                    assert_eq!(tap.present().unwrap().state, before.state);
                }
            });
        }
    }

    #[test]
    fn join_link_that_is_no_bridge_or_another_bridge_is_refused() {
        in_netns(|device, tap| {
            let device = device.as_str();
            ip(&["tuntap", "add", device, "mode", "tap"]);
            for bridge in ["br0", "br1"] {
                ip(&["link", "add", bridge, "type", "bridge"]);
            }
            ip(&["link", "add", "ifb9", "type", "ifb"]);
            let kind = |bridge: &str| tap.join(&port(bridge)).unwrap_err().kind();
            assert_eq!(kind("ifb9"), Kind::Invalid);
            assert_eq!(kind("br9"), Kind::NotFound);
            ip(&["link", "set", device, "master", "br1"]);
            assert_eq!(kind("br0"), Kind::Exists);
            // Another program has moved it.
            let (queues, before) = open(&tap);
            drop(queues);
            let record = PortRecord {
                wanted: port("br0"),
                membership: Membership::Own,
            };
            tap.restore(before, Some(&record)).unwrap();
            assert_eq!(bridge_of(device), "br1");
        });
    }

    #[test]
    fn restore_after_the_bridge_was_deleted_succeeds() {
        in_netns(|device, tap| {
            ip(&["link", "add", "br0", "type", "bridge"]);
            ip(&["tuntap", "add", device.as_str(), "mode", "tap"]);
            let record = PortRecord {
                wanted: port("br0"),
                membership: Membership::Own,
            };
            let (queues, before) = open(&tap);
            tap.join(&record.wanted).unwrap();
            ip(&["link", "del", "br0"]);
            drop(queues);
            tap.restore(before, Some(&record)).unwrap();
            assert_eq!(bridge_of(device.as_str()), "");
        });
    }

    #[test]
    fn netns_of_host_is_found_by_every_command() {
        in_netns(|_, _| {
            let host = Netns::of_host().unwrap();
            assert_eq!(host.id(), Netns::current().unwrap().id());
            assert!(File::open(host.path()).is_ok());
        });
    }
}
