//! IPVS values, flows and routes as bytes: what rule files and tables are on their way, inside a
//! message's `bytes`.
//!
//! Protobuf carries the messages; the thousands of rules in one are packed by hand, since in an
//! emulated guest a nested message for each cost twice what the kernel needs for the rule itself
//! (docs/decisions/0004). The layout: fields one behind the other, numbers as LEB128, ports and
//! addresses as the network has them, each kind of value after one byte that names it. What is read
//! ends in the same constructors as words and netlink do, and no length is trusted.

mod change;
mod flow;
mod layout;
mod reader;
mod route;
mod rule;
mod sysctl;
mod table;

pub use layout::Bulk;
pub use reader::Reader;
pub use table::{TableRow, TableRowRef};

use patchbay_types::FieldError;

/// A value that can be laid out as bytes.
pub trait Packed: Sized {
    /// Adds its bytes.
    fn pack(&self, out: &mut Vec<u8>);

    /// Reads it from the front.
    ///
    /// # Errors
    /// The bytes end too early, or hold a value that breaks a rule; the field is named.
    fn unpack(reader: &mut Reader<'_>) -> Result<Self, FieldError>;
}

/// One value alone.
pub fn pack(value: &impl Packed) -> Vec<u8> {
    let mut out = Vec::new();
    value.pack(&mut out);
    out
}

/// One value alone: nothing may follow it.
///
/// # Errors
/// As [`Packed::unpack`], or bytes are left.
pub fn unpack<T: Packed>(bytes: &[u8]) -> Result<T, FieldError> {
    let mut reader = Reader::new(bytes);
    let value = T::unpack(&mut reader)?;
    reader.end()?;
    Ok(value)
}

#[cfg(test)]
mod tests;
