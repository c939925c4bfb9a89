//! Blocking netlink sockets, request batches and attributes.
//!
//! A [`Batch`] collects encoded requests of one protocol; a [`Transport`], usually a [`Socket`], sends
//! them. Three properties of the kernel shape both (observed on Linux 6.1 and 6.18):
//!
//! - The kernel processes requests inside `sendmsg`, so a blocking socket costs nothing and an async
//!   stack would only add wakers. Callers keep these calls off the async runtime's thread.
//! - Requesting an ACK for each request overflows the receive buffer at 257 replies, and results are
//!   lost. Only the last request of a chunk asks for one; errors are reported in any case.
//! - The kernel continues after an error. A batch is not a transaction: steps that depend on each
//!   other go in separate batches, and rolling back is up to the caller.
//!
//! ```no_run
//! use patchbay_netlink::{Batch, Flags, RecvBuffer, Rtnetlink, Socket, Transport as _};
//!
//! const RTM_NEWLINK: u16 = 16;
//! let mut up = [0; 16]; // struct ifinfomsg
//! up[4..8].copy_from_slice(&1_u32.to_ne_bytes()); // ifi_index
//! up[8..12].copy_from_slice(&1_u32.to_ne_bytes()); // ifi_flags: IFF_UP
//! up[12..16].copy_from_slice(&1_u32.to_ne_bytes()); // ifi_change
//! let batch = Batch::<Rtnetlink>::of(RTM_NEWLINK, Flags::Plain, |body| body.raw(&up));
//!
//! let mut socket = Socket::open(RecvBuffer::Small)?;
//! for (position, error) in socket.send(&batch)? {
//!     eprintln!("request {position}: {error}");
//! }
//! # Ok::<(), patchbay_netlink::Error>(())
//! ```

mod attr;
mod batch;
mod error;
#[cfg(feature = "fuzzing")]
pub mod fuzz;
pub mod genl;
mod reply;
mod socket;

pub use attr::{
    AttrTable, Attribute, Attrs, Body, IntAttr, read_be16, read_be32, read_u8, read_u16, read_u32,
    read_u64,
};
pub use batch::{Batch, Flags};
pub use error::{Error, KernelError};
pub use socket::{RecvBuffer, Socket};

/// Netlink protocol as an uninhabited type: a batch can't be sent on the socket of another protocol.
pub trait NetlinkProtocol {
    /// `NETLINK_*` of `linux/netlink.h`.
    const PROTOCOL: isize;
}

macro_rules! protocols {
    ($($(#[$doc:meta])+ $name:ident = $number:ident;)+) => {$(
        $(#[$doc])+
        #[derive(Debug)]
        pub enum $name {}

        impl NetlinkProtocol for $name {
            const PROTOCOL: isize = netlink_sys::protocols::$number;
        }
    )+};
}

protocols! {
    /// Links, addresses and routes.
    Rtnetlink = NETLINK_ROUTE;
    /// Families with assigned ids, such as IPVS.
    Generic = NETLINK_GENERIC;
    /// Subsystems of netfilter, such as conntrack.
    Netfilter = NETLINK_NETFILTER;
    /// Device events; takes no requests.
    Uevent = NETLINK_KOBJECT_UEVENT;
}

/// Result of a dump with a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dump {
    /// The callback has received every reply.
    Complete,
    /// The limit was reached and there are more replies.
    Truncated,
}

/// Receiver of the payloads of a dump.
pub type Each<'a> = &'a mut dyn FnMut(&[u8]) -> Result<(), Error>;

/// Sends requests: a [`Socket`], or a fake kernel in tests.
pub trait Transport<P: NetlinkProtocol> {
    /// Sends every request of the batch and returns the kernel's errors with the positions of their
    /// requests.
    ///
    /// # Errors
    /// Fails if the transport fails. The kernel's state is then unknown and must be read again.
    fn send(&mut self, batch: &Batch<P>) -> Result<Vec<(usize, KernelError)>, Error>;

    /// Sends the single request of the batch, a dump or a get, and passes the payload of each reply
    /// to `each`.
    ///
    /// # Errors
    /// Fails if the transport fails or the kernel reports an error, and with [`Error::Interrupted`]
    /// if the table changed during the dump, so that the replies are not one consistent state.
    fn dump(&mut self, request: &Batch<P>, each: Each<'_>) -> Result<(), Error>;

    /// Like [`Transport::dump`], but stops after the first `most` replies.
    ///
    /// # Errors
    /// See [`Transport::dump`].
    fn dump_first(
        &mut self,
        request: &Batch<P>,
        most: usize,
        each: Each<'_>,
    ) -> Result<Dump, Error> {
        let (mut left, mut dump) = (most, Dump::Complete);
        self.dump(request, &mut |payload| {
            if left == 0 {
                dump = Dump::Truncated;
                return Ok(());
            }
            left -= 1;
            each(payload)
        })?;
        Ok(dump)
    }
}

/// Sends a get and parses its only reply.
///
/// # Errors
/// See [`Transport::dump`]; fails with [`Error::Malformed`] if there is no reply.
pub fn get<P: NetlinkProtocol, T>(
    transport: &mut impl Transport<P>,
    request: &Batch<P>,
    parse: impl Fn(&[u8]) -> Result<T, Error>,
) -> Result<T, Error> {
    let mut reply = None;
    transport.dump(request, &mut |payload| {
        reply = Some(parse(payload)?);
        Ok(())
    })?;
    reply.ok_or(Error::Malformed("a request has no reply"))
}

/// Maximum number of attempts to get a dump that no change of the table interrupts.
const DUMP_TRIES: usize = 16;

/// Dumps into a list; restarts if the table changes during the dump.
pub fn dump<P: NetlinkProtocol, T>(
    transport: &mut impl Transport<P>,
    request: &Batch<P>,
    mut parse: impl FnMut(&[u8]) -> Result<Option<T>, Error>,
) -> Result<Vec<T>, Error> {
    collect_dump(transport, request, |list: &mut Vec<T>, payload| {
        list.extend(parse(payload)?);
        Ok(())
    })
}

/// Dumps into a collection that `add` fills; restarts with an empty one if the table changes during
/// the dump.
pub fn collect_dump<P: NetlinkProtocol, S: Default>(
    transport: &mut impl Transport<P>,
    request: &Batch<P>,
    mut add: impl FnMut(&mut S, &[u8]) -> Result<(), Error>,
) -> Result<S, Error> {
    for _ in 0..DUMP_TRIES {
        let mut collection = S::default();
        match transport.dump(request, &mut |payload| add(&mut collection, payload)) {
            Err(Error::Interrupted) => {}
            other => return other.map(|()| collection),
        }
    }
    Err(Error::Interrupted)
}
