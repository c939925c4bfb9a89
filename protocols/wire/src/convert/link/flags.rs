//! Flags of interfaces: 0 if there is none, 1 for on and up, 2 for off and down.

use patchbay_types::{AdminState, Arp, Carrier, FieldError, InvalidValue, Promisc};

/// Flag with two states.
pub(super) trait Flag: Copy + PartialEq {
    /// State of the number 1.
    const SET: Self;
    /// State of the number 2.
    const CLEAR: Self;
}

impl Flag for AdminState {
    const SET: Self = Self::Up;
    const CLEAR: Self = Self::Down;
}

impl Flag for Arp {
    const SET: Self = Self::On;
    const CLEAR: Self = Self::Off;
}

impl Flag for Carrier {
    const SET: Self = Self::On;
    const CLEAR: Self = Self::Off;
}

impl Flag for Promisc {
    const SET: Self = Self::On;
    const CLEAR: Self = Self::Off;
}

/// Encodes a flag.
pub(super) fn number<T: Flag>(flag: Option<T>) -> u32 {
    match flag {
        None => 0,
        Some(flag) if flag == T::SET => 1,
        Some(_) => 2,
    }
}

/// Decodes a flag.
///
/// # Errors
/// A number above 2.
pub(super) fn read<T: Flag>(number: u32, field: &str) -> Result<Option<T>, FieldError> {
    match number {
        0 => Ok(None),
        1 => Ok(Some(T::SET)),
        2 => Ok(Some(T::CLEAR)),
        _ => Err(InvalidValue::new(&number, "it must be 0, 1 or 2").in_field(field)),
    }
}
