//! Compact binary encoding of IPVS values, flows, routes and events, carried in the `bytes` fields of protobuf
//! messages. docs/decisions/0004 has the reason: in an emulated guest, a nested message per rule costs
//! twice what the kernel needs for the rule itself.
//!
//! A value is the sequence of its fields: numbers in LEB128, ports and addresses in network order,
//! text after its length, and each alternative after a tag byte. Decoding trusts no length and ends in
//! the constructors that check command words and netlink messages as well. docs/compatibility.md has
//! the rules for changes.

mod change;
mod event;
mod flow;
mod layout;
mod reader;
mod route;
mod rule;
mod sysctl;
mod table;

pub use flow::{pack_flow, unpack_flow};
pub use layout::Bulk;
pub use reader::Reader;
pub use route::{Layered, routes_for_layout};
pub use table::{TableRow, TableRowRef};

use patchbay_types::FieldError;

/// A value with a binary encoding.
///
/// ```
/// use patchbay_codec::{pack, unpack};
/// use patchbay_types::ipvs::ServerId;
///
/// let server = ServerId { address: "10.0.0.2".parse().unwrap(), port: 80 };
/// assert_eq!(pack(&server), [4, 10, 0, 0, 2, 0, 80]);
/// assert_eq!(unpack(&pack(&server)), Ok(server));
/// assert!(unpack::<ServerId>(&[4, 10, 0]).is_err());
/// ```
pub trait Packed: Sized {
    /// Appends the encoded value.
    fn pack(&self, out: &mut Vec<u8>);

    /// Decodes a value from the front.
    ///
    /// # Errors
    /// The input is too short, or a value is invalid; the error names the field.
    fn unpack(reader: &mut Reader<'_>) -> Result<Self, FieldError>;
}

/// Encodes a single value.
pub fn pack(value: &impl Packed) -> Vec<u8> {
    let mut out = Vec::new();
    value.pack(&mut out);
    out
}

/// Decodes a single value.
///
/// # Errors
/// Those of [`Packed::unpack`], and trailing bytes.
pub fn unpack<T: Packed>(bytes: &[u8]) -> Result<T, FieldError> {
    let mut reader = Reader::new(bytes);
    let value = T::unpack(&mut reader)?;
    reader.end()?;
    Ok(value)
}

#[cfg(test)]
mod tests;
