//! Criteria for address translation, as in `conntrack -D`.

use std::net::IpAddr;

use super::filter::{Flow, Tuple};

/// `IPS_SRC_NAT_DONE` and `IPS_DST_NAT_DONE`. Without them, a different address in the reply comes
/// from something else, such as IPVS.
const SOURCE_DONE: u32 = 1 << 7;
const DESTINATION_DONE: u32 = 1 << 8;

/// Criteria for a translated end. Without any, every change of address or port matches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Translated {
    /// New address.
    pub address: Option<IpAddr>,
    /// New port.
    pub port: Option<u16>,
}

/// Address and optional port.
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

/// Criteria for the translation of a flow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Nat {
    /// Translation of the source.
    pub source: Option<Translated>,
    /// Translation of the destination.
    pub destination: Option<Translated>,
    /// Translation of either.
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

    /// Returns the criteria that are set.
    pub(super) fn said(&self) -> impl Iterator<Item = Translated> {
        [self.source, self.destination, self.any]
            .into_iter()
            .flatten()
    }
}
