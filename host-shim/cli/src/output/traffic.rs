//! Cards with their devices on the host and their traffic.

use std::time::Duration;

use patchbay_host::card::{Cable, HostSettings};
use patchbay_host::limit::Limit;
use patchbay_host::netns::Counters;
use patchbay_host::ops::{CardOnHost, TapStatus};
use patchbay_host::vlan::VlanId;
use patchbay_types::Carrier;
use serde::Serialize;
use serde_json::Value;

use super::cards;
use super::table::Column;

/// Columns of `nic list --all`.
pub(crate) const COLUMNS: &[Column] = &[
    Column::new("sandbox"),
    Column::new("name"),
    Column::new("device"),
    Column::new("bridge"),
    Column::new("carrier"),
    Column::new("cable"),
    Column::new("rxPackets"),
    Column::new("rxBytes"),
    Column::new("rxErrors"),
    Column::new("rxDrops"),
    Column::new("txPackets"),
    Column::new("txBytes"),
    Column::new("txErrors"),
    Column::new("txDrops"),
    Column::new("rxByteRate"),
    Column::new("txByteRate"),
    Column::new("state"),
];

/// Lines of `nic show`.
pub(crate) const SHOWN: &[Column] = &[
    Column::new("sandbox"),
    Column::new("name"),
    Column::new("guestName"),
    Column::new("state"),
    Column::new("hwAddr"),
    Column::new("mtu"),
    Column::new("up"),
    Column::new("arp"),
    Column::new("promisc"),
    Column::new("IPAddresses"),
    Column::new("queues"),
    Column::new("pciAddr"),
    Column::new("device"),
    Column::new("bridge"),
    Column::new("vlan"),
    Column::new("carrier"),
    Column::new("cable"),
    Column::new("rxLimit"),
    Column::new("rxBurst"),
    Column::new("txLimit"),
    Column::new("txBurst"),
    Column::new("rxPackets"),
    Column::new("rxBytes"),
    Column::new("rxErrors"),
    Column::new("rxDrops"),
    Column::new("txPackets"),
    Column::new("txBytes"),
    Column::new("txErrors"),
    Column::new("txDrops"),
];

/// Row of `nic list --all`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct TrafficRow {
    /// ID of the sandbox.
    sandbox: String,
    /// Name under which the card was plugged.
    name: String,
    /// Host device.
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<String>,
    /// Bridge of which the TAP is a port.
    #[serde(skip_serializing_if = "Option::is_none")]
    bridge: Option<String>,
    /// VLAN that nic set has given the bridge's port.
    #[serde(skip_serializing_if = "Option::is_none")]
    vlan: Option<u16>,
    /// Whether QEMU has the TAP open; absent for other backends.
    #[serde(skip_serializing_if = "Option::is_none")]
    carrier: Option<bool>,
    /// State of the cable: down if nic set has unplugged it, otherwise as the guest sees it. Absent without a reply of the guest.
    #[serde(skip_serializing_if = "Option::is_none")]
    cable: Option<&'static str>,
    #[serde(flatten)]
    limits: Limits,
    #[serde(flatten)]
    traffic: Option<Traffic>,
    #[serde(flatten)]
    rates: Option<Rates>,
    /// State that a working card doesn't have.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<String>,
}

/// Bandwidth limits of a card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Limits {
    /// Most that the card receives, in bits per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    rx_limit: Option<u64>,
    /// Bytes above that limit that can come at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    rx_burst: Option<u32>,
    /// Most that the card sends, in bits per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    tx_limit: Option<u64>,
    /// Bytes above that limit that can go at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    tx_burst: Option<u32>,
}

impl From<HostSettings> for Limits {
    fn from(settings: HostSettings) -> Self {
        let of = |limit: Limit| {
            let limit = limit.rate();
            let rate = limit.map(|limit| limit.rate().get());
            (rate, limit.map(|limit| limit.burst().get()))
        };
        let ((rx_limit, rx_burst), (tx_limit, tx_burst)) =
            (of(settings.receive), of(settings.send));
        Self {
            rx_limit,
            rx_burst,
            tx_limit,
            tx_burst,
        }
    }
}

/// Traffic of a card since its TAP was made, from the side of the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Traffic {
    rx_packets: u64,
    rx_bytes: u64,
    rx_errors: u64,
    rx_drops: u64,
    tx_packets: u64,
    tx_bytes: u64,
    tx_errors: u64,
    tx_drops: u64,
}

/// Traffic per second since the row before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Rates {
    rx_packet_rate: u64,
    rx_byte_rate: u64,
    tx_packet_rate: u64,
    tx_byte_rate: u64,
}

impl TrafficRow {
    /// Formats a card; `before` is the same list earlier.
    pub(crate) fn new(found: &CardOnHost, before: Option<(&[CardOnHost], Duration)>) -> Self {
        let is_same = |other: &&CardOnHost| {
            other.sandbox == found.sandbox
                && other.card.name == found.card.name
                && other.card.path == found.card.path
        };
        let earlier = before.and_then(|(cards, time)| {
            let tap = cards.iter().find(is_same)?.tap?;
            Some((tap, time))
        });
        Self {
            sandbox: found.sandbox.to_string(),
            name: found.card.name.to_string(),
            device: found.device.as_ref().map(ToString::to_string),
            bridge: found.bridge.as_ref().map(ToString::to_string),
            carrier: found.tap.map(|tap| tap.carrier),
            cable: cable(found),
            vlan: found.settings.vlan.id().map(VlanId::get),
            limits: Limits::from(found.settings),
            traffic: found.tap.map(Traffic::from),
            rates: found
                .tap
                .zip(earlier)
                .and_then(|(now, (earlier, time))| Rates::between(earlier, now, time)),
            state: found.card.state.as_ref().map(ToString::to_string),
        }
    }
}

/// Returns the state of the cable, which only an interface that is up shows.
fn cable(found: &CardOnHost) -> Option<&'static str> {
    if found.settings.cable == Cable::Down {
        return Some("down");
    }
    let interface = found.card.interface.as_ref()?;
    match interface.carrier? {
        Carrier::On => Some("up"),
        Carrier::Off if interface.up => Some("down"),
        Carrier::Off => None,
    }
}

impl From<TapStatus> for Traffic {
    fn from(tap: TapStatus) -> Self {
        let TapStatus { received, sent, .. } = tap;
        Self {
            rx_packets: received.packets,
            rx_bytes: received.bytes,
            rx_errors: received.errors,
            rx_drops: received.drops,
            tx_packets: sent.packets,
            tx_bytes: sent.bytes,
            tx_errors: sent.errors,
            tx_drops: sent.drops,
        }
    }
}

impl Rates {
    /// Returns the rates between two samples; `None` if the counters have begun anew.
    fn between(earlier: TapStatus, now: TapStatus, time: Duration) -> Option<Self> {
        let millis = u64::try_from(time.as_millis())
            .ok()
            .filter(|time| *time > 0)?;
        let rate = |earlier: u64, now: u64| {
            let per_second = u128::from(now.checked_sub(earlier)?) * 1000 / u128::from(millis);
            u64::try_from(per_second).ok()
        };
        let of = |earlier: Counters, now: Counters| {
            Some((
                rate(earlier.packets, now.packets)?,
                rate(earlier.bytes, now.bytes)?,
            ))
        };
        let (rx_packet_rate, rx_byte_rate) = of(earlier.received, now.received)?;
        let (tx_packet_rate, tx_byte_rate) = of(earlier.sent, now.sent)?;
        Some(Self {
            rx_packet_rate,
            rx_byte_rate,
            tx_packet_rate,
            tx_byte_rate,
        })
    }
}

/// Formats a card for `nic show`: its configuration in the guest, and its device on the host.
pub(crate) fn shown(found: &CardOnHost) -> Result<Value, serde_json::Error> {
    let mut shown = cards::card(&found.card);
    let row = serde_json::to_value(TrafficRow::new(found, None))?;
    if let (Value::Object(members), Value::Object(row)) = (&mut shown, row) {
        for (key, value) in row {
            members.entry(key).or_insert(value);
        }
    }
    Ok(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tap(packets: u64, bytes: u64) -> TapStatus {
        let of = |packets, bytes| Counters {
            packets,
            bytes,
            ..Counters::default()
        };
        TapStatus {
            up: true,
            carrier: true,
            received: of(packets, bytes),
            sent: of(2 * packets, 2 * bytes),
        }
    }

    #[test]
    fn rates_are_per_second_and_absent_for_new_counters() {
        let rates = Rates::between(tap(10, 1000), tap(25, 4000), Duration::from_millis(1500));
        let expected = Rates {
            rx_packet_rate: 10,
            rx_byte_rate: 2000,
            tx_packet_rate: 20,
            tx_byte_rate: 4000,
        };
        assert_eq!(rates, Some(expected));
        assert_eq!(
            Rates::between(tap(10, 9), tap(9, 10), Duration::from_secs(1)),
            None
        );
        assert_eq!(Rates::between(tap(1, 1), tap(2, 2), Duration::ZERO), None);
    }
}
