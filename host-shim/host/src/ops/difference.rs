//! Difference between an interface of the guest and the configuration that was requested for it.

use std::collections::HashSet;

use patchbay_types::{AdminState, Interface, LinkSpec, Owner, QueuePairs};

/// Names the first part of an interface that differs from the requested configuration.
pub(super) fn guest_difference(interface: &Interface, spec: &LinkSpec) -> Option<String> {
    let link = spec.parts();
    let pairs = |queues: Option<QueuePairs>| queues.unwrap_or(QueuePairs::ONE);
    let wanted: HashSet<_> = link.addresses.iter().collect();
    let present = interface.addresses.iter();
    let present: HashSet<_> = present.map(|found| &found.address).collect();
    // Addresses that other programs set count only if they are wanted.
    let own = |owner| owner == Owner::Patchbay;
    let mut own = interface.addresses.iter().filter(|found| own(found.owner));
    let same = wanted.is_subset(&present) && own.all(|found| wanted.contains(&found.address));
    let difference = match interface {
        _ if interface.name != link.name => {
            return Some(format!("name in the guest, '{}'", interface.name));
        }
        _ if interface.state() != spec.state() => match interface.state() {
            AdminState::Down => "state: the guest has set it down",
            AdminState::Up => "state: the guest has set it up",
        },
        _ if spec
            .promisc()
            .is_some_and(|wanted| interface.promisc != Some(wanted)) =>
        {
            "promiscuous mode"
        }
        _ if interface.arp != link.arp => "rawFlags",
        _ if interface.mtu != u32::from(link.mtu.get()) => "mtu",
        _ if pairs(interface.queues) != pairs(link.queues) => "number of queues",
        _ if !same => "address",
        _ => return None,
    };
    Some(difference.to_owned())
}
