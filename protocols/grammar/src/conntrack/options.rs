//! The options of conntrack 1.4.7, each declared once.

use patchbay_types::conntrack::{ICMP, ICMPV6};

use super::values::{
    FilterArgs, family, icmp, id, key, labels, mark, mask, nat, net, port, protocol, state,
    statuses, zone,
};
use crate::ParseError;
use crate::option::{OptionSpec, OptionTable, Value, ValueKind};

type ParseFilter = for<'a> fn(&mut FilterArgs<'a>, Value<'a>) -> Result<(), ParseError>;
type FilterOption = OptionSpec<ParseFilter>;

const NETWORK: ValueKind = ValueKind::Required("ADDRESS[/PREFIX]");
const MASK: ValueKind = ValueKind::Required("MASK");
const NUMBER: ValueKind = ValueKind::Required("N");
const PORT: ValueKind = ValueKind::Required("PORT");
const LIST: ValueKind = ValueKind::Required("LIST");
const TRANSLATED: ValueKind = ValueKind::Optional("[ADDRESS][:PORT]");

/// The options that select flows.
#[rustfmt::skip]
pub(super) static FILTERS: &[FilterOption] = &[
    FilterOption::new("s", "orig-src", NETWORK, "source of the first packet",
        |a, v| net(a, v, |a| &mut a.orig_src)).alias("src"),
    FilterOption::new("d", "orig-dst", NETWORK, "destination of the first packet",
        |a, v| net(a, v, |a| &mut a.orig_dst)).alias("dst"),
    FilterOption::new("r", "reply-src", NETWORK, "source of replies",
        |a, v| net(a, v, |a| &mut a.reply_src)),
    FilterOption::new("q", "reply-dst", NETWORK, "destination of replies",
        |a, v| net(a, v, |a| &mut a.reply_dst)),
    FilterOption::new("", "mask-src", MASK, "mask of --orig-src",
        |a, v| mask(a, v, |a| &mut a.orig_src)),
    FilterOption::new("", "mask-dst", MASK, "mask of --orig-dst",
        |a, v| mask(a, v, |a| &mut a.orig_dst)),
    FilterOption::new("p", "protonum", ValueKind::Required("PROTOCOL"), "name or number of the protocol",
        protocol),
    FilterOption::new("f", "family", ValueKind::Required("ipv4|ipv6"), "address family", family),
    FilterOption::new("", "orig-port-src", PORT, "source port of the first packet",
        |a, v| port(a, v).map(|port| a.fields.orig.src_port = Some(port))).alias("sport"),
    FilterOption::new("", "orig-port-dst", PORT, "destination port of the first packet",
        |a, v| port(a, v).map(|port| a.fields.orig.dst_port = Some(port))).alias("dport"),
    FilterOption::new("", "reply-port-src", PORT, "source port of replies",
        |a, v| port(a, v).map(|port| a.fields.reply.src_port = Some(port))),
    FilterOption::new("", "reply-port-dst", PORT, "destination port of replies",
        |a, v| port(a, v).map(|port| a.fields.reply.dst_port = Some(port))),
    FilterOption::new("", "state", ValueKind::Required("STATE"),
        "state of TCP, SCTP or DCCP, such as ESTABLISHED", state),
    FilterOption::new("", "icmp-type", NUMBER, "ICMP type of the first packet",
        |a, v| icmp(a, v, ICMP).map(|kind| a.fields.icmp.kind = Some(kind))),
    FilterOption::new("", "icmp-code", NUMBER, "ICMP code",
        |a, v| icmp(a, v, ICMP).map(|code| a.fields.icmp.code = Some(code))),
    FilterOption::new("", "icmp-id", NUMBER, "ICMP identifier",
        |a, v| icmp(a, v, ICMP).map(|id| a.fields.icmp.id = Some(id))),
    FilterOption::new("", "icmpv6-type", NUMBER, "ICMPv6 type of the first packet",
        |a, v| icmp(a, v, ICMPV6).map(|kind| a.fields.icmp.kind = Some(kind))),
    FilterOption::new("", "icmpv6-code", NUMBER, "ICMPv6 code",
        |a, v| icmp(a, v, ICMPV6).map(|code| a.fields.icmp.code = Some(code))),
    FilterOption::new("", "icmpv6-id", NUMBER, "ICMPv6 identifier",
        |a, v| icmp(a, v, ICMPV6).map(|id| a.fields.icmp.id = Some(id))),
    FilterOption::new("", "orig-key-src", NUMBER, "source key of GRE",
        |a, v| key(a, v).map(|key| a.fields.orig.src_port = Some(key))).alias("srckey"),
    FilterOption::new("", "orig-key-dst", NUMBER, "destination key of GRE",
        |a, v| key(a, v).map(|key| a.fields.orig.dst_port = Some(key))).alias("dstkey"),
    FilterOption::new("", "reply-key-src", NUMBER, "source key of GRE replies",
        |a, v| key(a, v).map(|key| a.fields.reply.src_port = Some(key))),
    FilterOption::new("", "reply-key-dst", NUMBER, "destination key of GRE replies",
        |a, v| key(a, v).map(|key| a.fields.reply.dst_port = Some(key))),
    FilterOption::new("m", "mark", ValueKind::Required("VALUE[/MASK]"), "mark, decimal or hexadecimal", mark),
    FilterOption::new("w", "zone", NUMBER, "zone of both directions, 0 to 65535",
        |a, v| zone(v).map(|zone| a.fields.zone = Some(zone))),
    FilterOption::new("", "orig-zone", NUMBER, "zone of the original direction only",
        |a, v| zone(v).map(|zone| a.fields.orig.zone = Some(zone))),
    FilterOption::new("", "reply-zone", NUMBER, "zone of the reply direction only",
        |a, v| zone(v).map(|zone| a.fields.reply.zone = Some(zone))),
    FilterOption::new("l", "label", LIST, "labels that are set: 0 to 127, or names in connlabel.conf", labels),
    FilterOption::new("u", "status", LIST, "statuses, such as ASSURED,UNREPLIED or !ASSURED", statuses),
    FilterOption::new("i", "id", NUMBER, "id, 0 to 4294967295",
        |a, v| id(v).map(|id| a.fields.id = Some(id))),
    FilterOption::new("n", "src-nat", TRANSLATED, "translated source",
        |a, v| { a.nat = Some(v.option); nat(a, v, |nat| &mut nat.source) }),
    FilterOption::new("g", "dst-nat", TRANSLATED, "translated destination",
        |a, v| { a.nat = Some(v.option); nat(a, v, |nat| &mut nat.destination) }),
    FilterOption::new("j", "any-nat", TRANSLATED, "translated source or destination",
        |a, v| { a.any_nat = Some(v.option); nat(a, v, |nat| &mut nat.any) }),
];

/// Other words of conntrack. They are here for the error message, and because an abbreviation that
/// could mean one of them is ambiguous.
#[rustfmt::skip]
static OTHERS: &[FilterOption] = &[
    other("L", "dump"), other("I", "create"), other("A", "add"), other("D", "delete"),
    other("U", "update"), other("G", "get"), other("F", "flush"), other("E", "event"),
    other("C", "counter"), other("S", "stats"), other("V", "version"), other("h", "help"),
    other("t", "timeout"), other("z", "zero"), other("e", "event-mask"), other("a", "nat-range"),
    other("c", "secmark"), other("o", "output"), other("b", "buffer-size"), other("", "label-add"),
    other("", "label-del"), other("", "tuple-src"), other("", "tuple-dst"),
    other("", "mask-port-src"), other("", "mask-port-dst"), other("", "tuple-port-src"),
    other("", "tuple-port-dst"), other("", "mask-key-src"), other("", "mask-key-dst"),
    other("", "tuple-key-src"), other("", "tuple-key-dst"), other("", "orig-vtag"),
    other("", "reply-vtag"), other("", "role"),
];

/// Every option.
pub(crate) static OPTIONS: OptionTable<ParseFilter> = &[FILTERS, OTHERS];

impl FilterOption {
    const fn alias(mut self, word: &'static str) -> Self {
        self.spelling.alias = Some(word);
        self
    }
}

const fn other(short: &'static str, long: &'static str) -> FilterOption {
    let value = ValueKind::Optional("");
    FilterOption::new(short, long, value, "", |_, v| {
        Err(ParseError::NotAFilter(v.option))
    })
}
