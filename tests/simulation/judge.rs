//! Invariants of the simulation: no orphan, no loss, and no card of another program changed.

use std::collections::BTreeMap;
use std::path::Path;

use patchbay_tests::{Netns, journal};
use serde_json::Value;

use crate::operation::{Card, Expected, State};
use crate::process::End;
use crate::qemu::{Netdev, OTHER, Removal};
use crate::scenario::{DEVICES, Host, NAMES};
use crate::world::World;

/// Returns a message if an invariant is broken.
macro_rules! ensure {
    ($holds:expr, $($message:tt)+) => {
        if !$holds {
            return Err(format!($($message)+));
        }
    };
}

/// MTU and administrative state of a device that exists before its card.
const BEFORE: (u64, bool) = (1500, false);

/// Asserts what holds at any time.
pub(crate) fn judge_others(world: &World) -> Result<(), String> {
    let other = world.qemu.devices.get(OTHER);
    let is_whole = other.is_some_and(|other| other.removal == Removal::None)
        && matches!(world.qemu.netdevs.get("hostnet0"), Some(Netdev::User));
    ensure!(is_whole, "the card of another program was changed");
    Ok(())
}

/// Asserts what holds once commands without faults have cleaned up.
pub(crate) fn judge(
    world: &World,
    run_dir: &Path,
    netns: &Netns,
    expected: &Expected,
) -> Result<(), String> {
    judge_others(world)?;
    judge_qemu(world)?;
    let records = records(run_dir)?;
    let present: Vec<&str> = world.qemu.cards().map(|(name, _)| name).collect();
    let recorded: Vec<&str> = records.iter().map(|record| text(&record["name"])).collect();
    ensure!(
        present == recorded,
        "QEMU has the cards {present:?} and the journal {recorded:?}"
    );
    let mut cards = Vec::new();
    for (name, states) in &expected.0 {
        let state = state(world, name, &records)?;
        let is_expected = states.iter().any(|expected| match (expected, &state) {
            (State::Plugged(expected), Some(card)) => expected == card,
            (State::Absent | State::Removing(_), None) => true,
            _ => false,
        });
        ensure!(
            is_expected,
            "the card {name} is {state:?} and not one of {states:?}"
        );
        if let ([_], Some(card)) = (&states[..], &state) {
            judge_record(card, &records)?;
        }
        cards.extend(state);
    }
    judge_links(&cards, netns)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

/// No backend, character device or descriptor without a card.
fn judge_qemu(world: &World) -> Result<(), String> {
    let qemu = &world.qemu;
    for (name, card) in qemu.cards() {
        ensure!(
            card.removal == Removal::None,
            "the card {name} is being removed"
        );
        ensure!(
            qemu.netdevs.contains_key(&card.netdev),
            "the card {name} has no backend"
        );
    }
    for id in qemu.netdevs.keys() {
        let mut users = qemu.devices.values();
        ensure!(
            users.any(|device| device.netdev == *id),
            "the backend {id} has no card"
        );
    }
    for id in qemu.chardevs.keys() {
        let mut users = qemu.netdevs.values();
        let is_used = users.any(|netdev| matches!(netdev, Netdev::VhostUser(own) if own == id));
        ensure!(is_used, "the character device {id} has no backend");
    }
    let left: Vec<_> = qemu.descriptors.keys().collect();
    ensure!(left.is_empty(), "the descriptors {left:?} are left");
    Ok(())
}

/// Lists the cards whose plugging has begun.
pub(crate) fn unfinished_plugs(run_dir: &Path) -> Vec<String> {
    let mut begun = Vec::new();
    for path in journal(run_dir) {
        let bytes = std::fs::read(&path).unwrap();
        let record: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        if record["phase"] == "adding" {
            begun.push(text(&record["name"]).to_owned());
        }
    }
    begun
}

/// Asserts that commands which were not killed have finished or undone their plugs, or report that they have
/// not.
pub(crate) fn judge_failures(
    before: &[String],
    after: &[String],
    ends: &[End],
) -> Result<(), String> {
    let is_excused = |end: &End| match end {
        End::Killed => true,
        End::Exited(_, text) => text.contains("cleanup is incomplete"),
    };
    let new = after.iter().find(|name| !before.contains(name));
    if let Some(name) = new
        && !ends.iter().any(is_excused)
    {
        return Err(format!(
            "the plug of {name} is neither finished nor undone: {ends:?}"
        ));
    }
    Ok(())
}

/// Asserts that gc has left no unfinished file in the journal.
pub(crate) fn judge_files(run_dir: &Path) -> Result<(), String> {
    for path in journal(run_dir) {
        let is_record = path.extension().is_some_and(|own| own == "json");
        ensure!(is_record, "{} is left", path.display());
    }
    Ok(())
}

/// Reads the journal, sorted by name.
fn records(run_dir: &Path) -> Result<Vec<Value>, String> {
    let mut records = Vec::new();
    for path in journal(run_dir) {
        let name = path.display();
        let bytes = std::fs::read(&path).unwrap();
        let record: Value =
            serde_json::from_slice(&bytes).map_err(|_| format!("{name} is torn"))?;
        let is_settled = record["phase"] == "plugged"
            && record.get("owner").is_none()
            && record.get("mtu").is_none();
        ensure!(is_settled, "{name} is not settled: {record}");
        records.push(record);
    }
    Ok(records)
}

/// Returns the state of a card in QEMU and the guest.
fn state(world: &World, name: &str, records: &[Value]) -> Result<Option<Card>, String> {
    let Some((name, device)) = world.qemu.cards().find(|(own, _)| *own == name) else {
        return Ok(None);
    };
    let link = world.guest.links.get(&world.qemu.path(device));
    let link = link.filter(|link| link.up && link.name == name);
    let link = link.ok_or_else(|| format!("the guest has no card {name}"))?;
    let octets = link.mac.iter().map(|octet| format!("{octet:02x}"));
    let mac = octets.collect::<Vec<_>>().join(":");
    ensure!(mac == device.mac, "the card {name} has two MAC addresses");
    let address = match &link.addresses[..] {
        [address] => *address.ip.last().unwrap(),
        other => return Err(format!("the card {name} has the addresses {other:?}")),
    };
    let record = records
        .iter()
        .find(|record| record["name"] == name)
        .unwrap();
    let mut devices = DEVICES.iter().map(|(device, _)| *device);
    Ok(Some(Card {
        name: NAMES.iter().find(|own| **own == name).unwrap(),
        device: devices.find(|device| record["device"] == *device).unwrap(),
        mac,
        mtu: link.mtu,
        address,
    }))
}

/// The journal has the configuration of the last successful command, for a restart of the guest.
fn judge_record(card: &Card, records: &[Value]) -> Result<(), String> {
    let record = records
        .iter()
        .find(|record| record["name"] == card.name)
        .unwrap();
    let link = &record["link"];
    let address = format!("172.16.0.{}", card.address);
    ensure!(
        link["mtu"] == card.mtu && link["addresses"][0][0] == *address,
        "the card is {card:?}, and its record {link}"
    );
    Ok(())
}

/// The TAP devices are those of the cards, and those that existed are as before without a card.
fn judge_links(cards: &[Card], netns: &Netns) -> Result<(), String> {
    let shown = netns.ip("-j link show").json();
    let mut links = BTreeMap::new();
    for link in shown.as_array().unwrap() {
        let is_up = link["flags"].as_array().unwrap().contains(&"UP".into());
        let state = (link["mtu"].as_u64().unwrap(), is_up);
        links.insert(text(&link["ifname"]).to_owned(), state);
    }
    links.remove("lo");
    let mut wanted = BTreeMap::new();
    for (device, host) in DEVICES {
        let card = cards.iter().find(|card| card.device == device);
        let state = match (card, host) {
            (_, Host::Socket) | (None, Host::None) => continue,
            (Some(card), _) => (u64::from(card.mtu), true),
            (None, Host::Device) => BEFORE,
        };
        wanted.insert(device.to_owned(), state);
    }
    ensure!(
        links == wanted,
        "the links are {links:?} and not {wanted:?}"
    );
    Ok(())
}
