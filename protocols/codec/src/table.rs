//! Rows of the IPVS table: services, each followed by its servers.

use super::reader::{put_number, strange};
use super::{Packed, Reader};
use patchbay_types::FieldError;
use patchbay_types::ipvs::{ListedServer, ListedService, Server, Service, Stats};

const SERVICE: u8 = 1;
const SERVER: u8 = 2;

/// Number of counters and rates.
const NUMBERS: usize = 10;

/// Row of the IPVS table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TableRow {
    /// Service, without its servers; they follow.
    Service(ListedService),
    /// Server of the preceding service.
    Server(ListedServer),
}

/// Borrowed row.
#[derive(Debug, Clone, Copy)]
pub enum TableRowRef<'a> {
    /// Service, without its servers; they follow.
    Service(&'a Service, &'a Stats),
    /// Server of the preceding service.
    Server(&'a ListedServer),
}

impl TableRowRef<'_> {
    /// Appends the encoded row.
    pub fn pack(self, out: &mut Vec<u8>) {
        match self {
            Self::Service(service, counted) => {
                out.push(SERVICE);
                service.pack(out);
                counted.pack(out);
            }
            Self::Server(listed) => {
                out.push(SERVER);
                listed.server.pack(out);
                for count in [listed.active, listed.inactive, listed.persistent] {
                    put_number(out, count);
                }
                listed.stats.pack(out);
            }
        }
    }
}

impl TableRow {
    /// Decodes a row from the front.
    ///
    /// # Errors
    /// Those of [`Packed::unpack`].
    pub fn unpack(reader: &mut Reader<'_>) -> Result<Self, FieldError> {
        match reader.byte("row")? {
            SERVICE => Ok(Self::Service(ListedService {
                service: Service::unpack(reader)?,
                stats: Stats::unpack(reader)?,
                servers: Vec::new(),
            })),
            SERVER => Ok(Self::Server(ListedServer {
                server: Server::unpack(reader)?,
                active: reader.u32("active")?,
                inactive: reader.u32("inactive")?,
                persistent: reader.u32("persistent")?,
                stats: Stats::unpack(reader)?,
            })),
            number => Err(strange(number, "a row is a service or a server", "row")),
        }
    }
}

/// A bit per number that is not 0, then these numbers.
impl Packed for Stats {
    fn pack(&self, out: &mut Vec<u8>) {
        let numbers = || self.counters.iter().chain(&self.rates);
        let bit = |(index, number): (usize, &u64)| u16::from(*number != 0) << index;
        let bits = numbers().enumerate().map(bit).sum::<u16>();
        put_number(out, bits);
        for number in numbers().filter(|number| **number != 0) {
            put_number(out, *number);
        }
    }

    fn unpack(reader: &mut Reader<'_>) -> Result<Self, FieldError> {
        let mut stats = Self::default();
        let bits = reader.u32("stats")?;
        if bits >> NUMBERS != 0 {
            return Err(strange(bits, "there are 10 numbers", "stats"));
        }
        let numbers = stats.counters.iter_mut().chain(&mut stats.rates);
        for (index, number) in numbers.enumerate() {
            if bits >> index & 1 == 1 {
                *number = reader.u64("stats")?;
            }
        }
        Ok(stats)
    }
}
