//! Static neighbors as JSON.

use std::fmt::Display;

use patchbay_types::{IfName, LinkLayerAddr, Neighbor, NeighborAddress, NeighborPattern};
use serde_json::{Value, json};

use super::json::without_nulls;
use super::table::Column;
use crate::input::neighbor::PERMANENT;

/// Columns of `neighbor list`.
pub(crate) const NEIGHBORS: &[Column] = &[
    Column::new("address"),
    Column::new("lladdr"),
    Column::new("device"),
];

/// Formats a neighbor of the `kata-network` commands, which is valid input of them.
pub(crate) fn document(neighbor: &Neighbor) -> Value {
    let Neighbor { ip, lladdr, device } = neighbor;
    of_kata(*ip, Some(*lladdr), Some(device))
}

/// Formats the pattern of a deletion.
pub(crate) fn pattern(pattern: &NeighborPattern) -> Value {
    of_kata(pattern.ip, pattern.lladdr, pattern.device.as_ref())
}

/// Formats a neighbor of `neighbor list`.
pub(crate) fn row(neighbor: &Neighbor) -> Value {
    let Neighbor { ip, lladdr, device } = neighbor;
    json!({
        "address": ip.to_string(),
        "lladdr": lladdr.to_string(),
        "device": device.to_string(),
    })
}

/// Kata's `ARPNeighbor`.
fn of_kata(
    ip: NeighborAddress,
    lladdr: Option<LinkLayerAddr>,
    device: Option<&impl Display>,
) -> Value {
    let family = if ip.get().is_ipv4() { "v4" } else { "v6" };
    without_nulls(json!({
        "toIPAddress": {"family": family, "address": ip.to_string()},
        "device": device.map(ToString::to_string),
        "lladdr": lladdr.map(|lladdr| lladdr.to_string()),
        "state": lladdr.map(|_| PERMANENT),
    }))
}

/// Formats the neighbors of a card; `null` without any.
pub(super) fn of_card(neighbors: &[Neighbor<()>], name: &IfName) -> Value {
    let document = |entry: &Neighbor<()>| of_kata(entry.ip, Some(entry.lladdr), Some(name));
    match neighbors {
        [] => Value::Null,
        neighbors => neighbors.iter().map(document).collect(),
    }
}
