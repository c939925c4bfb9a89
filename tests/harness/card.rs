//! JSON documents of cards.

use std::path::Path;

use serde_json::{Map, Value, json};

/// The first example of the incumbent's user guide, verbatim.
const GUIDE: &str = include_str!("../fixtures/guide-card.json");

/// Builder of a document for `kata-network add-iface`.
#[derive(Debug, Clone)]
pub struct Card(Map<String, Value>);

impl Card {
    /// A card with an MTU of 1500, the MAC address of the user guide's example and a TAP device:
    /// `tap-test` for `eth-test`, `tap1` for `eth1`, `tap-NAME` for names without `eth`.
    pub fn named(name: &str) -> Self {
        let device = name
            .strip_prefix("eth")
            .map_or_else(|| format!("tap-{name}"), |rest| format!("tap{rest}"));
        Self(Map::new())
            .set("device", device)
            .set("name", name)
            .set("hwAddr", "02:42:20:6f:a3:69")
            .set("mtu", 1500)
    }

    /// A card that replaces a link of the sandbox's namespace.
    pub fn of_link(link: &str) -> Self {
        Self(Map::new()).set("link", link)
    }

    /// Card `ethN` with the MAC address `02:00:00:00:00:NN`; `number` has at most two digits.
    pub fn numbered(number: usize) -> Self {
        Self::named(&format!("eth{number}")).mac(&format!("02:00:00:00:00:{number:02}"))
    }

    /// Sets the name of the host's device.
    #[must_use]
    pub fn device(self, device: &str) -> Self {
        self.set("device", device)
    }

    /// Sets the MAC address.
    #[must_use]
    pub fn mac(self, mac: &str) -> Self {
        self.set("hwAddr", mac)
    }

    /// Adds an address such as `172.16.0.3/16`.
    #[must_use]
    pub fn address(mut self, address: &str) -> Self {
        let (address, mask) = address.split_once('/').unwrap();
        let addresses = self.0.entry("IPAddresses").or_insert_with(|| json!([]));
        let entry = json!({"address": address, "mask": mask});
        addresses.as_array_mut().unwrap().push(entry);
        self
    }

    /// Sets the number of queue pairs.
    #[must_use]
    pub fn queues(self, queues: u32) -> Self {
        self.set("queues", queues)
    }

    /// Sets the socket of a vhost-user backend, which replaces the TAP device.
    #[must_use]
    pub fn vhost_user(self, socket: &Path) -> Self {
        self.set("vhostUserSocket", socket.to_str().unwrap())
    }

    /// Sets any field of the document.
    #[must_use]
    pub fn set(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.0.insert(field.to_owned(), value.into());
        self
    }

    /// Returns the document.
    pub fn json(&self) -> String {
        json!(self.0).to_string()
    }
}

/// Returns the user guide's first example without its socket: a TAP device with five queues.
pub fn guide_card() -> String {
    let lines = GUIDE
        .lines()
        .filter(|line| !line.contains("vhostUserSocket"));
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// Returns the user guide's first example, verbatim but for the path of its socket.
pub fn guide_vhost_user_card(socket: &Path) -> String {
    let printed = "/usr/local/var/run/openvswitch/vhost-user1";
    GUIDE.replace(printed, socket.to_str().unwrap())
}
