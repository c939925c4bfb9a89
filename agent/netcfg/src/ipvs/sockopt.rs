//! The servers of IPv4 services by IPVS's older interface, socket options (`linux/ip_vs.h`).
//!
//! One call answers for a service with all its servers, thresholds too, in a fifth of the time of a
//! dump by netlink. It knows nothing of IPv6, tunnels' details and counters of 64 bits: netlink
//! tells those.

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

/// `ip_vs_getinfo`: version u32, size of the connection table u32, number of IPv4 services u32.
const INFO: usize = 12;
/// `ip_vs_get_services`: their number u32, padding, then each.
const SERVICES: usize = 8;
/// `ip_vs_service_entry`: protocol u16, padding, address, port, mark u32, name of the scheduler [16],
/// flags u32, timeout u32, netmask, number of servers u32, and counters.
const SERVICE: usize = 104;
/// What names the service in it, and before its servers.
const WHICH: usize = 16;
/// Where it says how many it has.
const SERVERS_OF: usize = 44;
/// `ip_vs_get_dests`: which, number of servers u32, padding, then each.
const SERVERS: usize = 24;
/// `ip_vs_dest_entry`: address, port and padding, flags u32, weight, upper and lower threshold,
/// active, inactive and persistent connections u32, and counters.
const SERVER: usize = 96;

/// Room for what comes between a question for the size of a list and the list.
const MORE: usize = 16;
/// Most services of one list, in bytes: the kernel takes a length of 31 bits.
const MAX_LIST: usize = 1 << 30;

/// The servers of every IPv4 service, in the order in which netlink lists services too: read beside
/// such a list they need no lookup.
#[derive(Debug)]
pub struct OldLists {
    socket: OwnedFd,
    /// Those that are not asked for yet.
    services: Vec<u8>,
    next: usize,
    buffer: Vec<u8>,
    servers: Vec<ListedServer>,
}

impl OldLists {
    /// Begins with the first service.
    ///
    /// # Errors
    /// The kernel has no such interface, or no IPVS.
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
        let count = usize::try_from(number(&info, 8)).unwrap_or(usize::MAX);
        let room = count.saturating_add(MORE).min(MAX_LIST / SERVICE);
        lists.services = vec![0; SERVICES + room * SERVICE];
        let room = u32::try_from(room).unwrap_or_default();
        lists.services[..4].copy_from_slice(&room.to_ne_bytes());
        get(&lists.socket, GET_SERVICES, &mut lists.services)?;
        Ok(lists)
    }

    /// The servers of the next IPv4 service, if it is this one and all is told of them. After a
    /// change of the table meanwhile the next one is another, or has other servers.
    pub fn of(&mut self, id: ServiceId) -> Option<&[ListedServer]> {
        let entry = self.services.get(self.next..self.next + SERVICE)?;
        if service(entry) != Some(id) {
            return None;
        }
        let count = number(entry, SERVERS_OF);
        let mut servers = std::mem::take(&mut self.servers);
        servers.clear();
        let (entries, _) = self.dump()?.as_chunks::<SERVER>();
        // Behind the last one all is zero; a server of the other family is not told.
        for entry in entries.iter().take_while(|entry| entry[..4] != [0; 4]) {
            servers.push(server(entry)?);
        }
        self.servers = servers;
        (self.servers.len() as u64 == u64::from(count)).then_some(&self.servers)
    }

    /// Goes on to the next service, and asks for its servers and one more: their entries as the
    /// kernel has them.
    pub fn dump(&mut self) -> Option<&[u8]> {
        let entry = self.services.get(self.next..self.next + SERVICE)?;
        self.next += SERVICE;
        let room = number(entry, SERVERS_OF).checked_add(1)?;
        let size = usize::try_from(room).ok()?.checked_mul(SERVER)?;
        if size > MAX_LIST {
            return None;
        }
        self.buffer.clear();
        self.buffer.extend_from_slice(&entry[..WHICH]);
        self.buffer.extend_from_slice(&room.to_ne_bytes());
        self.buffer.resize(SERVERS + size, 0);
        get(&self.socket, GET_DESTS, &mut self.buffer).ok()?;
        self.buffer.get(SERVERS..)
    }
}

/// Reads an option into the whole buffer, which says how much room there is.
fn get(socket: &OwnedFd, option: libc::c_int, buffer: &mut [u8]) -> io::Result<()> {
    let mut length = libc::socklen_t::try_from(buffer.len()).map_err(io::Error::other)?;
    #[allow(unsafe_code)]
    // SAFETY: the buffer is as long as the length says, and any bytes are valid in it.
    let done = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            option,
            buffer.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    match done {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A number in host order at this place; 0 where the entry is too short.
fn number(entry: &[u8], at: usize) -> u32 {
    let bytes = entry.get(at..).and_then(<[u8]>::first_chunk);
    bytes.map_or(0, |bytes| u32::from_ne_bytes(*bytes))
}

/// A port in network order at this place, and an address before it.
fn end(entry: &[u8], address: usize) -> Option<(IpAddr, u16)> {
    let octets: [u8; 4] = *entry.get(address..)?.first_chunk()?;
    let port: [u8; 2] = *entry.get(address + 4..)?.first_chunk()?;
    Some((Ipv4Addr::from(octets).into(), u16::from_be_bytes(port)))
}

fn service(entry: &[u8]) -> Option<ServiceId> {
    if let Some(mark) = NonZeroU32::new(number(entry, 12)) {
        let family = Family::V4;
        return Some(ServiceId::Mark { mark, family });
    }
    let protocol = u16::from_ne_bytes(*entry.first_chunk()?);
    let (address, port) = end(entry, 4)?;
    Some(ServiceId::Address {
        protocol: Protocol::try_from(u32::from(protocol)).ok()?,
        address,
        port,
    })
}

fn server(entry: &[u8; SERVER]) -> Option<ListedServer> {
    let count = |at| NonNegativeInt::try_from(number(entry, at)).ok();
    let (address, port) = end(entry, 0)?;
    Some(ListedServer {
        server: Server {
            id: ServerId { address, port },
            // A tunnel's details are not told.
            forward: Forward::plain(number(entry, 8) & FWD_MASK).ok()?,
            weight: count(12)?,
            upper: count(16)?,
            lower: count(20)?,
        },
        active: number(entry, 24),
        inactive: number(entry, 28),
        persistent: number(entry, 32),
        stats: Stats::default(),
    })
}

/// For fuzzing: these bytes as a service and as a server.
#[cfg(fuzzing)]
pub(crate) fn entries(bytes: &[u8]) -> (Option<ServiceId>, Option<ListedServer>) {
    (service(bytes), bytes.first_chunk().and_then(server))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With the zeros behind it.
    fn entry(hex: &str, length: usize) -> Vec<u8> {
        let digits: String = hex.split_whitespace().collect();
        let mut bytes = hex::decode(digits).unwrap();
        bytes.resize(length, 0);
        bytes
    }

    #[test]
    fn entries_of_linux_6_1_are_read() {
        // 10.0.0.1:80 tcp rr with two servers; mark 12 wrr.
        let by_address = entry(
            "06000000 0a000001 00500000 00000000 72720000 00000000 00000000 00000000
             02000000 00000000 ffffffff 02000000",
            SERVICE,
        );
        let id = service(&by_address).unwrap();
        assert_eq!(id.to_string(), "-t 10.0.0.1:80");
        assert_eq!(number(&by_address, SERVERS_OF), 2);
        let by_mark = entry("00000000 00000000 00000000 0c000000", SERVICE);
        let mark = NonZeroU32::new(12).unwrap();
        let family = Family::V4;
        assert_eq!(service(&by_mark), Some(ServiceId::Mark { mark, family }));
        assert_eq!(service(&[0; SERVICE]), None, "behind the last");
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
    fn a_tunnel_is_left_to_netlink() {
        let entry = entry("0a00000c 1f900000 02000000 01000000", SERVER);
        assert_eq!(server(entry.first_chunk().unwrap()), None);
    }

    proptest::proptest! {
        #[test]
        fn any_entry_ends(bytes: Vec<u8>) {
            let _ = (service(&bytes), number(&bytes, SERVERS_OF));
        }
    }
}
