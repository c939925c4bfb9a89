//! The words of `conntrack -D` to a [`Filter`].

use std::net::IpAddr;

use ipnet::IpNet;

use crate::ipvsadm::inet_aton;
use patchbay_types::conntrack::Translated;
use patchbay_types::conntrack::{Filter, FilterFields, Mark, NoFilter};
use patchbay_types::conntrack::{
    PROTOCOLS, SEEN_REPLY, STATUSES, TCP_STATES, UNREPLIED, has_ports,
};
use patchbay_types::failure::{Failure, Kind};
use patchbay_types::ipvs::Family;
use patchbay_types::{FieldError, InvalidValue};

/// Why a filter is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No such option, or one that says nothing of a flow.
    #[error("option {0}")]
    Unknown(InvalidValue),
    /// Nothing follows.
    #[error("{0} needs a value")]
    MissingValue(&'static str),
    /// Twice.
    #[error("{0} stands twice")]
    Repeated(&'static str),
    /// A value that breaks a rule.
    #[error(transparent)]
    Value(#[from] FieldError),
    /// Ports belong to protocols.
    #[error("{0} belongs behind -p/--protonum with a protocol that has ports")]
    NoPorts(&'static str),
    /// States are TCP's.
    #[error("--state belongs behind -p/--protonum tcp")]
    NoState,
    /// A mask without what it masks.
    #[error("{0} needs an address of one family to mask")]
    NoAddress(&'static str),
    /// The whole is none.
    #[error(transparent)]
    Whole(#[from] NoFilter),
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        Failure::new(Kind::Invalid, refused.to_string())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    OrigSrc,
    OrigDst,
    ReplySrc,
    ReplyDst,
    MaskSrc,
    MaskDst,
    Protocol,
    Family,
    OrigSrcPort,
    OrigDstPort,
    ReplySrcPort,
    ReplyDstPort,
    State,
    Mark,
    Zone,
    Status,
    Id,
    SrcNat,
    DstNat,
    AnyNat,
}

/// One option: key, short spelling, long spellings.
type Row = (Key, Option<&'static str>, &'static [&'static str]);

const OPTIONS: &[Row] = &[
    (Key::OrigSrc, Some("-s"), &["--orig-src", "--src"]),
    (Key::OrigDst, Some("-d"), &["--orig-dst", "--dst"]),
    (Key::ReplySrc, Some("-r"), &["--reply-src"]),
    (Key::ReplyDst, Some("-q"), &["--reply-dst"]),
    (Key::MaskSrc, None, &["--mask-src"]),
    (Key::MaskDst, None, &["--mask-dst"]),
    (Key::Protocol, Some("-p"), &["--protonum", "--proto"]),
    (Key::Family, Some("-f"), &["--family"]),
    (Key::OrigSrcPort, None, &["--orig-port-src", "--sport"]),
    (Key::OrigDstPort, None, &["--orig-port-dst", "--dport"]),
    (Key::ReplySrcPort, None, &["--reply-port-src"]),
    (Key::ReplyDstPort, None, &["--reply-port-dst"]),
    (Key::State, None, &["--state"]),
    (Key::Mark, Some("-m"), &["--mark"]),
    (Key::Zone, Some("-w"), &["--zone"]),
    (Key::Status, Some("-u"), &["--status"]),
    (Key::Id, Some("-i"), &["--id"]),
    (Key::SrcNat, Some("-n"), &["--src-nat"]),
    (Key::DstNat, Some("-g"), &["--dst-nat"]),
    (Key::AnyNat, Some("-j"), &["--any-nat"]),
];

/// Reads the words that stand behind `conntrack -D`.
///
/// # Errors
/// The first rule that a word breaks, or that nothing is said.
pub fn parse(words: &[&str]) -> Result<Filter, Refused> {
    let mut parts = FilterFields::default();
    let mut seen = Vec::new();
    let mut masks = Vec::new();
    let mut words = words.iter().copied().peekable();
    while let Some(word) = words.next() {
        let ((key, _, longs), attached) = find(word)?;
        let name = longs[0];
        if seen.contains(&key) {
            return Err(Refused::Repeated(name));
        }
        seen.push(key);
        match key {
            Key::SrcNat | Key::DstNat | Key::AnyNat => {
                // Their value is optional: what follows is one unless it is an option.
                let follows = |word: &&str| !word.starts_with('-');
                let value = attached.or_else(|| words.next_if(follows));
                let nat = value.map(|value| translated(name, value)).transpose()?;
                let place = match key {
                    Key::SrcNat => &mut parts.nat.source,
                    Key::DstNat => &mut parts.nat.destination,
                    _ => &mut parts.nat.any,
                };
                *place = Some(nat.unwrap_or_default());
            }
            Key::MaskSrc | Key::MaskDst => {
                let value = attached.or_else(|| words.next());
                masks.push((key, name, value.ok_or(Refused::MissingValue(name))?));
            }
            _ => {
                let value = attached.or_else(|| words.next());
                option(
                    &mut parts,
                    key,
                    name,
                    value.ok_or(Refused::MissingValue(name))?,
                )?;
            }
        }
    }
    for (key, name, value) in masks {
        let net = match key {
            Key::MaskSrc => &mut parts.orig.src,
            _ => &mut parts.orig.dst,
        };
        mask(net, name, value)?;
    }
    Ok(Filter::new(parts)?)
}

/// `--long`, `--long=value`, `-s`, `-svalue`.
fn find(word: &str) -> Result<(Row, Option<&str>), Refused> {
    let (name, value) = match (word.starts_with("--"), word.split_once('=')) {
        (true, Some((name, value))) => (name, Some(value)),
        (true, None) => (word, None),
        (false, _) => match word.char_indices().nth(2) {
            Some((at, _)) => (&word[..at], Some(&word[at..])),
            None => (word, None),
        },
    };
    let row = OPTIONS
        .iter()
        .find(|(_, short, longs)| *short == Some(name) || longs.contains(&name));
    let rule = "it is no filter for flows";
    row.map(|row| (*row, value))
        .ok_or_else(|| Refused::Unknown(InvalidValue::new(word, rule)))
}

fn bad(name: &str, value: &str, rule: &'static str) -> Refused {
    Refused::Value(InvalidValue::new(value, rule).in_field(name))
}

fn option(
    parts: &mut FilterFields,
    key: Key,
    name: &'static str,
    value: &str,
) -> Result<(), Refused> {
    let with_ports = parts.protocol.is_some_and(has_ports);
    let port = || match (with_ports, value.parse::<u16>()) {
        (false, _) => Err(Refused::NoPorts(name)),
        (true, Ok(port)) => Ok(Some(port)),
        (true, Err(_)) => Err(bad(name, value, "a port is 0 to 65535")),
    };
    match key {
        Key::OrigSrc => parts.orig.src = Some(net(name, value)?),
        Key::OrigDst => parts.orig.dst = Some(net(name, value)?),
        Key::ReplySrc => parts.reply.src = Some(net(name, value)?),
        Key::ReplyDst => parts.reply.dst = Some(net(name, value)?),
        Key::Protocol => parts.protocol = Some(protocol(name, value)?),
        Key::Family => {
            parts.family = Some(match value {
                "ipv4" => Family::V4,
                "ipv6" => Family::V6,
                _ => return Err(bad(name, value, "it is ipv4 or ipv6")),
            });
        }
        Key::OrigSrcPort => parts.orig.src_port = port()?,
        Key::OrigDstPort => parts.orig.dst_port = port()?,
        Key::ReplySrcPort => parts.reply.src_port = port()?,
        Key::ReplyDstPort => parts.reply.dst_port = port()?,
        Key::State if parts.protocol != Some(6) => return Err(Refused::NoState),
        Key::State => {
            let state = TCP_STATES.iter().position(|state| *state == value);
            let state = state.and_then(|state| u8::try_from(state).ok());
            let rule = "it is a state of TCP, such as ESTABLISHED";
            parts.tcp_state = Some(state.ok_or_else(|| bad(name, value, rule))?);
        }
        Key::Mark => parts.mark = Some(mark(name, value)?),
        Key::Zone => {
            let zone = value.parse();
            parts.zone = Some(zone.map_err(|_| bad(name, value, "a zone is 0 to 65535"))?);
        }
        Key::Status => statuses(parts, name, value)?,
        Key::Id => {
            let id = number(value);
            parts.id = Some(id.ok_or_else(|| bad(name, value, "an id is 0 to 4294967295"))?);
        }
        Key::SrcNat | Key::DstNat | Key::AnyNat | Key::MaskSrc | Key::MaskDst => {}
    }
    Ok(())
}

/// Decimal or, with `0x`, hexadecimal.
fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// `ADDRESS`, `ADDRESS:PORT`, `:PORT` or `[IPV6]:PORT`.
fn translated(name: &str, text: &str) -> Result<Translated, Refused> {
    let address = |address: &str| match address.parse() {
        Ok(v6) => Some(IpAddr::V6(v6)),
        Err(_) => inet_aton(address).map(IpAddr::V4),
    };
    let rule = "it is an IP address, a port behind a colon, or both";
    let bad = || bad(name, text, rule);
    if let Some(address) = address(text) {
        let address = Some(address);
        return Ok(Translated {
            address,
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
fn net(name: &str, text: &str) -> Result<IpNet, Refused> {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let v6 = address.parse().map(IpAddr::V6).ok();
    let ip = v6.or_else(|| inet_aton(address).map(IpAddr::V4));
    let ip = ip.ok_or_else(|| bad(name, text, "it is an IP address or a network"))?;
    let Some(prefix) = prefix else {
        return Ok(IpNet::from(ip));
    };
    let net = prefix
        .parse()
        .ok()
        .and_then(|prefix| IpNet::new(ip, prefix).ok());
    net.map(|net| net.trunc())
        .ok_or_else(|| bad(name, text, "a prefix has 0 to 32 bits, or 128 for IPv6"))
}

/// The mask of an address that was given before or after.
fn mask(net: &mut Option<IpNet>, name: &'static str, text: &str) -> Result<(), Refused> {
    let Some(address) = net else {
        return Err(Refused::NoAddress(name));
    };
    let v6 = text.parse().map(IpAddr::V6).ok();
    let mask = v6.or_else(|| inet_aton(text).map(IpAddr::V4));
    let masked = mask.and_then(|mask| IpNet::with_netmask(address.addr(), mask).ok());
    let rule = "it is a mask of the address's family, with its ones first";
    *net = Some(masked.ok_or_else(|| bad(name, text, rule))?.trunc());
    Ok(())
}

fn protocol(name: &str, text: &str) -> Result<u8, Refused> {
    let known = PROTOCOLS
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(text));
    let rule = "it is tcp, udp, sctp, icmp, icmpv6, gre, dccp, udplite or 0 to 255";
    match known {
        Some((_, number)) => Ok(*number),
        None => text.parse().map_err(|_| bad(name, text, rule)),
    }
}

fn mark(name: &str, text: &str) -> Result<Mark, Refused> {
    let (value, mask) = match text.split_once('/') {
        Some((value, mask)) => (number(value), number(mask)),
        None => (number(text), Some(u32::MAX)),
    };
    match (value, mask) {
        (Some(value), Some(mask)) => Ok(Mark { value, mask }),
        _ => Err(bad(
            name,
            text,
            "a mark is VALUE or VALUE/MASK, 32 bits each",
        )),
    }
}

fn statuses(parts: &mut FilterFields, name: &str, list: &str) -> Result<(), Refused> {
    for word in list.split(',') {
        let known = STATUSES.iter().find(|(known, _)| *known == word);
        match (word, known) {
            (UNREPLIED, _) => parts.status.clear |= SEEN_REPLY,
            (_, Some((_, bit))) => parts.status.set |= bit,
            _ => {
                return Err(bad(
                    name,
                    word,
                    "it is a status, such as ASSURED or UNREPLIED",
                ));
            }
        }
    }
    Ok(())
}
