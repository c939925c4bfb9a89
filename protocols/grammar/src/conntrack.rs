//! The grammar of `conntrack -D`.
//!
//! ```
//! use patchbay_grammar::conntrack::parse;
//!
//! let filter = parse(&["-p", "tcp", "--dport", "80", "-d", "10.0.0.0/8"])?;
//! assert_eq!(filter.parts().orig.dst_port, Some(80));
//!
//! let error = parse(&["--dport", "80"]).unwrap_err();
//! let rule = "must follow -p/--protonum with a protocol that has ports";
//! assert_eq!(error.to_string(), format!("--orig-port-dst {rule}"));
//! # Ok::<(), patchbay_grammar::ParseError>(())
//! ```

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

use patchbay_types::conntrack::{
    Filter, FilterFields, Mark, PROTOCOLS, SEEN_REPLY, STATUSES, TCP_STATES, Translated, UNREPLIED,
    has_ports,
};
use patchbay_types::ipvs::Family;

use crate::lexer::{Dialect, Token, tokens};
use crate::option::{OptionSpec, OptionTable, Value, ValueKind};
use crate::{ParseError, inet_aton, parse_num};

/// Parses the words after `conntrack -D`.
///
/// # Errors
/// The first rule that the words break, or that there are none.
pub fn parse<S: AsRef<str>>(words: &[S]) -> Result<Filter, ParseError> {
    let mut args = FilterArgs::default();
    let mut seen = Vec::new();
    for token in tokens(OPTIONS, Dialect::Getopt, words) {
        match token? {
            Token::Word(word) => return Err(ParseError::argument(word)),
            Token::Option(option, _) if seen.contains(&option.spelling.long) => {
                return Err(ParseError::Repeated(option.spelling));
            }
            Token::Option(option, value) => {
                seen.push(option.spelling.long);
                (option.action)(&mut args, value)?;
            }
        }
    }
    let FilterArgs { mut fields, .. } = args;
    apply_mask(&mut fields.orig.src, args.mask_src)?;
    apply_mask(&mut fields.orig.dst, args.mask_dst)?;
    Ok(Filter::new(fields)?)
}

/// Returns the help text: one line for each option.
#[must_use]
pub fn help() -> String {
    crate::option::help(OPTIONS)
}

/// Values of the options so far.
#[derive(Default)]
pub(crate) struct FilterArgs<'a> {
    fields: FilterFields,
    /// Applied at the end, since a mask can precede its address.
    mask_src: Option<Value<'a>>,
    mask_dst: Option<Value<'a>>,
}

type ParseFilter = for<'a> fn(&mut FilterArgs<'a>, Value<'a>) -> Result<(), ParseError>;
type FilterOption = OptionSpec<ParseFilter>;

const NETWORK: ValueKind = ValueKind::Required("ADDRESS[/PREFIX]");
const MASK: ValueKind = ValueKind::Required("MASK");
const NUMBER: ValueKind = ValueKind::Required("N");
const PORT: ValueKind = ValueKind::Required("PORT");
const TRANSLATED: ValueKind = ValueKind::Optional("[ADDRESS][:PORT]");

#[rustfmt::skip]
pub(crate) static OPTIONS: OptionTable<ParseFilter> = &[&[
    FilterOption::new("s", "orig-src", NETWORK, "source of the first packet",
        |a, v| net(v).map(|net| a.fields.orig.src = Some(net))).alias("src"),
    FilterOption::new("d", "orig-dst", NETWORK, "destination of the first packet",
        |a, v| net(v).map(|net| a.fields.orig.dst = Some(net))).alias("dst"),
    FilterOption::new("r", "reply-src", NETWORK, "source of replies",
        |a, v| net(v).map(|net| a.fields.reply.src = Some(net))),
    FilterOption::new("q", "reply-dst", NETWORK, "destination of replies",
        |a, v| net(v).map(|net| a.fields.reply.dst = Some(net))),
    FilterOption::new("", "mask-src", MASK, "mask of --orig-src", |a, v| { a.mask_src = Some(v); Ok(()) }),
    FilterOption::new("", "mask-dst", MASK, "mask of --orig-dst", |a, v| { a.mask_dst = Some(v); Ok(()) }),
    FilterOption::new("p", "protonum", ValueKind::Required("PROTOCOL"), "name or number of the protocol",
        |a, v| protocol(v).map(|number| a.fields.protocol = Some(number))).alias("proto"),
    FilterOption::new("f", "family", ValueKind::Required("ipv4|ipv6"), "address family",
        |a, v| family(v).map(|family| a.fields.family = Some(family))),
    FilterOption::new("", "orig-port-src", PORT, "source port of the first packet",
        |a, v| port(a, v).map(|port| a.fields.orig.src_port = Some(port))).alias("sport"),
    FilterOption::new("", "orig-port-dst", PORT, "destination port of the first packet",
        |a, v| port(a, v).map(|port| a.fields.orig.dst_port = Some(port))).alias("dport"),
    FilterOption::new("", "reply-port-src", PORT, "source port of replies",
        |a, v| port(a, v).map(|port| a.fields.reply.src_port = Some(port))),
    FilterOption::new("", "reply-port-dst", PORT, "destination port of replies",
        |a, v| port(a, v).map(|port| a.fields.reply.dst_port = Some(port))),
    FilterOption::new("", "state", ValueKind::Required("STATE"), "TCP state, such as ESTABLISHED",
        |a, v| tcp_state(a, v).map(|state| a.fields.tcp_state = Some(state))),
    FilterOption::new("m", "mark", ValueKind::Required("VALUE[/MASK]"), "mark, decimal or hexadecimal",
        |a, v| mark(v).map(|mark| a.fields.mark = Some(mark))),
    FilterOption::new("w", "zone", NUMBER, "zone, 0 to 65535",
        |a, v| parsed(v, "a zone is 0 to 65535").map(|zone| a.fields.zone = Some(zone))),
    FilterOption::new("u", "status", ValueKind::Required("LIST"), "statuses, such as ASSURED,UNREPLIED", statuses),
    FilterOption::new("i", "id", NUMBER, "id, 0 to 4294967295", |a, v| id(v).map(|id| a.fields.id = Some(id))),
    FilterOption::new("n", "src-nat", TRANSLATED, "translated source",
        |a, v| translated(v).map(|nat| a.fields.nat.source = Some(nat))),
    FilterOption::new("g", "dst-nat", TRANSLATED, "translated destination",
        |a, v| translated(v).map(|nat| a.fields.nat.destination = Some(nat))),
    FilterOption::new("j", "any-nat", TRANSLATED, "translated source or destination",
        |a, v| translated(v).map(|nat| a.fields.nat.any = Some(nat))),
]];

impl FilterOption {
    const fn alias(mut self, word: &'static str) -> Self {
        self.spelling.alias = Some(word);
        self
    }
}

fn parsed<T: FromStr>(value: Value<'_>, rule: &'static str) -> Result<T, ParseError> {
    value.text().parse().map_err(|_| value.invalid(rule))
}

fn port(args: &FilterArgs<'_>, value: Value<'_>) -> Result<u16, ParseError> {
    if args.fields.protocol.is_some_and(has_ports) {
        return parsed(value, "a port is 0 to 65535");
    }
    let first = "-p/--protonum with a protocol that has ports";
    Err(ParseError::MustFollow(value.option, first))
}

fn id(value: Value<'_>) -> Result<u32, ParseError> {
    number(value.text()).ok_or_else(|| value.invalid("an id is 0 to 4294967295"))
}

fn family(value: Value<'_>) -> Result<Family, ParseError> {
    match value.text() {
        "ipv4" => Ok(Family::V4),
        "ipv6" => Ok(Family::V6),
        _ => Err(value.invalid("the family is ipv4 or ipv6")),
    }
}

fn tcp_state(args: &FilterArgs<'_>, value: Value<'_>) -> Result<u8, ParseError> {
    if args.fields.protocol != Some(6) {
        return Err(ParseError::MustFollow(value.option, "-p/--protonum tcp"));
    }
    let state = TCP_STATES.iter().position(|state| *state == value.text());
    state
        .and_then(|state| u8::try_from(state).ok())
        .ok_or_else(|| value.invalid("it must be a TCP state, such as ESTABLISHED"))
}

/// Decimal or, after `0x`, hexadecimal.
fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// `ADDRESS`, `ADDRESS:PORT`, `:PORT` or `[IPV6]:PORT`; any translation without a value.
fn translated(value: Value<'_>) -> Result<Translated, ParseError> {
    let Some(text) = value.text else {
        return Ok(Translated::default());
    };
    let bad = || value.invalid("the format is ADDRESS, :PORT or ADDRESS:PORT");
    if let Some(address) = parse_num::ip(text) {
        return Ok(Translated {
            address: Some(address),
            port: None,
        });
    }
    let (before, port) = text.rsplit_once(':').ok_or_else(bad)?;
    let inner = before.strip_prefix('[').and_then(|v6| v6.strip_suffix(']'));
    let address = match (before, inner) {
        ("", _) => None,
        (_, Some(v6)) => Some(IpAddr::V6(v6.parse().map_err(|_| bad())?)),
        (v4, None) => Some(IpAddr::V4(inet_aton(v4).ok_or_else(bad)?)),
    };
    let port = Some(port.parse().map_err(|_| bad())?);
    Ok(Translated { address, port })
}

/// An address, or a network with a prefix length.
fn net(value: Value<'_>) -> Result<IpNet, ParseError> {
    let (address, prefix) = match value.text().split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (value.text(), None),
    };
    let ip = parse_num::ip(address)
        .ok_or_else(|| value.invalid("it must be an IP address or a network"))?;
    let Some(prefix) = prefix else {
        return Ok(IpNet::from(ip));
    };
    let net = prefix
        .parse()
        .ok()
        .and_then(|prefix| IpNet::new(ip, prefix).ok());
    net.map(|net| net.trunc())
        .ok_or_else(|| value.invalid("a prefix length is 0 to 32, or 0 to 128 for IPv6"))
}

fn apply_mask(net: &mut Option<IpNet>, mask: Option<Value<'_>>) -> Result<(), ParseError> {
    let Some(value) = mask else { return Ok(()) };
    let address = net.ok_or(ParseError::Needs(value.option, "an address to mask"))?;
    let masked = parse_num::ip(value.text())
        .and_then(|mask| IpNet::with_netmask(address.addr(), mask).ok())
        .ok_or_else(|| value.invalid("a mask is of the address's family, with its ones first"))?;
    *net = Some(masked.trunc());
    Ok(())
}

fn protocol(value: Value<'_>) -> Result<u8, ParseError> {
    let known = PROTOCOLS
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(value.text()));
    let rule = "a protocol is tcp, udp, sctp, icmp, icmpv6, gre, dccp, udplite or 0 to 255";
    match known {
        Some((_, number)) => Ok(*number),
        None => parsed(value, rule),
    }
}

fn mark(value: Value<'_>) -> Result<Mark, ParseError> {
    let (bits, mask) = match value.text().split_once('/') {
        Some((bits, mask)) => (number(bits), number(mask)),
        None => (number(value.text()), Some(u32::MAX)),
    };
    match (bits, mask) {
        (Some(value), Some(mask)) => Ok(Mark { value, mask }),
        _ => Err(value.invalid("a mark is VALUE or VALUE/MASK, of 32 bits each")),
    }
}

fn statuses(args: &mut FilterArgs<'_>, value: Value<'_>) -> Result<(), ParseError> {
    let status = &mut args.fields.status;
    for word in value.text().split(',') {
        let known = STATUSES.iter().find(|(known, _)| *known == word);
        match (word, known) {
            (UNREPLIED, _) => status.clear |= SEEN_REPLY,
            (_, Some((_, bit))) => status.set |= bit,
            _ => {
                let word = Value {
                    text: Some(word),
                    ..value
                };
                return Err(word.invalid("it must be a status, such as ASSURED or UNREPLIED"));
            }
        }
    }
    Ok(())
}
