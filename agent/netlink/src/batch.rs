//! Requests of one protocol, encoded in one buffer.

use std::marker::PhantomData;
use std::ops::Range;

use super::{Body, NetlinkProtocol};

/// Size of `nlmsghdr` in bytes: length u32, type u16, flags u16, sequence u32, port u32.
pub(super) const HEADER: usize = 16;

/// Limits of one `sendmsg`. 257 errors would overflow the default receive buffer of 208 KiB, and
/// 214 kB of requests the send buffer.
const MAX_CHUNK_REQUESTS: usize = 128;
const MAX_CHUNK_BYTES: usize = 64 * 1024;

/// Flags of a request (`NLM_F_*`); each includes `NLM_F_REQUEST`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum Flags {
    /// Get, change or delete an object.
    Plain = 0x001,
    /// Create an object and fail if it exists: `NLM_F_CREATE | NLM_F_EXCL`.
    Create = 0x601,
    /// Change an object, or create it: `NLM_F_CREATE | NLM_F_REPLACE`.
    Replace = 0x501,
    /// Create an object after existing ones that it doesn't equal: `NLM_F_CREATE | NLM_F_APPEND`.
    Append = 0xc01,
    /// List all objects: `NLM_F_ROOT | NLM_F_MATCH`.
    Dump = 0x301,
}

pub(super) const ACK: u16 = 0x004;

/// Encoded requests of one protocol; the kernel processes them in this order.
#[derive(Debug)]
pub struct Batch<P> {
    buffer: Vec<u8>,
    starts: Vec<usize>,
    protocol: PhantomData<P>,
}

impl<P> Default for Batch<P> {
    fn default() -> Self {
        Self {
            buffer: Vec::new(),
            starts: Vec::new(),
            protocol: PhantomData,
        }
    }
}

impl<P: NetlinkProtocol> Batch<P> {
    /// Creates a batch of a single request.
    pub fn of(kind: u16, flags: Flags, body: impl FnOnce(&mut Body<'_>)) -> Self {
        let mut batch = Self::default();
        batch.push(kind, flags, body);
        batch
    }

    /// Appends a request of message type `kind`.
    pub fn push(&mut self, kind: u16, flags: Flags, body: impl FnOnce(&mut Body<'_>)) {
        let start = self.buffer.len();
        self.starts.push(start);
        let mut header = [0; HEADER];
        header[4..6].copy_from_slice(&kind.to_ne_bytes());
        header[6..8].copy_from_slice(&(flags as u16).to_ne_bytes());
        self.buffer.extend_from_slice(&header);
        // The writer pads every part, so the next request starts aligned.
        body(&mut Body::new(&mut self.buffer));
        let end = self.buffer.len();
        let length = u32::try_from(end - start).unwrap_or(u32::MAX);
        self.buffer[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }

    /// Removes all requests and keeps the allocation.
    pub fn clear(&mut self) {
        self.buffer.clear();
        self.starts.clear();
    }

    /// Returns the number of requests.
    #[must_use]
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Returns whether the batch has no requests.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// Iterates over the encoded requests; their sequence numbers are 0.
    pub fn requests(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map(|position| &self.buffer[self.starts[position]..self.end(position)])
    }

    /// Returns all encoded requests; their sequence numbers are 0.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.buffer
    }

    /// Returns whether the first request is a dump.
    pub(super) fn is_dump(&self) -> bool {
        let flags = self.buffer.get(6..8);
        flags == Some(&(Flags::Dump as u16).to_ne_bytes())
    }

    /// Splits the positions of the requests into chunks for one `sendmsg` each.
    pub(super) fn chunks(&self) -> Vec<Range<usize>> {
        let mut chunks: Vec<Range<usize>> = Vec::new();
        for position in 0..self.len() {
            match chunks.last_mut() {
                Some(last)
                    if last.len() < MAX_CHUNK_REQUESTS
                        && self.end(position) - self.starts[last.start] <= MAX_CHUNK_BYTES =>
                {
                    last.end = position + 1;
                }
                _ => chunks.push(position..position + 1),
            }
        }
        chunks
    }

    /// Encodes a chunk with sequence numbers from `first` on; the last request also gets `flags`.
    pub(super) fn encode(&self, chunk: &Range<usize>, first: u32, flags: u16) -> Vec<u8> {
        let base = self.starts[chunk.start];
        let mut bytes = self.buffer[base..self.end(chunk.end - 1)].to_vec();
        for (sequence, position) in (first..).zip(chunk.clone()) {
            let start = self.starts[position] - base;
            bytes[start + 8..start + 12].copy_from_slice(&sequence.to_ne_bytes());
        }
        let last = self.starts[chunk.end - 1] - base;
        let old = u16::from_ne_bytes([bytes[last + 6], bytes[last + 7]]);
        bytes[last + 6..last + 8].copy_from_slice(&(old | flags).to_ne_bytes());
        bytes
    }

    fn end(&self, position: usize) -> usize {
        let next = self.starts.get(position + 1);
        next.copied().unwrap_or(self.buffer.len())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Rtnetlink;
    use super::*;

    fn batch(requests: usize, body: usize) -> Batch<Rtnetlink> {
        let mut batch = Batch::default();
        for _ in 0..requests {
            batch.push(16, Flags::Plain, |b| b.raw(&vec![7; body]));
        }
        batch
    }

    #[test]
    fn chunks_are_limited_in_requests_and_bytes() {
        assert_eq!(batch(300, 4).chunks(), [0..128, 128..256, 256..300]);
        assert_eq!(batch(3, 40_000).chunks(), [0..1, 1..2, 2..3]);
        assert_eq!(batch(0, 0).chunks(), []);
    }

    #[test]
    fn only_last_request_of_chunk_has_ack_flag() {
        let batch = batch(2, 4);
        let bytes = batch.encode(&(0..2), 41, ACK);
        assert_eq!(bytes.len(), 40);
        let flags = |at: usize| u16::from_ne_bytes([bytes[at + 6], bytes[at + 7]]);
        assert_eq!((flags(0), flags(20)), (1, 5));
        let sequence = |at: usize| bytes[at + 8];
        assert_eq!((sequence(0), sequence(20)), (41, 42));
    }
}
