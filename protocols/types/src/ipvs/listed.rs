//! What the kernel says of itself.

use std::net::IpAddr;

use super::{Daemon, Server, Service, Timeouts};

/// Counters of a service or server, and their rates per second, all 64 bits wide.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Connections, packets in and out, bytes in and out.
    pub counters: [u64; 5],
    /// The same per second.
    pub rates: [u64; 5],
}

/// A service, and what it did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedService {
    /// What it is.
    pub service: Service,
    /// What it did.
    pub stats: Stats,
    /// In the kernel's order.
    pub servers: Vec<ListedServer>,
}

/// A server, and what it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedServer {
    /// What it is.
    pub server: Server,
    /// Connections now.
    pub active: u32,
    /// Connections that are ending or idle.
    pub inactive: u32,
    /// Persistence templates.
    pub persistent: u32,
    /// What it did.
    pub stats: Stats,
}

/// How much of a table is asked for: counters take the kernel ten times as long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Services and their servers, with their connections now.
    Rules,
    /// Counters and rates too.
    Full,
}

/// IPVS as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// `NVERSION(major, minor, patch)`: one byte each.
    pub version: u32,
    /// Buckets of the connection table.
    pub table_size: u32,
    /// Global timeouts.
    pub timeouts: Timeouts,
    /// Daemons that run, the master first.
    pub daemons: Vec<Daemon>,
}

/// One end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Address.
    pub address: IpAddr,
    /// Port.
    pub port: u16,
}

/// A row of the connection table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// The protocol as `/proc/net/ip_vs_conn` names it: at most 3 characters.
    pub protocol: String,
    /// Client.
    pub client: Peer,
    /// Virtual service.
    pub virtual_end: Peer,
    /// Server.
    pub server: Peer,
    /// At most 11 characters.
    pub state: String,
    /// Seconds until it is forgotten.
    pub expires: u32,
    /// Name and data of the persistence engine.
    pub engine: Option<(String, String)>,
}
