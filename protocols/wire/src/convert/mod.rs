//! Conversion between domain types and protobuf messages. Each conversion destructures its source, so
//! that a new field is a compile error here; each error names the path of the field.

pub mod conntrack;
pub mod ipvs;
pub mod ipvs_servers;
mod link;
mod manager;
mod neighbor;
mod netns;
mod place;
mod release;
mod route;

use std::net::IpAddr;

use patchbay_types::{FieldError, InvalidValue};

pub use link::{configure_request, interfaces, interfaces_request, update_request};
pub use manager::{managers, mark_card_request};
pub use neighbor::{
    delete_neighbors_request, neighbor_patterns, neighbors, neighbors_reply, neighbors_request,
    new_neighbors,
};
pub use netns::enter_netns_request;
pub use place::{locate_request, paths, places, with_yielding, yielding};
pub use release::release_request;
pub use route::{
    delete_request, list_request, patterns, routes, routes_reply, routes_request, specs,
};

/// Maximum number of interfaces, of addresses of one, of neighbors and of places in a message.
const MAX_LISTED: usize = 4096;

fn ip_bytes(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

fn ip(bytes: &[u8]) -> Result<IpAddr, InvalidValue> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let v6 = <[u8; 16]>::try_from(bytes).map(IpAddr::from);
    let length = || format!("{} bytes", bytes.len());
    v4.or(v6)
        .map_err(|_| InvalidValue::new(&length(), "an address has 4 or 16 bytes"))
}

/// Narrows a number, since protobuf has none below 32 bits.
fn narrow<T: TryFrom<u32>>(number: u32, field: &str) -> Result<T, FieldError> {
    let rule = "it is too large";
    T::try_from(number).map_err(|_| InvalidValue::new(&number, rule).in_field(field))
}

fn check_count(count: usize, field: &str) -> Result<(), FieldError> {
    if count > MAX_LISTED {
        return Err(InvalidValue::new(&count, "at most 4096 are accepted").in_field(field));
    }
    Ok(())
}

/// Converts an optional value whose default means none.
fn unless_default<W: PartialEq + Default, T>(
    wire: W,
    convert: impl FnOnce(W) -> Result<T, FieldError>,
) -> Result<Option<T>, FieldError> {
    (wire != W::default()).then(|| convert(wire)).transpose()
}
