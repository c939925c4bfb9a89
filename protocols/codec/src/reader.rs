//! Encoding of the parts of values.

use std::net::IpAddr;

use patchbay_types::{FieldError, InvalidValue};

/// Maximum size of a 64-bit number in bytes, with seven bits each.
const MAX_NUMBER: usize = 10;

/// Decodes values from the front of borrowed bytes.
#[derive(Debug)]
pub struct Reader<'a>(&'a [u8]);

fn short(field: &str) -> FieldError {
    InvalidValue::new("", "the message ends within it").in_field(field)
}

/// Error for a number that is not legal in a field.
pub(super) fn strange(value: impl Into<u64>, rule: &'static str, field: &str) -> FieldError {
    InvalidValue::new(&value.into(), rule).in_field(field)
}

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Returns whether everything has been read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Checks that everything has been read.
    pub(super) fn end(&self) -> Result<(), FieldError> {
        if self.is_empty() {
            return Ok(());
        }
        let rule = "bytes are left behind it";
        Err(InvalidValue::new(&self.0.len().to_string(), rule).in_field("value"))
    }

    pub(super) fn bytes<const N: usize>(&mut self, field: &str) -> Result<[u8; N], FieldError> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or_else(|| short(field))?;
        self.0 = rest;
        Ok(*bytes)
    }

    /// Reads a tag.
    ///
    /// # Errors
    /// The input has ended.
    pub fn byte(&mut self, field: &str) -> Result<u8, FieldError> {
        self.bytes(field).map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self, field: &str) -> Result<u16, FieldError> {
        self.bytes(field).map(u16::from_be_bytes)
    }

    pub(super) fn u64(&mut self, field: &str) -> Result<u64, FieldError> {
        let mut number = 0;
        for (index, byte) in self.0.iter().enumerate().take(MAX_NUMBER) {
            number |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                self.0 = &self.0[index + 1..];
                return Ok(number);
            }
        }
        Err(short(field))
    }

    pub(super) fn u32(&mut self, field: &str) -> Result<u32, FieldError> {
        let number = self.u64(field)?;
        u32::try_from(number).map_err(|_| strange(number, "it has 32 bits", field))
    }

    pub(super) fn ip(&mut self, field: &str) -> Result<IpAddr, FieldError> {
        let none = || strange(0u8, "an address is needed", field);
        self.optional_ip(field)?.ok_or_else(none)
    }

    pub(super) fn optional_ip(&mut self, field: &str) -> Result<Option<IpAddr>, FieldError> {
        match self.byte(field)? {
            0 => Ok(None),
            4 => self.bytes::<4>(field).map(|octets| Some(octets.into())),
            6 => self.bytes::<16>(field).map(|octets| Some(octets.into())),
            family => Err(strange(family, "an address is of family 4 or 6", field)),
        }
    }

    /// Skips the next byte if it is this one; returns whether it was.
    pub(super) fn skip(&mut self, byte: u8) -> bool {
        let rest = self.0.strip_prefix(&[byte]);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    /// Reads at most 255 bytes after their number.
    pub(super) fn short_bytes(&mut self, field: &str) -> Result<&'a [u8], FieldError> {
        let length = usize::from(self.byte(field)?);
        let split = self.0.split_at_checked(length);
        let (bytes, rest) = split.ok_or_else(|| short(field))?;
        self.0 = rest;
        Ok(bytes)
    }

    /// Reads text of at most 255 bytes.
    pub(super) fn text(&mut self, field: &str) -> Result<&'a str, FieldError> {
        let none = |_| InvalidValue::new("", "it is no text").in_field(field);
        std::str::from_utf8(self.short_bytes(field)?).map_err(none)
    }
}

pub(super) fn put_number(out: &mut Vec<u8>, number: impl Into<u64>) {
    let mut number = number.into();
    while number >= 0x80 {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

pub(super) fn put_u16(out: &mut Vec<u8>, port: u16) {
    out.extend_from_slice(&port.to_be_bytes());
}

pub(super) fn put_ip(out: &mut Vec<u8>, ip: IpAddr) {
    match ip {
        IpAddr::V4(v4) => {
            out.push(4);
            out.extend_from_slice(&v4.octets());
        }
        IpAddr::V6(v6) => {
            out.push(6);
            out.extend_from_slice(&v6.octets());
        }
    }
}

/// Appends text of at most 255 bytes.
pub(super) fn put_text(out: &mut Vec<u8>, text: &str) {
    put_bytes(out, text.as_bytes());
}

/// Appends at most 255 bytes after their number; every caller's type guarantees the limit.
pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u8::try_from(bytes.len()).unwrap_or(u8::MAX);
    out.push(length);
    out.extend_from_slice(&bytes[..usize::from(length)]);
}

/// Tag of an optional value.
const ABSENT: u8 = 0;
const PRESENT: u8 = 1;

pub(super) fn put_optional<T>(out: &mut Vec<u8>, value: Option<T>, put: impl Fn(&mut Vec<u8>, T)) {
    match value {
        None => out.push(ABSENT),
        Some(value) => {
            out.push(PRESENT);
            put(out, value);
        }
    }
}

pub(super) fn optional<'a, T>(
    reader: &mut Reader<'a>,
    field: &str,
    read: impl Fn(&mut Reader<'a>, &str) -> Result<T, FieldError>,
) -> Result<Option<T>, FieldError> {
    match reader.byte(field)? {
        ABSENT => Ok(None),
        PRESENT => read(reader, field).map(Some),
        number => Err(strange(number, "it is there (1) or not (0)", field)),
    }
}

pub(super) fn put_optional_ip(out: &mut Vec<u8>, ip: Option<IpAddr>) {
    match ip {
        None => out.push(0),
        Some(ip) => put_ip(out, ip),
    }
}
