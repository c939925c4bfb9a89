//! Requests, encoded one behind the other into one buffer.

use std::marker::PhantomData;
use std::ops::Range;

use super::{Body, Family};

/// `nlmsghdr`: length u32, type u16, flags u16, sequence u32, port u32.
pub(super) const HEADER: usize = 16;

/// Most requests and bytes of one `sendmsg`. 257 refusals would overflow the receive buffer's
/// default 208 KiB, and so would 214 kB the send buffer.
const CHUNK_REQUESTS: usize = 128;
const CHUNK_BYTES: usize = 64 * 1024;

/// What a request asks of the kernel besides its type (`NLM_F_*`; each has `NLM_F_REQUEST`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum Flags {
    /// Change or get what exists.
    Plain = 0x001,
    /// Make it; refuse if it exists: `NLM_F_CREATE | NLM_F_EXCL`.
    Create = 0x601,
    /// List everything: `NLM_F_ROOT | NLM_F_MATCH`.
    Dump = 0x301,
}

pub(super) const ACK: u16 = 0x004;

/// Encoded requests of one family, in the order in which they are carried out.
#[derive(Debug)]
pub struct Batch<F> {
    buffer: Vec<u8>,
    starts: Vec<usize>,
    family: PhantomData<F>,
}

impl<F> Default for Batch<F> {
    /// No request yet.
    fn default() -> Self {
        Self {
            buffer: Vec::new(),
            starts: Vec::new(),
            family: PhantomData,
        }
    }
}

impl<F: Family> Batch<F> {
    /// One request.
    pub fn of(kind: u16, flags: Flags, body: impl FnOnce(&mut Body<'_>)) -> Self {
        let mut batch = Self::default();
        batch.push(kind, flags, body);
        batch
    }

    /// Adds a request and returns its position, by which a refusal names it.
    pub fn push(&mut self, kind: u16, flags: Flags, body: impl FnOnce(&mut Body<'_>)) -> usize {
        let start = self.buffer.len();
        self.starts.push(start);
        let mut header = [0; HEADER];
        header[4..6].copy_from_slice(&kind.to_ne_bytes());
        header[6..8].copy_from_slice(&(flags as u16).to_ne_bytes());
        self.buffer.extend_from_slice(&header);
        // A body ends where the next header may begin: each of its parts is padded.
        body(&mut Body::new(&mut self.buffer));
        let end = self.buffer.len();
        let length = u32::try_from(end - start).unwrap_or(u32::MAX);
        self.buffer[start..start + 4].copy_from_slice(&length.to_ne_bytes());
        self.starts.len() - 1
    }

    /// Forgets every request, and keeps the room.
    pub fn clear(&mut self) {
        self.buffer.clear();
        self.starts.clear();
    }

    /// Number of requests.
    #[must_use]
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// Each request as it is before it is numbered.
    pub fn requests(&self) -> impl Iterator<Item = &[u8]> {
        let ends = (0..self.len()).map(|position| self.end(position));
        let starts = self.starts.iter();
        starts
            .zip(ends)
            .map(|(start, end)| &self.buffer[*start..end])
    }

    /// The bytes as they are before requests are numbered.
    pub fn bytes(&self) -> &[u8] {
        &self.buffer
    }

    /// Whether the first request lists everything.
    pub(super) fn is_dump(&self) -> bool {
        let flags = self.buffer.get(6..8);
        flags == Some(&(Flags::Dump as u16).to_ne_bytes())
    }

    /// Positions of the requests that go in one `sendmsg`, chunk by chunk.
    pub(super) fn chunks(&self) -> Vec<Range<usize>> {
        let mut chunks: Vec<Range<usize>> = Vec::new();
        for position in 0..self.len() {
            match chunks.last_mut() {
                Some(last)
                    if last.len() < CHUNK_REQUESTS
                        && self.end(position) - self.starts[last.start] <= CHUNK_BYTES =>
                {
                    last.end = position + 1;
                }
                _ => chunks.push(position..position + 1),
            }
        }
        chunks
    }

    /// The bytes of one chunk: numbered from `first`, and `flags` added to the last request.
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
        self.starts
            .get(position + 1)
            .copied()
            .unwrap_or(self.buffer.len())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Route;
    use super::*;

    fn batch(requests: usize, body: usize) -> Batch<Route> {
        let mut batch = Batch::default();
        for _ in 0..requests {
            batch.push(16, Flags::Plain, |b| b.raw(&vec![7; body]));
        }
        batch
    }

    #[test]
    fn a_chunk_is_bounded_in_requests_and_bytes() {
        assert_eq!(batch(300, 4).chunks(), [0..128, 128..256, 256..300]);
        assert_eq!(batch(3, 40_000).chunks(), [0..1, 1..2, 2..3]);
        assert_eq!(batch(0, 0).chunks(), []);
    }

    #[test]
    fn only_the_last_of_a_chunk_asks_for_an_ack() {
        let batch = batch(2, 4);
        let bytes = batch.encode(&(0..2), 41, ACK);
        assert_eq!(bytes.len(), 40);
        let flags = |at: usize| u16::from_ne_bytes([bytes[at + 6], bytes[at + 7]]);
        assert_eq!((flags(0), flags(20)), (1, 5));
        let sequence = |at: usize| bytes[at + 8];
        assert_eq!((sequence(0), sequence(20)), (41, 42));
    }
}
