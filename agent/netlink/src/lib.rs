//! Netlink, for every family that the agent speaks.
//!
//! A [`Batch`] holds encoded requests; a [`Connection`] carries them out. Three facts about the kernel
//! shape both (seen on Linux 6.1 and 6.18):
//!
//! - The work is done inside `sendmsg`, so blocking sockets cost nothing and an async stack would
//!   only add wakers. Callers keep these calls off the runtime's thread.
//! - An ACK for each request overflows the receive buffer at 257 replies and outcomes are lost. So
//!   only the last request of a chunk asks for one; refusals answer by themselves.
//! - The kernel goes on after a refusal. A batch is no transaction: steps that depend on each other
//!   go in separate commits, and undoing is the caller's work.

mod attr;
mod batch;
mod error;
#[cfg(fuzzing)]
pub mod fuzz;
pub mod genl;
mod reply;
mod socket;

pub use attr::{
    AttrTable, Attribute, Attrs, Body, Number, read_be16, read_u8, read_u16, read_u32, read_u64,
};
pub use batch::{Batch, Flags};
pub use error::{Error, KernelError};
pub use socket::{RecvBuffer, Socket};

/// A netlink protocol, as a type: never constructed, so that a batch can't reach the wrong socket.
pub trait Family {
    /// `NETLINK_*` of `linux/netlink.h`.
    const PROTOCOL: isize;
}

/// `NETLINK_ROUTE`.
#[derive(Debug)]
pub enum Route {}

impl Family for Route {
    const PROTOCOL: isize = 0;
}

/// `NETLINK_GENERIC`.
#[derive(Debug)]
pub enum Generic {}

impl Family for Generic {
    const PROTOCOL: isize = 16;
}

/// `NETLINK_NETFILTER`.
#[derive(Debug)]
pub enum Netfilter {}

impl Family for Netfilter {
    const PROTOCOL: isize = 12;
}

/// `NETLINK_KOBJECT_UEVENT`: only listened to.
#[derive(Debug)]
pub enum Uevent {}

impl Family for Uevent {
    const PROTOCOL: isize = 15;
}

/// How much of a dump was handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dump {
    /// All of it.
    Complete,
    /// As much as was wanted, and there is more.
    Truncated,
}

/// What carries requests out: the real kernel, or a script in tests.
pub trait Connection<F: Family> {
    /// Carries out every request of the batch and returns the refusals with their positions.
    ///
    /// # Errors
    /// When the transport failed; what was done is then unknown and has to be read back.
    fn send(&mut self, batch: &Batch<F>) -> Result<Vec<(usize, KernelError)>, Error>;

    /// Sends the one request of the batch, a dump or a get, and hands over each answer's payload.
    ///
    /// # Errors
    /// The transport's, the kernel's refusal, or [`Error::Interrupted`] when the tables changed
    /// meanwhile and what was handed over is not one consistent state.
    fn dump(
        &mut self,
        request: &Batch<F>,
        each: &mut dyn FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error>;

    /// The same of a dump, of which only the first `most` answers are wanted.
    ///
    /// # Errors
    /// As those of [`Kernel::ask`].
    fn dump_first(
        &mut self,
        request: &Batch<F>,
        most: usize,
        each: &mut dyn FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<Dump, Error> {
        let (mut left, mut extent) = (most, Dump::Complete);
        self.dump(request, &mut |payload| {
            if left == 0 {
                extent = Dump::Truncated;
                return Ok(());
            }
            left -= 1;
            each(payload)
        })?;
        Ok(extent)
    }
}

/// How often a dump that was interrupted is begun again.
const DUMP_TRIES: usize = 16;

/// RecvBuffer into a list; begins again when the tables changed meanwhile.
pub fn dump<F: Family, K: Connection<F>, T>(
    kernel: &mut K,
    request: &Batch<F>,
    mut parse: impl FnMut(&[u8]) -> Result<Option<T>, Error>,
) -> Result<Vec<T>, Error> {
    collect_dump(kernel, request, |found: &mut Vec<T>, payload| {
        found.extend(parse(payload)?);
        Ok(())
    })
}

/// RecvBuffer into whatever `take` makes of the answers; begins again when the tables changed meanwhile.
pub fn collect_dump<F: Family, K: Connection<F>, S: Default>(
    kernel: &mut K,
    request: &Batch<F>,
    mut take: impl FnMut(&mut S, &[u8]) -> Result<(), Error>,
) -> Result<S, Error> {
    for _ in 0..DUMP_TRIES {
        let mut found = S::default();
        match kernel.dump(request, &mut |payload| take(&mut found, payload)) {
            Err(Error::Interrupted) => {}
            other => return other.map(|()| found),
        }
    }
    Err(Error::Interrupted)
}
