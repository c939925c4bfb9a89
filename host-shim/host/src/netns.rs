//! Network namespaces of the host and the links in them, over rtnetlink.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread;

use netlink_packet_core::{
    DecodeError, DefaultNla, NLM_F_ACK, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader,
    NetlinkMessage, NetlinkPayload, NlasIterator,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use nix::sched::{CloneFlags, setns};
use nix::sys::statfs::{FsType, fstatfs};
use patchbay_types::LinkName;
use patchbay_types::failure::{Failure, Kind};
use serde::{Deserialize, Serialize};

/// `NSFS_MAGIC` of `linux/magic.h`.
const NSFS_MAGIC: FsType = FsType(0x6e73_6673);

/// MTU and administrative state of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HostLinkState {
    /// Bytes.
    pub(crate) mtu: u32,
    /// Whether the link is set up.
    pub(crate) up: bool,
}

/// Link in a network namespace.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HostLink {
    pub(crate) index: u32,
    pub(crate) state: HostLinkState,
    pub(crate) is_tap: bool,
    /// Whether a process has the TAP open. Only rtnetlink reports that of a TAP that is down:
    /// `ETHTOOL_GLINK` always denies it, and `IFF_RUNNING` lags up to a second.
    pub(crate) has_carrier: bool,
}

/// Network namespace with an rtnetlink socket inside.
#[derive(Debug)]
pub(crate) struct Namespace {
    /// `None`: the caller's.
    file: Option<File>,
    /// A netlink socket stays in the namespace in which it was created.
    socket: Socket,
}

impl Namespace {
    /// Opens the namespace at this path, or the caller's.
    ///
    /// # Errors
    /// A path that is not a network namespace, or can't be entered.
    pub(crate) fn open(path: Option<&Path>) -> Result<Self, Failure> {
        let file = path.map(open_nsfs).transpose()?;
        let connect = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            // The kernel queues its reply before `send` returns, so there is nothing to wait for.
            socket.set_non_blocking(true)?;
            Ok(socket)
        };
        match run_in(file.as_ref(), connect) {
            Ok(socket) => Ok(Self { file, socket }),
            Err(error) => Err(unusable(
                path.unwrap_or(Path::new("/proc/self/ns/net")),
                &error,
            )),
        }
    }

    /// Runs `work` inside the namespace.
    pub(crate) fn run<T: Send>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send,
    ) -> io::Result<T> {
        run_in(self.file.as_ref(), work)
    }

    /// Reads the link with this index; `None` if there is none.
    pub(crate) fn link_at(&self, index: u32) -> io::Result<Option<HostLink>> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        self.get(message)
    }

    /// Reads a link; `None` if there is none of this name.
    pub(crate) fn link(&self, name: &LinkName) -> io::Result<Option<HostLink>> {
        let mut message = LinkMessage::default();
        // `LinkAttribute::IfName` allows only UTF-8.
        let name = DefaultNla::new(libc::IFLA_IFNAME, [name.as_bytes(), &[0]].concat());
        message.attributes.push(LinkAttribute::Other(name));
        self.get(message)
    }

    fn get(&self, message: LinkMessage) -> io::Result<Option<HostLink>> {
        match self.request(RouteNetlinkMessage::GetLink(message), 0) {
            Ok(Some(link)) => Ok(Some(link)),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Ok(None) => Err(io::Error::other("the kernel's reply is not a link")),
            Err(error) => Err(error),
        }
    }

    /// Sets the MTU and the administrative state of a link where they differ.
    pub(crate) fn set_link(&self, link: HostLink, to: HostLinkState) -> io::Result<()> {
        if link.state == to {
            return Ok(());
        }
        let mut message = LinkMessage::default();
        message.header.index = link.index;
        if link.state.mtu != to.mtu {
            message.attributes.push(LinkAttribute::Mtu(to.mtu));
        }
        if link.state.up != to.up {
            message.header.change_mask = LinkFlags::Up;
            message.header.flags.set(LinkFlags::Up, to.up);
        }
        let set = RouteNetlinkMessage::SetLink(message);
        self.request(set, NLM_F_ACK)?;
        // Since 6.8 Linux handles a pending change of the carrier when a link is read. Otherwise that can
        // take a second, in which a bridge doesn't forward to the link.
        match self.link_at(link.index)? {
            Some(link) if link.state == to => Ok(()),
            _ => Err(io::Error::other("another process has changed the link")),
        }
    }

    /// Sends a request and returns the link in the reply; `None` for an acknowledgement.
    fn request(&self, message: RouteNetlinkMessage, flags: u16) -> io::Result<Option<HostLink>> {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        let mut request = NetlinkMessage::new(header, message.into());
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send_to(&bytes, &SocketAddr::new(0, 0), 0)?;
        let (reply, _) = self.socket.recv_from_full()?;
        let reply = NetlinkMessage::<HostLink>::deserialize(&reply);
        match reply.map_err(io::Error::other)?.payload {
            NetlinkPayload::InnerMessage(link) => Ok(Some(link)),
            NetlinkPayload::Error(ack) if ack.code.is_none() => Ok(None),
            NetlinkPayload::Error(error) => Err(error.to_io()),
            _ => Err(io::Error::other("the kernel's reply is of an unknown type")),
        }
    }
}

/// Size of `ifinfomsg`: family u8, padding, device type u16, index u32, flags u32, change mask u32.
const IFINFOMSG: usize = 16;

/// Reads only the attributes of [`HostLink`]: `netlink-packet-route` rejects links whose name or alias
/// is not UTF-8.
impl NetlinkDeserializable for HostLink {
    type Error = DecodeError;

    fn deserialize(_: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        let short = || DecodeError::from("a link is shorter than its header");
        let (header, attributes) = payload.split_first_chunk().ok_or_else(short)?;
        let [_, _, t0, t1, i0, i1, i2, i3, flags @ .., _, _, _, _]: &[u8; IFINFOMSG] = header;
        let (mut mtu, mut is_tun, mut has_carrier) = (0, false, false);
        for attribute in NlasIterator::new(attributes) {
            let attribute = attribute?;
            match (attribute.kind(), attribute.value()) {
                (libc::IFLA_MTU, value) => {
                    let bytes = value.first_chunk().copied().ok_or_else(short)?;
                    mtu = u32::from_ne_bytes(bytes);
                }
                (libc::IFLA_CARRIER, value) => has_carrier = value == [1],
                (libc::IFLA_LINKINFO, value) => {
                    let mut infos = NlasIterator::new(value).filter_map(Result::ok);
                    is_tun = infos.any(|info| {
                        info.kind() == libc::IFLA_INFO_KIND && info.value().starts_with(b"tun\0")
                    });
                }
                _ => {}
            }
        }
        let is_ether = u16::from_ne_bytes([*t0, *t1]) == libc::ARPHRD_ETHER;
        Ok(Self {
            index: u32::from_ne_bytes([*i0, *i1, *i2, *i3]),
            state: HostLinkState {
                mtu,
                up: LinkFlags::from_bits_retain(u32::from_ne_bytes(*flags)).contains(LinkFlags::Up),
            },
            // TUN and TAP devices have the same kind; only a TAP carries Ethernet.
            is_tap: is_tun && is_ether,
            has_carrier,
        })
    }
}

/// Opens the file of a network namespace.
///
/// # Errors
/// A path that can't be opened or is not a namespace.
pub(crate) fn open_nsfs(path: &Path) -> Result<File, Failure> {
    // Opening a FIFO must not block.
    let mut options = File::options();
    let options = options.read(true).custom_flags(libc::O_NONBLOCK);
    let open = || -> io::Result<(File, FsType)> {
        let file = options.open(path)?;
        let kind = fstatfs(&file)?.filesystem_type();
        Ok((file, kind))
    };
    match open() {
        Ok((file, NSFS_MAGIC)) => Ok(file),
        Ok(_) => {
            let message = format!("{} is not a network namespace", path.display());
            Err(Failure::new(Kind::Invalid, message))
        }
        Err(error) => Err(unusable(path, &error)),
    }
}

fn unusable(path: &Path, error: &io::Error) -> Failure {
    let message = format!("could not enter the network namespace {}", path.display());
    Failure::of_io(message, error)
}

/// Runs `work` in the namespace, on a thread that ends with it: `setns` moves the calling thread, and
/// returning from the namespace could fail.
fn run_in<T: Send>(
    namespace: Option<&File>,
    work: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    let Some(file) = namespace else {
        return work();
    };
    let enter_and_work = || {
        setns(file, CloneFlags::CLONE_NEWNET)?;
        work()
    };
    let done = thread::scope(|scope| scope.spawn(enter_and_work).join());
    done.unwrap_or_else(|_| {
        Err(io::Error::other(
            "internal error: the namespace thread panicked",
        ))
    })
}
