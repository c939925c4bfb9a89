//! Attributes: a writer into the tail of a batch, a reader over borrowed bytes.

use super::Error;

/// Attributes and messages begin at multiples of this (`NLA_ALIGNTO`, `NLMSG_ALIGNTO`).
const ALIGN: usize = 4;
const HEADER: usize = 4;
const NESTED: u16 = 1 << 15;
const TYPE_MASK: u16 = 0x3fff;

/// Writes the body of one request behind what the buffer already holds.
#[derive(Debug)]
pub struct Body<'a>(&'a mut Vec<u8>);

impl<'a> Body<'a> {
    /// Appends to a buffer that holds the message so far.
    pub fn new(buffer: &'a mut Vec<u8>) -> Self {
        Self(buffer)
    }

    /// Bytes that are no attribute: the fixed header of a family.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
        self.pad();
    }

    /// A byte.
    pub fn u8(&mut self, kind: u16, value: u8) {
        self.bytes(kind, [value]);
    }

    /// A 16-bit number in host order.
    pub fn u16(&mut self, kind: u16, value: u16) {
        self.numbers([Number::u16(kind, value)]);
    }

    /// A 32-bit number in host order.
    pub fn u32(&mut self, kind: u16, value: u32) {
        self.numbers([Number::u32(kind, value)]);
    }

    /// Numbers, at one go: tens of thousands of rules have a dozen each.
    pub fn numbers<const N: usize>(&mut self, numbers: [Number; N]) {
        let bytes = numbers.map(|Number(bytes)| bytes);
        self.0.extend_from_slice(bytes.as_flattened());
    }

    /// At most 16 bytes as they are: addresses, numbers in network order.
    pub fn bytes<const N: usize>(&mut self, kind: u16, value: [u8; N]) {
        const { assert!(N <= 16) };
        let mut whole = [0; HEADER + 16];
        let length = u16::try_from(HEADER + N).unwrap_or(u16::MAX);
        whole[..HEADER].copy_from_slice(&header(length, kind));
        whole[HEADER..HEADER + N].copy_from_slice(&value);
        self.0
            .extend_from_slice(&whole[..HEADER + N.next_multiple_of(ALIGN)]);
    }

    /// Text with its closing NUL.
    pub fn str_z(&mut self, kind: u16, text: &str) {
        self.attribute(kind, |body| {
            body.0.extend_from_slice(text.as_bytes());
            body.0.push(0);
        });
    }

    /// A nest: its length is patched when `fill` returns, so an unfinished one can't be written.
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Body<'_>)) {
        self.attribute(kind | NESTED, fill);
    }

    fn attribute(&mut self, kind: u16, fill: impl FnOnce(&mut Body<'_>)) {
        let start = self.0.len();
        self.0.extend_from_slice(&[0; HEADER]);
        fill(&mut Body(self.0));
        // A request of ours never comes near 64 KiB; an attribute that did would be cut to a
        // length that the kernel refuses.
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

/// An attribute whose value is a number of 16 or 32 bits: with its header and padding eight bytes.
#[derive(Debug, Clone, Copy)]
pub struct Number([u8; 8]);

impl Number {
    /// A 16-bit number in host order.
    #[must_use]
    pub fn u16(kind: u16, value: u16) -> Self {
        let [v0, v1] = value.to_ne_bytes();
        Self::of(2, kind, [v0, v1, 0, 0])
    }

    /// A 16-bit number in network order.
    #[must_use]
    pub fn be16(kind: u16, value: u16) -> Self {
        Self::u16(kind, value.to_be())
    }

    /// A 32-bit number in host order.
    #[must_use]
    pub fn u32(kind: u16, value: u32) -> Self {
        Self::of(4, kind, value.to_ne_bytes())
    }

    fn of(size: u16, kind: u16, [v0, v1, v2, v3]: [u8; 4]) -> Self {
        let [h0, h1, h2, h3] = header(4 + size, kind);
        Self([h0, h1, h2, h3, v0, v1, v2, v3])
    }
}

/// Reads attributes one by one; trusts no length.
#[derive(Debug, Clone)]
pub struct Attrs<'a>(&'a [u8]);

impl<'a> Attrs<'a> {
    /// Over the attributes that follow the first `skip` bytes, the family's fixed header.
    pub fn after(skip: usize, bytes: &'a [u8]) -> Result<Self, Error> {
        bytes
            .get(skip..)
            .map(Self)
            .ok_or(Error::Malformed("it is shorter than its header"))
    }

    /// The value of the first attribute of this kind.
    pub fn find(&self, kind: u16) -> Result<Option<&'a [u8]>, Error> {
        for attribute in self.clone() {
            let (found, value) = attribute?;
            if found == kind {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }
}

/// Attributes by their kind, below `N`: read once where many are looked up.
#[derive(Debug)]
pub struct AttrTable<'a, const N: usize>([Option<&'a [u8]>; N]);

impl<'a, const N: usize> AttrTable<'a, N> {
    /// The first of each kind; those that are not known are passed over.
    pub fn of(attrs: Attrs<'a>) -> Result<Self, Error> {
        let mut values = [None; N];
        for attribute in attrs {
            let (kind, value) = attribute?;
            if let Some(place) = values.get_mut(usize::from(kind)) {
                place.get_or_insert(value);
            }
        }
        Ok(Self(values))
    }

    /// The value of this kind.
    #[must_use]
    pub fn find(&self, kind: u16) -> Option<&'a [u8]> {
        self.0.get(usize::from(kind)).copied().flatten()
    }
}

/// An attribute as it stands in its message.
#[derive(Debug, Clone, Copy)]
pub struct Attribute<'a> {
    /// Its kind, without the flags.
    pub kind: u16,
    /// Its value.
    pub value: &'a [u8],
    /// Header, value and padding.
    pub whole: &'a [u8],
}

impl<'a> Attrs<'a> {
    /// Attributes as they stand there, for those who copy them.
    pub fn standing(mut self) -> impl Iterator<Item = Result<Attribute<'a>, Error>> {
        std::iter::from_fn(move || self.split())
    }

    fn split(&mut self) -> Option<Result<Attribute<'a>, Error>> {
        // Less than a header is padding.
        let [l0, l1, k0, k1] = *self.0.first_chunk::<HEADER>()?;
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let Some(value) = self.0.get(HEADER..length) else {
            self.0 = &[];
            return Some(Err(Error::Malformed(
                "an attribute is longer than its message",
            )));
        };
        let next = length.next_multiple_of(ALIGN).min(self.0.len());
        let (whole, rest) = self.0.split_at(next);
        self.0 = rest;
        Some(Ok(Attribute {
            kind: u16::from_ne_bytes([k0, k1]) & TYPE_MASK,
            value,
            whole,
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

/// A byte.
pub fn read_u8(value: &[u8]) -> Result<u8, Error> {
    match value {
        [byte] => Ok(*byte),
        _ => Err(Error::Malformed("a number has not 8 bits")),
    }
}

/// A number of 16 bits in network order.
pub fn read_be16(value: &[u8]) -> Result<u16, Error> {
    Ok(u16::from_be(read_u16(value)?))
}

/// A number of 16 bits in host order.
pub fn read_u16(value: &[u8]) -> Result<u16, Error> {
    let bytes = value
        .try_into()
        .map_err(|_| Error::Malformed("a number has not 16 bits"))?;
    Ok(u16::from_ne_bytes(bytes))
}

/// A number of 32 bits in host order.
pub fn read_u32(value: &[u8]) -> Result<u32, Error> {
    let bytes = value
        .try_into()
        .map_err(|_| Error::Malformed("a number has not 32 bits"))?;
    Ok(u32::from_ne_bytes(bytes))
}

/// A number of 64 bits in host order.
pub fn read_u64(value: &[u8]) -> Result<u64, Error> {
    let bytes = value
        .try_into()
        .map_err(|_| Error::Malformed("a number has not 64 bits"))?;
    Ok(u64::from_ne_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
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
    fn a_length_that_lies_is_an_error_not_a_panic() {
        for bytes in [&[3, 0, 1, 0][..], &[9, 0, 1, 0, 0, 0, 0, 0], &[0, 0, 0, 0]] {
            let error = Attrs::after(0, bytes).unwrap().next().unwrap().unwrap_err();
            assert!(matches!(error, Error::Malformed(_)), "{bytes:?}");
        }
        assert!(Attrs::after(1, &[]).is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_end(bytes: Vec<u8>) {
            let read = Attrs::after(0, &bytes).unwrap().take(bytes.len() + 1).count();
            proptest::prop_assert!(read <= bytes.len() / HEADER + 1);
        }
    }
}
