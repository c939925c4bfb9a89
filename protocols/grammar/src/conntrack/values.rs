//! Values of the options, and their parsers.

use std::net::IpAddr;
use std::str::FromStr;

use patchbay_types::conntrack::{
    Filter, FilterFields, GRE, ICMP, IcmpFilter, Mark, Masked, Nat, PROTOCOLS, SEEN_REPLY,
    STATUSES, Translated, UNREPLIED, has_ports, states,
};
use patchbay_types::ipvs::Family;

use crate::option::Value;
use crate::parse_num::{self, base0};
use crate::spelling::Spelling;
use crate::{ParseError, Resolver, inet_aton};

/// Values of the options so far.
pub(crate) struct FilterArgs<'n> {
    names: &'n dyn Resolver,
    pub(super) fields: FilterFields,
    pub(super) orig_src: NetArgs,
    pub(super) orig_dst: NetArgs,
    pub(super) reply_src: NetArgs,
    pub(super) reply_dst: NetArgs,
    /// `-n` or `-g`.
    pub(super) nat: Option<Spelling>,
    /// `-j`
    pub(super) any_nat: Option<Spelling>,
    /// The first option that determines the family.
    family: Option<(Family, Spelling)>,
}

/// An address and its mask, which can come in any order.
#[derive(Default)]
pub(super) struct NetArgs {
    address: Option<IpAddr>,
    mask: Option<(IpAddr, Spelling)>,
}

type PickNet = for<'a, 'n> fn(&'a mut FilterArgs<'n>) -> &'a mut NetArgs;

impl<'n> FilterArgs<'n> {
    pub(super) fn new(names: &'n dyn Resolver) -> Self {
        Self {
            names,
            fields: FilterFields::default(),
            orig_src: NetArgs::default(),
            orig_dst: NetArgs::default(),
            reply_src: NetArgs::default(),
            reply_dst: NetArgs::default(),
            nat: None,
            any_nat: None,
            family: None,
        }
    }

    /// Checks the filter as a whole.
    pub(super) fn finish(mut self) -> Result<Filter, ParseError> {
        if let (Some(nat), Some(any)) = (self.nat, self.any_nat) {
            return Err(ParseError::Conflict(nat, any));
        }
        self.fields.family = self.family.map(|(family, _)| family);
        self.fields.orig.src = self.orig_src.masked()?;
        self.fields.orig.dst = self.orig_dst.masked()?;
        self.fields.reply.src = self.reply_src.masked()?;
        self.fields.reply.dst = self.reply_dst.masked()?;
        Ok(Filter::new(self.fields)?)
    }

    /// Checks that an option is of the same family as those before it.
    fn same_family(&mut self, option: Spelling, family: Family) -> Result<(), ParseError> {
        let (first, before) = *self.family.get_or_insert((family, option));
        if first == family {
            return Ok(());
        }
        Err(ParseError::Families(before, option))
    }
}

impl NetArgs {
    fn masked(self) -> Result<Option<Masked>, ParseError> {
        Ok(match (self.address, self.mask) {
            (None, None) => None,
            (Some(address), None) => Some(Masked::host(address)),
            (Some(address), Some((mask, _))) => Some(Masked::new(address, mask)?),
            (None, Some((_, option))) => {
                return Err(ParseError::Needs(option, "an address to mask"));
            }
        })
    }
}

/// An address, or a network with a prefix length. A full prefix is not a mask, so that a mask from
/// another word remains.
pub(super) fn net(
    args: &mut FilterArgs<'_>,
    value: Value<'_>,
    pick: PickNet,
) -> Result<(), ParseError> {
    let (address, prefix) = match value.text().split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (value.text(), None),
    };
    let ip = parse_num::ip(address)
        .ok_or_else(|| value.invalid("it must be an IP address or a network"))?;
    args.same_family(value.option, Family::of(ip))?;
    pick(args).address = Some(ip);
    let Some(prefix) = prefix else {
        return Ok(());
    };
    let net = prefix.parse().ok();
    let net = net.and_then(|prefix| Masked::prefix(ip, prefix).ok());
    let rule = "a prefix length is 0 to 32, or 0 to 128 for IPv6";
    let net = net.ok_or_else(|| value.invalid(rule))?;
    if net != Masked::host(ip) {
        pick(args).mask = Some((net.mask(), value.option));
    }
    Ok(())
}

pub(super) fn mask(
    args: &mut FilterArgs<'_>,
    value: Value<'_>,
    pick: PickNet,
) -> Result<(), ParseError> {
    // inet_aton takes 24 for 0.0.0.24, which nobody means.
    let text = Some(value.text()).filter(|text| text.contains(['.', ':']));
    let mask = text.and_then(parse_num::ip);
    let rule = "a mask is like 255.255.255.0 or ffff:ffff::";
    let mask = mask.ok_or_else(|| value.invalid(rule))?;
    args.same_family(value.option, Family::of(mask))?;
    pick(args).mask = Some((mask, value.option));
    Ok(())
}

pub(super) fn family(args: &mut FilterArgs<'_>, value: Value<'_>) -> Result<(), ParseError> {
    let family = match value.text() {
        "ipv4" => Family::V4,
        "ipv6" => Family::V6,
        _ => return Err(value.invalid("the family is ipv4 or ipv6")),
    };
    args.same_family(value.option, family)
}

pub(super) fn protocol(args: &mut FilterArgs<'_>, value: Value<'_>) -> Result<(), ParseError> {
    let known = PROTOCOLS
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(value.text()));
    let rule = "a protocol is tcp, udp, sctp, icmp, icmpv6, gre, dccp, udplite or 0 to 255";
    let number = match known {
        Some((_, number)) => *number,
        None => numeric(value, rule)?,
    };
    // The meaning of these depends on the protocol.
    let has_details = args.fields.state.is_some() || args.fields.icmp != IcmpFilter::default();
    if has_details && args.fields.protocol != Some(number) {
        return Err(ParseError::Repeated(value.option));
    }
    args.fields.protocol = Some(number);
    Ok(())
}

fn parsed<T: FromStr>(value: Value<'_>, rule: &'static str) -> Result<T, ParseError> {
    value.text().parse().map_err(|_| value.invalid(rule))
}

/// Decimal, hexadecimal after `0x`, or octal after `0`.
fn numeric<T: TryFrom<u32>>(value: Value<'_>, rule: &'static str) -> Result<T, ParseError> {
    let number = base0(value.text()).and_then(|number| T::try_from(number).ok());
    number.ok_or_else(|| value.invalid(rule))
}

pub(super) fn port(args: &FilterArgs<'_>, value: Value<'_>) -> Result<u16, ParseError> {
    if args.fields.protocol.is_some_and(has_ports) {
        return parsed(value, "a port is 0 to 65535");
    }
    let first = "-p/--protonum with a protocol that has ports";
    Err(ParseError::MustFollow(value.option, first))
}

pub(super) fn key(args: &FilterArgs<'_>, value: Value<'_>) -> Result<u16, ParseError> {
    if args.fields.protocol == Some(GRE) {
        return numeric(value, "a key is 0 to 65535");
    }
    Err(ParseError::MustFollow(value.option, "-p/--protonum gre"))
}

pub(super) fn icmp<T: FromStr>(
    args: &FilterArgs<'_>,
    value: Value<'_>,
    protocol: u8,
) -> Result<T, ParseError> {
    if args.fields.protocol == Some(protocol) {
        return parsed(
            value,
            "types and codes are 0 to 255, identifiers 0 to 65535",
        );
    }
    let first = match protocol {
        ICMP => "-p/--protonum icmp",
        _ => "-p/--protonum icmpv6",
    };
    Err(ParseError::MustFollow(value.option, first))
}

pub(super) fn state(args: &mut FilterArgs<'_>, value: Value<'_>) -> Result<(), ParseError> {
    let states = args.fields.protocol.map_or(&[][..], states);
    if states.is_empty() {
        let first = "-p/--protonum tcp, sctp or dccp";
        return Err(ParseError::MustFollow(value.option, first));
    }
    // Linux before 2.6.31 had this state in place of SYN_SENT2.
    let wanted = match value.text() {
        "LISTEN" => "SYN_SENT2",
        name => name,
    };
    let state = states.iter().position(|state| *state == wanted);
    let state = state.and_then(|state| u8::try_from(state).ok());
    let rule = "it must be a state of the protocol, such as ESTABLISHED of tcp";
    args.fields.state = Some(state.ok_or_else(|| value.invalid(rule))?);
    Ok(())
}

pub(super) fn zone(value: Value<'_>) -> Result<u16, ParseError> {
    numeric(value, "a zone is 0 to 65535")
}

pub(super) fn id(value: Value<'_>) -> Result<u32, ParseError> {
    numeric(value, "an id is 0 to 4294967295")
}

pub(super) fn mark(args: &mut FilterArgs<'_>, value: Value<'_>) -> Result<(), ParseError> {
    let (bits, mask) = match value.text().split_once('/') {
        Some((bits, mask)) => (base0(bits), base0(mask)),
        None => (base0(value.text()), Some(u32::MAX)),
    };
    let (Some(value), Some(mask)) = (bits, mask) else {
        return Err(value.invalid("a mark is VALUE or VALUE/MASK, of 32 bits each"));
    };
    args.fields.mark = Some(Mark { value, mask });
    Ok(())
}

/// Items of a list, each as a value of the same option.
fn items(value: Value<'_>) -> impl Iterator<Item = Value<'_>> {
    let item = move |text| Value {
        text: Some(text),
        ..value
    };
    value.text().split(',').map(item)
}

pub(super) fn labels(args: &mut FilterArgs<'_>, value: Value<'_>) -> Result<(), ParseError> {
    for item in items(value) {
        let bit = match item.text().parse() {
            Ok(bit) => Some(bit),
            Err(_) => args.names.label(item.text()),
        };
        let rule = "a label is 0 to 127, or a name in /etc/xtables/connlabel.conf";
        let label = bit.and_then(|bit: u8| 1_u128.checked_shl(bit.into()));
        args.fields.labels |= label.ok_or_else(|| item.invalid(rule))?;
    }
    Ok(())
}

pub(super) fn statuses(args: &mut FilterArgs<'_>, value: Value<'_>) -> Result<(), ParseError> {
    let status = &mut args.fields.status;
    for item in items(value) {
        let (name, bits) = match item.text().strip_prefix('!') {
            Some(name) => (name, &mut status.clear),
            None => (item.text(), &mut status.set),
        };
        // Every flow of the table is confirmed, and conntrack has no such word.
        let words = STATUSES.iter().filter(|(word, _)| *word != "CONFIRMED");
        let mut words = words.filter(|(word, _)| word.eq_ignore_ascii_case(name));
        let known = words.next();
        match known {
            Some((_, bit)) => *bits |= bit,
            None if item.text() == UNREPLIED => status.clear |= SEEN_REPLY,
            None => {
                let rule = "it must be a status, such as ASSURED, !ASSURED or UNREPLIED";
                return Err(item.invalid(rule));
            }
        }
    }
    Ok(())
}

/// `ADDRESS`, `ADDRESS:PORT`, `:PORT` or `[IPV6]:PORT`; any translation without a value. A repeated
/// option replaces only the parts that it has.
pub(super) fn nat(
    args: &mut FilterArgs<'_>,
    value: Value<'_>,
    pick: fn(&mut Nat) -> &mut Option<Translated>,
) -> Result<(), ParseError> {
    let new = match value.text {
        None => Translated::default(),
        Some(text) => {
            let rule = "the format is ADDRESS, :PORT or ADDRESS:PORT";
            translated(text).ok_or_else(|| value.invalid(rule))?
        }
    };
    if let Some(address) = new.address {
        args.same_family(value.option, Family::of(address))?;
    }
    let nat = pick(&mut args.fields.nat).get_or_insert_default();
    nat.address = new.address.or(nat.address);
    nat.port = new.port.or(nat.port);
    Ok(())
}

fn translated(text: &str) -> Option<Translated> {
    if let Some(address) = parse_num::ip(text) {
        return Some(Translated {
            address: Some(address),
            port: None,
        });
    }
    let (before, port) = text.rsplit_once(':')?;
    let inner = before.strip_prefix('[').and_then(|v6| v6.strip_suffix(']'));
    let address = match (before, inner) {
        ("", _) => None,
        (_, Some(v6)) => Some(IpAddr::V6(v6.parse().ok()?)),
        (v4, None) => Some(IpAddr::V4(inet_aton(v4)?)),
    };
    let port = Some(port.parse().ok()?);
    Some(Translated { address, port })
}
