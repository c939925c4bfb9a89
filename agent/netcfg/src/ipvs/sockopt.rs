//! Servers of IPv4 services, over the socket options that precede netlink (`linux/ip_vs.h`).
//!
//! A single call returns all servers of a service in a fifth of the time of a netlink dump. The
//! interface has no IPv6, no tunnel attributes and no counters of 64 bits.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use patchbay_types::ipvs::{
    Family, Forward, ListedServer, NonNegativeInt, Protocol, Server, ServerId, ServiceId, Stats,
};

use super::consts::FWD_MASK;

/// `IP_VS_SO_GET_*`.
const GET_INFO: libc::c_int = 64 + 1024 + 64 + 1;
const GET_SERVICES: libc::c_int = GET_INFO + 1;
const GET_DESTS: libc::c_int = GET_INFO + 3;

/// Size of `ip_vs_getinfo`: version u32, size of connection table u32, number of IPv4 services u32.
const INFO: usize = 12;
/// Size of the header of `ip_vs_get_services`: number of entries u32, padding.
const SERVICES: usize = 8;
/// Size of `ip_vs_service_entry`: protocol u16, padding, address, port, mark u32, scheduler [u8; 16],
/// flags u32, timeout u32, netmask, number of servers u32, counters.
const SERVICE: usize = 104;
/// Size of the fields that identify a service, in its entry and in `ip_vs_get_dests`.
const SERVICE_ID: usize = 16;
/// Offset of the number of servers.
const SERVER_COUNT: usize = 44;
/// Size of the header of `ip_vs_get_dests`: service, number of entries u32, padding.
const SERVERS: usize = 24;
/// Size of `ip_vs_dest_entry`: address, port and padding, flags u32, weight, thresholds u32 x 2,
/// active, inactive and persistent connections u32, counters.
const SERVER: usize = 96;

/// Number of services that can be added between the calls for their number and for the list.
const SPARE_ENTRIES: usize = 16;
/// Maximum size of a buffer; the kernel allows a length of 31 bits.
const MAX_LIST_BYTES: usize = 1 << 30;

/// Cursor over the servers of all IPv4 services, in the order in which netlink lists the services.
#[derive(Debug)]
pub struct SockoptLists {
    socket: OwnedFd,
    services: Vec<u8>,
    next: usize,
    buffer: Vec<u8>,
    servers: Vec<ListedServer>,
}

impl SockoptLists {
    /// Lists the services and starts before the first.
    ///
    /// # Errors
    /// Fails if the kernel has no IPVS or doesn't have these socket options.
    pub fn open() -> io::Result<Self> {
        let kind = SockType::Datagram;
        let socket = socket(AddressFamily::Inet, kind, SockFlag::SOCK_CLOEXEC, None)?;
        let mut lists = Self {
            socket,
            services: Vec::new(),
            next: SERVICES,
            buffer: Vec::new(),
            servers: Vec::new(),
        };
        let mut info = vec![0; INFO];
        get(&lists.socket, GET_INFO, &mut info)?;
        let count = usize::try_from(read_u32(&info, 8)).unwrap_or(usize::MAX);
        let room = count
            .saturating_add(SPARE_ENTRIES)
            .min(MAX_LIST_BYTES / SERVICE);
        lists.services = vec![0; SERVICES + room * SERVICE];
        let room = u32::try_from(room).unwrap_or_default();
        lists.services[..4].copy_from_slice(&room.to_ne_bytes());
        get(&lists.socket, GET_SERVICES, &mut lists.services)?;
        Ok(lists)
    }

    /// Returns the servers of the next service if it is service `id` and the interface can represent
    /// them all. `None` also if the table has changed since the services were listed.
    pub fn of(&mut self, id: ServiceId) -> Option<&[ListedServer]> {
        let entry = self.services.get(self.next..self.next + SERVICE)?;
        if service(entry) != Some(id) {
            return None;
        }
        let count = read_u32(entry, SERVER_COUNT);
        let mut servers = std::mem::take(&mut self.servers);
        servers.clear();
        let (entries, _) = self.dump()?.as_chunks::<SERVER>();
        // The rest of the buffer stays zero. Servers of the other family are missing.
        for entry in entries.iter().take_while(|entry| entry[..4] != [0; 4]) {
            servers.push(server(entry)?);
        }
        self.servers = servers;
        (self.servers.len() as u64 == u64::from(count)).then_some(&self.servers)
    }

    /// Advances to the next service and returns its servers as `ip_vs_dest_entry`. The buffer has
    /// room for one more server than expected, so that an added one is noticed.
    pub fn dump(&mut self) -> Option<&[u8]> {
        let entry = self.services.get(self.next..self.next + SERVICE)?;
        self.next += SERVICE;
        let room = read_u32(entry, SERVER_COUNT).checked_add(1)?;
        let size = usize::try_from(room).ok()?.checked_mul(SERVER)?;
        if size > MAX_LIST_BYTES {
            return None;
        }
        self.buffer.clear();
        self.buffer.extend_from_slice(&entry[..SERVICE_ID]);
        self.buffer.extend_from_slice(&room.to_ne_bytes());
        self.buffer.resize(SERVERS + size, 0);
        get(&self.socket, GET_DESTS, &mut self.buffer).ok()?;
        self.buffer.get(SERVERS..)
    }
}

/// Reads a socket option into the buffer, whose header holds the number of entries that fit.
fn get(socket: &OwnedFd, option: libc::c_int, buffer: &mut [u8]) -> io::Result<()> {
    let mut length = libc::socklen_t::try_from(buffer.len()).map_err(io::Error::other)?;
    #[expect(unsafe_code, reason = "getsockopt with options of IPVS")]
    // SAFETY: `length` is the size of the buffer, in which any bytes are valid.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            option,
            buffer.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Reads a u32 in host order; 0 if the entry is too short.
fn read_u32(entry: &[u8], at: usize) -> u32 {
    let bytes = entry.get(at..).and_then(<[u8]>::first_chunk);
    bytes.map_or(0, |bytes| u32::from_ne_bytes(*bytes))
}

/// Reads an IPv4 address and the port after it.
fn endpoint(entry: &[u8], address: usize) -> Option<(IpAddr, u16)> {
    let octets: [u8; 4] = *entry.get(address..)?.first_chunk()?;
    let port: [u8; 2] = *entry.get(address + 4..)?.first_chunk()?;
    Some((Ipv4Addr::from(octets).into(), u16::from_be_bytes(port)))
}

fn service(entry: &[u8]) -> Option<ServiceId> {
    if let Some(mark) = NonZeroU32::new(read_u32(entry, 12)) {
        let family = Family::V4;
        return Some(ServiceId::Mark { mark, family });
    }
    let protocol = u16::from_ne_bytes(*entry.first_chunk()?);
    let (address, port) = endpoint(entry, 4)?;
    Some(ServiceId::Address {
        protocol: Protocol::try_from(u32::from(protocol)).ok()?,
        address,
        port,
    })
}

fn server(entry: &[u8; SERVER]) -> Option<ListedServer> {
    let count = |at| NonNegativeInt::try_from(read_u32(entry, at)).ok();
    let (address, port) = endpoint(entry, 0)?;
    // Fails for a tunnel, whose attributes are missing here.
    let forward = Forward::plain(read_u32(entry, 8) & FWD_MASK).ok()?;
    let mut server = Server::new(ServerId { address, port }, forward);
    server.weight = count(12)?;
    server.upper = count(16)?;
    server.lower = count(20)?;
    Some(ListedServer {
        server,
        active: read_u32(entry, 24),
        inactive: read_u32(entry, 28),
        persistent: read_u32(entry, 32),
        stats: Stats::default(),
    })
}

/// Decodes bytes as a service and as a server.
#[cfg(feature = "fuzzing")]
pub(crate) fn entries(bytes: &[u8]) -> (Option<ServiceId>, Option<ListedServer>) {
    (service(bytes), bytes.first_chunk().and_then(server))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pads an entry with zeros.
    fn entry(hex: &str, length: usize) -> Vec<u8> {
        let digits: String = hex.split_whitespace().collect();
        let mut bytes = hex::decode(digits).unwrap();
        bytes.resize(length, 0);
        bytes
    }

    #[test]
    fn read_entries_of_linux_6_1() {
        // 10.0.0.1:80 tcp rr with two servers; mark 12 wrr.
        let by_address = entry(
            "06000000 0a000001 00500000 00000000 72720000 00000000 00000000 00000000
             02000000 00000000 ffffffff 02000000",
            SERVICE,
        );
        let id = service(&by_address).unwrap();
        assert_eq!(id.to_string(), "-t 10.0.0.1:80");
        assert_eq!(read_u32(&by_address, SERVER_COUNT), 2);
        let by_mark = entry("00000000 00000000 00000000 0c000000", SERVICE);
        let mark = NonZeroU32::new(12).unwrap();
        let family = Family::V4;
        assert_eq!(service(&by_mark), Some(ServiceId::Mark { mark, family }));
        assert_eq!(service(&[0; SERVICE]), None, "after the last");
        // 10.0.0.12:8080, masquerading, weight 70000, thresholds 9 and 5, 2 active, 31 inactive.
        let entry = entry(
            "0a00000c 1f900000 00010000 70110100 09000000 05000000 02000000 1f000000 01000000",
            SERVER,
        );
        let listed = server(entry.first_chunk().unwrap()).unwrap();
        assert_eq!(listed.server.id.to_string(), "10.0.0.12:8080");
        assert_eq!(listed.server.forward, Forward::Masquerade);
        let counts = [
            listed.server.weight,
            listed.server.upper,
            listed.server.lower,
        ];
        assert_eq!(counts.map(NonNegativeInt::get), [70000, 9, 5]);
        let connections = (listed.active, listed.inactive, listed.persistent);
        assert_eq!(connections, (2, 31, 1));
    }

    #[test]
    fn read_tunnel_is_none() {
        let entry = entry("0a00000c 1f900000 02000000 01000000", SERVER);
        assert_eq!(server(entry.first_chunk().unwrap()), None);
    }

    proptest::proptest! {
        #[test]
        fn decode_of_any_entry_terminates(bytes: Vec<u8>) {
            let _ = (service(&bytes), read_u32(&bytes, SERVER_COUNT));
        }
    }
}
