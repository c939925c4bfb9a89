//! IPVS state as the kernel reports it.

use std::net::IpAddr;

use super::{Daemon, Server, Service, Timeouts};

/// Counters of a service or server, and their rates per second, 64 bits each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Connections, packets in and out, bytes in and out.
    pub counters: [u64; 5],
    /// The same counters per second.
    pub rates: [u64; 5],
}

/// Service with its counters and servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedService {
    /// Configuration.
    pub service: Service,
    /// Counters and rates.
    pub stats: Stats,
    /// Servers in the kernel's order.
    pub servers: Vec<ListedServer>,
}

/// Server with its connections and counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedServer {
    /// Configuration.
    pub server: Server,
    /// Active connections.
    pub active: u32,
    /// Connections that are ending or idle.
    pub inactive: u32,
    /// Persistence templates.
    pub persistent: u32,
    /// Counters and rates.
    pub stats: Stats,
}

/// Detail of a table. Counters take the kernel ten times as long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Services and servers with their numbers of connections. Thresholds and persistence templates are 0
    /// where the kernel needs longer for them.
    Brief,
    /// All but counters and rates.
    Rules,
    /// Everything.
    Full,
}

/// Global state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// `NVERSION(major, minor, patch)`, a byte each.
    pub version: u32,
    /// Number of buckets of the connection table.
    pub table_size: u32,
    /// Global timeouts.
    pub timeouts: Timeouts,
    /// Running sync daemons, the master first.
    pub daemons: Vec<Daemon>,
}

/// Address and port of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Address.
    pub address: IpAddr,
    /// Port.
    pub port: u16,
}

/// Row of the connection table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// Protocol as in `/proc/net/ip_vs_conn`, at most 3 characters.
    pub protocol: String,
    /// Client.
    pub client: Peer,
    /// Virtual service.
    pub virtual_end: Peer,
    /// Server.
    pub server: Peer,
    /// State, at most 11 characters.
    pub state: String,
    /// Seconds until it expires.
    pub expires: u32,
    /// Name and data of the persistence engine.
    pub engine: Option<(String, String)>,
}
