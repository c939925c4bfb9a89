//! Names of TAP devices and MAC addresses that no request names.
//!
//! They depend on the sandbox and the name of the card only, so that a card that is plugged again keeps
//! its leases and its neighbors' entries. Only a collision with another card or link changes them.

use patchbay_types::failure::{Failure, Kind};
use patchbay_types::{IfName, InvalidValue, LinkName, MacAddr};

use crate::netns::{Links, Netns};
use crate::sandbox::{CardRecord, Journal, Sandbox, StateDir};

/// Number of pairs that are tried. A collision of 40 bits is rare.
const MAX_ATTEMPTS: u8 = 16;

/// Host device and MAC address of a card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generated {
    /// Name of the TAP.
    pub device: LinkName,
    /// MAC address, locally administered.
    pub mac: MacAddr,
}

/// Returns the device and the MAC address of the card `name`: those that it has, or new ones that neither
/// a card of any sandbox nor a link of the sandbox's and the host's network namespaces has.
///
/// # Errors
/// A network namespace that can't be entered; [`Kind::Exists`] if all attempts collide.
pub fn generate(sandbox: &Sandbox, name: &IfName) -> Result<Generated, Failure> {
    let own = sandbox.state().ok();
    let own = own.map(|state| Journal::at(state.path()).cards());
    let own = own.transpose()?.unwrap_or_default();
    if let Some(present) = own.iter().find(|card| card.name == *name).and_then(of_card) {
        return Ok(present);
    }
    // A journal that can't be read is reported by the commands of its sandbox.
    let others = StateDir::all(&sandbox.run_dir)
        .into_iter()
        .flat_map(|state| Journal::at(state.path()).cards().unwrap_or_default());
    let taken: Vec<Generated> = others
        .chain(own)
        .filter_map(|card| of_card(&card))
        .collect();
    let links = [
        Links::open(Netns::open_or_current(sandbox.netns.as_deref())?)?,
        Links::open(Netns::of_host()?)?,
    ];
    for attempt in 0..MAX_ATTEMPTS {
        let new = Generated::of(&[sandbox.id.as_str(), name.as_str()], attempt);
        let new = new.map_err(|invalid| Failure::from(invalid.in_field("device")))?;
        let is_known = |card: &Generated| card.device == new.device || card.mac == new.mac;
        if !taken.iter().any(is_known) && !exists(&links, &new.device)? {
            return Ok(new);
        }
    }
    let message = format!("no free name of a TAP device was found for the card {name}");
    Err(Failure::new(Kind::Exists, message).with_cause("name one (--tap) and a --mac"))
}

fn of_card(card: &CardRecord) -> Option<Generated> {
    Some(Generated {
        device: card.device.clone(),
        mac: card.link.as_ref()?.spec.parts().mac,
    })
}

fn exists(links: &[Links], device: &LinkName) -> Result<bool, Failure> {
    for namespace in links {
        let link = namespace.link(device).map_err(|error| {
            let message = format!("could not read the link '{device}'");
            Failure::of_io(message, &error).with_field("device")
        })?;
        if link.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

impl Generated {
    /// Derives a pair from a key; another one for each attempt.
    fn of(key: &[&str], attempt: u8) -> Result<Self, InvalidValue> {
        let mut hash = Fnv::START;
        for part in key {
            hash = hash.add(part.as_bytes()).add(&[0]);
        }
        let bits = hash.add(&[attempt]).mix() & 0xff_ffff_ffff;
        // The first byte, 2, is that of a locally administered unicast address.
        let mac = (bits | 0x02 << 40).to_be_bytes();
        let [_, _, mac @ ..] = mac;
        Ok(Self {
            device: format!("pbn{bits:010x}").parse()?,
            mac: MacAddr::try_from(mac)?,
        })
    }
}

/// FNV-1a with 64 bits. Unlike the hasher of the standard library it stays the same in each release.
#[derive(Clone, Copy)]
struct Fnv(u64);

impl Fnv {
    const START: Self = Self(0xcbf2_9ce4_8422_2325);

    fn add(self, bytes: &[u8]) -> Self {
        let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        Self(bytes.iter().fold(self.0, step))
    }

    /// Returns the hash after a last round in which each bit changes half of the others
    /// (`fmix64` of `MurmurHash3`).
    fn mix(self) -> u64 {
        let mut hash = self.0;
        for factor in [0xff51_afd7_ed55_8ccd, 0xc4ce_b9fe_1a85_ec53] {
            hash = (hash ^ hash >> 33).wrapping_mul(factor);
        }
        hash ^ hash >> 33
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn of_key_is_stable_and_differs_for_each_key_and_attempt() {
        let of = |id: &str, name: &str, attempt| Generated::of(&[id, name], attempt).unwrap();
        let first = of("6ec7a98", "eth1", 0);
        assert_eq!(first.device.to_string(), "pbna3b665535a");
        assert_eq!(first.mac.to_string(), "02:a3:b6:65:53:5a");
        let mut all = HashSet::new();
        for number in 0..1000 {
            for attempt in 0..3 {
                let one = of(&format!("vm{number}"), "eth1", attempt);
                assert!(all.insert(one.mac), "{one:?}");
            }
        }
        assert_ne!(of("ab", "c", 0), of("a", "bc", 0));
    }
}
