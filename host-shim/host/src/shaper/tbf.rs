//! Qdisc `tbf` at the root of a link, which limits the frames that the host sends through it.
//!
//! The command of `tc` is
//!
//! ```text
//! tc qdisc replace dev LINK root handle 7062: tbf rate RATE burst BURST limit LIMIT
//! ```

use std::io;

use netlink_packet_core::{
    DecodeError, DefaultNla, NLM_F_CREATE, NLM_F_REPLACE, NetlinkDeserializable, NetlinkHeader,
    NlasIterator,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{TcAttribute, TcHandle, TcHeader, TcMessage, TcOption};

use crate::limit::RateLimit;
use crate::mirror::wire::change;
use crate::netns::Rtnetlink;

/// Handle of patchbay's qdiscs, by which they are found again.
const HANDLE: TcHandle = TcHandle {
    major: 0x7062,
    minor: 0,
};
/// Queue beyond the burst, as time at the rate: 1/20 s.
const LATENCY: u32 = 20;

/// `TC_LINKLAYER_ETHERNET`: the kernel needs no table of rates.
const ETHERNET: u8 = 1;
/// Attributes of `linux/rtnetlink.h` and `linux/pkt_sched.h`.
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_TBF_PARMS: u16 = 1;
const TCA_TBF_BURST: u16 = 6;
/// Size of `tcmsg`.
const TCMSG: usize = 20;
/// Offsets in `tc_tbf_qopt`: rate, peak rate (12 bytes each), limit, buffer, mtu.
const RATE: usize = 8;
const LIMIT: usize = 24;
const BUFFER: usize = 28;
const QOPT: usize = 36;

/// Parameters of a qdisc.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parameters {
    /// Bytes per second.
    rate: u32,
    /// Bytes in the queue.
    limit: u32,
}

impl From<RateLimit> for Parameters {
    fn from(limit: RateLimit) -> Self {
        let rate = limit.rate().bytes();
        let limit = limit.burst().get().saturating_add(rate / LATENCY);
        Self { rate, limit }
    }
}

/// Root of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Root {
    /// The kernel's choice.
    Default,
    /// Limit of patchbay.
    Own(Option<Parameters>),
    /// Qdisc of another program.
    Foreign,
}

/// Limits what a link sends, or changes the limit, and reads that back.
pub(super) fn set(rtnl: &Rtnetlink, link: u32, limit: RateLimit) -> io::Result<()> {
    let parameters = Parameters::from(limit);
    let mut qopt = [0; QOPT];
    // `tc_ratespec`: cell_log, linklayer, overhead, cell_align, mpu, rate.
    qopt[1] = ETHERNET;
    qopt[RATE..RATE + 4].copy_from_slice(&parameters.rate.to_ne_bytes());
    qopt[LIMIT..LIMIT + 4].copy_from_slice(&parameters.limit.to_ne_bytes());
    qopt[BUFFER..BUFFER + 4].copy_from_slice(&ticks(limit).to_ne_bytes());
    let burst = limit.burst().get().to_ne_bytes();
    let option = |kind, value| TcOption::Other(DefaultNla::new(kind, value));
    let mut message = message(link);
    message.attributes = vec![
        TcAttribute::Kind("tbf".to_owned()),
        TcAttribute::Options(vec![
            option(TCA_TBF_PARMS, qopt.to_vec()),
            option(TCA_TBF_BURST, burst.to_vec()),
        ]),
    ];
    let request = RouteNetlinkMessage::NewQueueDiscipline(message);
    change(rtnl, &request, NLM_F_CREATE | NLM_F_REPLACE)?;
    match root(rtnl, link)? {
        Root::Own(Some(found)) if found == parameters => Ok(()),
        _ => Err(io::Error::other("another process has changed the qdisc")),
    }
}

/// Returns the time of a burst in units of 64 ns (`PSCHED_SHIFT`), for kernels that ignore its bytes.
fn ticks(limit: RateLimit) -> u32 {
    let nanos = u64::from(limit.burst().get()) * 1_000_000_000 / u64::from(limit.rate().bytes());
    u32::try_from(nanos >> 6).unwrap_or(u32::MAX)
}

/// Removes the limit from a link, whose root is the kernel's choice again. Repeating it changes nothing.
pub(super) fn remove(rtnl: &Rtnetlink, link: u32) -> io::Result<()> {
    match root(rtnl, link)? {
        Root::Own(_) => {
            let request = RouteNetlinkMessage::DelQueueDiscipline(message(link));
            change(rtnl, &request, 0)
        }
        Root::Default | Root::Foreign => Ok(()),
    }
}

/// Reads the root of a link.
pub(super) fn root(rtnl: &Rtnetlink, link: u32) -> io::Result<Root> {
    let mut request = TcMessage::default();
    request.header.index = link.cast_signed();
    let qdiscs: Vec<Qdisc> = rtnl.dump(&RouteNetlinkMessage::GetQueueDiscipline(request))?;
    let mut roots = qdiscs.into_iter().filter(|Qdisc { header, .. }| {
        header.index.cast_unsigned() == link && header.parent == TcHandle::ROOT
    });
    Ok(roots.next().map_or(Root::Default, |qdisc| qdisc.root()))
}

fn message(link: u32) -> TcMessage {
    let mut message = TcMessage::default();
    message.header.index = link.cast_signed();
    message.header.parent = TcHandle::ROOT;
    message.header.handle = HANDLE;
    message
}

/// Qdisc of a dump. `netlink-packet-route` doesn't know the options of `tbf`.
struct Qdisc {
    header: TcHeader,
    kind: Vec<u8>,
    parameters: Option<Parameters>,
}

impl Qdisc {
    fn root(&self) -> Root {
        match self.header.handle {
            HANDLE if self.kind == b"tbf\0" => Root::Own(self.parameters),
            TcHandle::UNSPEC => Root::Default,
            _ => Root::Foreign,
        }
    }
}

impl NetlinkDeserializable for Qdisc {
    type Error = DecodeError;

    fn deserialize(_: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        let header = TcHeader::parse(payload)?;
        let (mut kind, mut parameters) = (Vec::new(), None);
        for attribute in NlasIterator::new(payload.get(TCMSG..).unwrap_or_default()) {
            let attribute = attribute?;
            match attribute.kind() {
                TCA_KIND => kind = attribute.value().to_vec(),
                TCA_OPTIONS => parameters = self::parameters(attribute.value()),
                _ => {}
            }
        }
        Ok(Self {
            header,
            kind,
            parameters,
        })
    }
}

fn parameters(options: &[u8]) -> Option<Parameters> {
    let mut options = NlasIterator::new(options).filter_map(Result::ok);
    let qopt = options.find(|option| option.kind() == TCA_TBF_PARMS)?;
    let number = |offset| {
        let bytes = qopt.value().get(offset..)?.first_chunk()?;
        Some(u32::from_ne_bytes(*bytes))
    };
    Some(Parameters {
        rate: number(RATE)?,
        limit: number(LIMIT)?,
    })
}
