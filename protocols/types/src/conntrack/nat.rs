//! Translation of addresses, as `conntrack -D` means it.

use std::net::IpAddr;

use super::filter::{Flow, Tuple};

/// `IPS_SRC_NAT_DONE` and `IPS_DST_NAT_DONE`: without them an answer's other address is the work
/// of somebody else, such as IPVS.
const SOURCE_DONE: u32 = 1 << 7;
const DESTINATION_DONE: u32 = 1 << 8;

/// What an end became; nothing said means any change of address or port.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Translated {
    /// Another address, and this one.
    pub address: Option<IpAddr>,
    /// Another port, and this one.
    pub port: Option<u16>,
}

/// An address and a port, of a protocol that has ports.
type End = (IpAddr, Option<u16>);

impl Translated {
    fn happened(self, (ip, port): End, (new_ip, new_port): End) -> bool {
        if self == Self::default() {
            return ip != new_ip || port != new_port;
        }
        let address = |wanted: IpAddr| ip != new_ip && new_ip == wanted;
        let its_port = |wanted: u16| port != new_port && new_port == Some(wanted);
        self.address.is_none_or(address) && self.port.is_none_or(its_port)
    }

    fn of_source(self, flow: &Flow) -> bool {
        flow.status & SOURCE_DONE != 0 && self.happened(src(&flow.orig), dst(&flow.reply))
    }

    fn of_destination(self, flow: &Flow) -> bool {
        flow.status & DESTINATION_DONE != 0 && self.happened(dst(&flow.orig), src(&flow.reply))
    }
}

fn src(tuple: &Tuple) -> End {
    (tuple.src, tuple.src_port)
}

fn dst(tuple: &Tuple) -> End {
    (tuple.dst, tuple.dst_port)
}

/// Translation that a flow must have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Nat {
    /// Of its source.
    pub source: Option<Translated>,
    /// Of its destination.
    pub destination: Option<Translated>,
    /// Of either.
    pub any: Option<Translated>,
}

impl Nat {
    pub(super) fn matches(&self, flow: &Flow) -> bool {
        self.source.is_none_or(|nat| nat.of_source(flow))
            && self.destination.is_none_or(|nat| nat.of_destination(flow))
            && self
                .any
                .is_none_or(|nat| nat.of_source(flow) || nat.of_destination(flow))
    }

    /// What is said of any of them.
    pub(super) fn said(&self) -> impl Iterator<Item = Translated> {
        [self.source, self.destination, self.any]
            .into_iter()
            .flatten()
    }
}
