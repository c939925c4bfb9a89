//! Attributes: a writer that appends to a buffer, a reader over borrowed bytes.

use super::Error;

/// Alignment of attributes and messages (`NLA_ALIGNTO`, `NLMSG_ALIGNTO`).
const ALIGN: usize = 4;
const HEADER: usize = 4;
const NESTED: u16 = 1 << 15;
const TYPE_MASK: u16 = 0x3fff;

/// Writer for the body of a request; appends to a buffer.
#[derive(Debug)]
pub struct Body<'a>(&'a mut Vec<u8>);

impl<'a> Body<'a> {
    /// Appends to a buffer that holds the message so far.
    pub fn new(buffer: &'a mut Vec<u8>) -> Self {
        Self(buffer)
    }

    /// Appends bytes as they are, such as the fixed header of a protocol, and pads them.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
        self.pad();
    }

    /// Appends a u8 attribute.
    pub fn u8(&mut self, kind: u16, value: u8) {
        self.bytes(kind, [value]);
    }

    /// Appends a u16 attribute in host order.
    pub fn u16(&mut self, kind: u16, value: u16) {
        self.ints([IntAttr::u16(kind, value)]);
    }

    /// Appends a u32 attribute in host order.
    pub fn u32(&mut self, kind: u16, value: u32) {
        self.ints([IntAttr::u32(kind, value)]);
    }

    /// Appends several integers with a single copy: tens of thousands of rules have a dozen each.
    pub fn ints<const N: usize>(&mut self, ints: [IntAttr; N]) {
        let bytes = ints.map(|IntAttr(bytes)| bytes);
        self.0.extend_from_slice(bytes.as_flattened());
    }

    /// Appends a value of up to 16 bytes: an address or an integer in network order.
    pub fn bytes<const N: usize>(&mut self, kind: u16, value: [u8; N]) {
        const { assert!(N <= 16) };
        let mut attribute = [0; HEADER + 16];
        let length = u16::try_from(HEADER + N).unwrap_or(u16::MAX);
        attribute[..HEADER].copy_from_slice(&header(length, kind));
        attribute[HEADER..HEADER + N].copy_from_slice(&value);
        self.0
            .extend_from_slice(&attribute[..HEADER + N.next_multiple_of(ALIGN)]);
    }

    /// Appends a string with a terminating NUL.
    pub fn str_z(&mut self, kind: u16, text: impl AsRef<[u8]>) {
        self.attribute(kind, |body| {
            body.0.extend_from_slice(text.as_ref());
            body.0.push(0);
        });
    }

    /// Appends a nested attribute with the attributes that `fill` writes.
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Body<'_>)) {
        self.attribute(kind | NESTED, fill);
    }

    fn attribute(&mut self, kind: u16, fill: impl FnOnce(&mut Body<'_>)) {
        let start = self.0.len();
        self.0.extend_from_slice(&[0; HEADER]);
        fill(&mut Body(self.0));
        // No request comes near 64 KiB. The kernel would reject the wrong length of one that did.
        let length = u16::try_from(self.0.len() - start).unwrap_or(u16::MAX);
        self.0[start..start + HEADER].copy_from_slice(&header(length, kind));
        self.pad();
    }

    fn pad(&mut self) {
        let end = self.0.len().next_multiple_of(ALIGN);
        if end > self.0.len() {
            self.0.resize(end, 0);
        }
    }
}

fn header(length: u16, kind: u16) -> [u8; HEADER] {
    let ([l0, l1], [k0, k1]) = (length.to_ne_bytes(), kind.to_ne_bytes());
    [l0, l1, k0, k1]
}

/// Encoded attribute with an integer of 16 or 32 bits: eight bytes with header and padding.
#[derive(Debug, Clone, Copy)]
pub struct IntAttr([u8; 8]);

impl IntAttr {
    /// Encodes a u16 in host order.
    #[must_use]
    pub fn u16(kind: u16, value: u16) -> Self {
        let [v0, v1] = value.to_ne_bytes();
        Self::encode(2, kind, [v0, v1, 0, 0])
    }

    /// Encodes a u16 in network order.
    #[must_use]
    pub fn be16(kind: u16, value: u16) -> Self {
        Self::u16(kind, value.to_be())
    }

    /// Encodes a u32 in host order.
    #[must_use]
    pub fn u32(kind: u16, value: u32) -> Self {
        Self::encode(4, kind, value.to_ne_bytes())
    }

    fn encode(size: u16, kind: u16, [v0, v1, v2, v3]: [u8; 4]) -> Self {
        let [h0, h1, h2, h3] = header(4 + size, kind);
        Self([h0, h1, h2, h3, v0, v1, v2, v3])
    }
}

/// Iterator over the attributes of a message or nest; every length is checked.
#[derive(Debug, Clone)]
pub struct Attrs<'a>(&'a [u8]);

impl<'a> Attrs<'a> {
    /// Iterates over the attributes after a fixed header of `skip` bytes.
    pub fn after(skip: usize, bytes: &'a [u8]) -> Result<Self, Error> {
        let attrs = bytes.get(skip..).map(Self);
        attrs.ok_or(Error::Malformed("a message is shorter than its header"))
    }

    /// Returns the value of the first attribute of this type.
    pub fn find(&self, kind: u16) -> Result<Option<&'a [u8]>, Error> {
        for attribute in self.clone() {
            let (found, value) = attribute?;
            if found == kind {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    /// Iterates over the attributes with their encoded bytes, for copying them.
    pub fn raw_attrs(mut self) -> impl Iterator<Item = Result<Attribute<'a>, Error>> {
        std::iter::from_fn(move || self.split())
    }

    fn split(&mut self) -> Option<Result<Attribute<'a>, Error>> {
        // A rest shorter than a header is padding.
        let [l0, l1, k0, k1] = *self.0.first_chunk::<HEADER>()?;
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let Some(value) = self.0.get(HEADER..length) else {
            self.0 = &[];
            return Some(Err(Error::Malformed(
                "an attribute is longer than its message",
            )));
        };
        let next = length.next_multiple_of(ALIGN).min(self.0.len());
        let (encoded, rest) = self.0.split_at(next);
        self.0 = rest;
        Some(Ok(Attribute {
            kind: u16::from_ne_bytes([k0, k1]) & TYPE_MASK,
            value,
            encoded,
        }))
    }
}

impl<'a> Iterator for Attrs<'a> {
    type Item = Result<(u16, &'a [u8]), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let attribute = self.split()?;
        Some(attribute.map(|Attribute { kind, value, .. }| (kind, value)))
    }
}

/// Attribute with its encoded bytes.
#[derive(Debug, Clone, Copy)]
pub struct Attribute<'a> {
    /// Type without the flags.
    pub kind: u16,
    /// Value.
    pub value: &'a [u8],
    /// Header, value and padding.
    pub encoded: &'a [u8],
}

/// Attributes with types below `N`, indexed by type (the kernel's `tb[]`).
#[derive(Debug)]
pub struct AttrTable<'a, const N: usize>([Option<&'a [u8]>; N]);

impl<'a, const N: usize> AttrTable<'a, N> {
    /// Keeps the first attribute of each type and skips types from `N` on.
    pub fn of(attrs: Attrs<'a>) -> Result<Self, Error> {
        let mut values = [None; N];
        for attribute in attrs {
            let (kind, value) = attribute?;
            if let Some(entry) = values.get_mut(usize::from(kind)) {
                entry.get_or_insert(value);
            }
        }
        Ok(Self(values))
    }

    /// Returns the value of the attribute of this type.
    #[must_use]
    pub fn find(&self, kind: u16) -> Option<&'a [u8]> {
        self.0.get(usize::from(kind)).copied().flatten()
    }
}

fn octets<const N: usize>(value: &[u8]) -> Result<[u8; N], Error> {
    let wrong_size = |_| Error::Malformed("an integer attribute has the wrong size");
    value.try_into().map_err(wrong_size)
}

/// Reads a u8.
pub fn read_u8(value: &[u8]) -> Result<u8, Error> {
    octets(value).map(u8::from_ne_bytes)
}

/// Reads a u16 in network order.
pub fn read_be16(value: &[u8]) -> Result<u16, Error> {
    octets(value).map(u16::from_be_bytes)
}

/// Reads a u16 in host order.
pub fn read_u16(value: &[u8]) -> Result<u16, Error> {
    octets(value).map(u16::from_ne_bytes)
}

/// Reads a u32 in network order.
pub fn read_be32(value: &[u8]) -> Result<u32, Error> {
    octets(value).map(u32::from_be_bytes)
}

/// Reads a u32 in host order.
pub fn read_u32(value: &[u8]) -> Result<u32, Error> {
    octets(value).map(u32::from_ne_bytes)
}

/// Reads a u64 in host order.
pub fn read_u64(value: &[u8]) -> Result<u64, Error> {
    octets(value).map(u64::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_round_trip() {
        let mut buffer = vec![];
        let mut body = Body::new(&mut buffer);
        body.raw(&[17, 1]);
        body.nest(1, |body| {
            body.u32(1, 0xdead_beef);
            body.str_z(2, "eth0");
        });
        body.u32(9, 5);
        assert_eq!(buffer.len(), 4 + 4 + 8 + 12 + 8);

        let attrs = Attrs::after(4, &buffer).unwrap();
        let nest = attrs.find(1).unwrap().unwrap();
        let nest = Attrs::after(0, nest).unwrap();
        assert_eq!(
            read_u32(nest.find(1).unwrap().unwrap()).unwrap(),
            0xdead_beef
        );
        assert_eq!(nest.find(2).unwrap().unwrap(), b"eth0\0");
        assert_eq!(read_u32(attrs.find(9).unwrap().unwrap()).unwrap(), 5);
        assert!(attrs.find(8).unwrap().is_none());
    }

    #[test]
    fn wrong_attribute_length_is_malformed() {
        for bytes in [&[3, 0, 1, 0][..], &[9, 0, 1, 0, 0, 0, 0, 0], &[0, 0, 0, 0]] {
            let error = Attrs::after(0, bytes).unwrap().next().unwrap().unwrap_err();
            assert!(matches!(error, Error::Malformed(_)), "{bytes:?}");
        }
        assert!(Attrs::after(1, &[]).is_err());
    }

    /// Lengths at the limits of a header, of an attribute and of a message, flags and all bits.
    const BYTES: [u8; 8] = [0, 1, 3, 4, 5, 8, 0x80, 0xff];
    /// Two headers.
    const MAX_LENGTH: u32 = if cfg!(miri) { 4 } else { 7 };

    #[test]
    fn every_short_message_is_read_to_its_end_or_malformed() {
        for length in 0..=MAX_LENGTH {
            for number in 0..8_usize.pow(length) {
                let digits = (0..length).map(|digit| number >> (3 * digit) & 7);
                let bytes: Vec<u8> = digits.map(|digit| BYTES[digit]).collect();
                assert_reads_to_the_end(&bytes);
            }
        }
    }

    /// The attributes and the rest, which is shorter than a header, are the message.
    fn assert_reads_to_the_end(bytes: &[u8]) {
        let mut read = 0;
        for attribute in Attrs::after(0, bytes).unwrap().raw_attrs() {
            let Ok(attribute) = attribute else {
                return;
            };
            let encoded = attribute.encoded;
            assert_eq!(encoded, &bytes[read..read + encoded.len()]);
            assert_eq!(attribute.value, &encoded[HEADER..][..attribute.value.len()]);
            assert!(attribute.kind <= TYPE_MASK);
            read += encoded.len();
        }
        assert!(bytes.len() - read < HEADER, "{bytes:?}");
    }

    proptest::proptest! {
        #[test]
        fn iterator_over_any_bytes_terminates(bytes: Vec<u8>) {
            let read = Attrs::after(0, &bytes).unwrap().take(bytes.len() + 1).count();
            proptest::prop_assert!(read <= bytes.len() / HEADER + 1);
        }
    }
}
