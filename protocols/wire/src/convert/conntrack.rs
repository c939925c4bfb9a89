//! Filters of flows.

use protobuf::MessageField;

use super::{ip, ip_bytes, narrow};
use crate::proto::conntrack as wire;
use patchbay_codec::Bulk;
use patchbay_types::conntrack::{
    Ends, Filter, FilterFields, IcmpFilter, Mark, Masked, Nat, StatusMask, Translated,
};
use patchbay_types::ipvs::Family;
use patchbay_types::{FieldError, InvalidValue};

fn number_to_wire<T: Into<u32>>(value: Option<T>) -> MessageField<wire::Number> {
    let number = |value: T| wire::Number {
        value: value.into(),
        ..wire::Number::default()
    };
    value.map(number).into()
}

fn number<T: TryFrom<u32>>(
    wire: &MessageField<wire::Number>,
    field: &str,
) -> Result<Option<T>, FieldError> {
    let number = wire.as_ref().map(|number| narrow(number.value, field));
    number.transpose()
}

fn net_to_wire(net_option: Option<Masked>) -> MessageField<wire::Net> {
    let net = |net: Masked| {
        let mut wire = wire::Net {
            address: ip_bytes(net.address()),
            ..wire::Net::default()
        };
        match net.prefix_len() {
            Some(prefix) => wire.prefix = prefix.into(),
            None => wire.mask = ip_bytes(net.mask()),
        }
        wire
    };
    net_option.map(net).into()
}

fn net(wire: &MessageField<wire::Net>, field: &str) -> Result<Option<Masked>, FieldError> {
    let net = |wire: &wire::Net| {
        let ip = |bytes: &[u8]| ip(bytes).map_err(|invalid| invalid.in_field(field));
        let address = ip(&wire.address)?;
        if wire.mask.is_empty() {
            let net = Masked::prefix(address, narrow(wire.prefix, field)?);
            return net.map_err(|invalid| invalid.in_field(field));
        }
        Masked::new(address, ip(&wire.mask)?)
            .map_err(|rule| InvalidValue::new(&address, rule.to_string()).in_field(field))
    };
    wire.as_ref().map(net).transpose()
}

fn ends_to_wire(ends: Ends) -> MessageField<wire::Ends> {
    MessageField::some(wire::Ends {
        src: net_to_wire(ends.src),
        dst: net_to_wire(ends.dst),
        src_port: number_to_wire(ends.src_port),
        dst_port: number_to_wire(ends.dst_port),
        zone: number_to_wire(ends.zone),
        ..wire::Ends::default()
    })
}

fn ends(wire: &wire::Ends, field: &str) -> Result<Ends, FieldError> {
    Ok(Ends {
        src: net(&wire.src, field)?,
        dst: net(&wire.dst, field)?,
        src_port: number(&wire.src_port, field)?,
        dst_port: number(&wire.dst_port, field)?,
        zone: number(&wire.zone, field)?,
    })
}

fn icmp_to_wire(icmp: IcmpFilter) -> MessageField<wire::Icmp> {
    let IcmpFilter { kind, code, id } = icmp;
    let wire = wire::Icmp {
        type_: number_to_wire(kind),
        code: number_to_wire(code),
        id: number_to_wire(id),
        ..wire::Icmp::default()
    };
    (icmp != IcmpFilter::default()).then_some(wire).into()
}

fn icmp(wire: &wire::Icmp) -> Result<IcmpFilter, FieldError> {
    Ok(IcmpFilter {
        kind: number(&wire.type_, "icmp")?,
        code: number(&wire.code, "icmp")?,
        id: number(&wire.id, "icmp")?,
    })
}

fn labels(wire: &[u8]) -> Result<u128, FieldError> {
    if wire.is_empty() {
        return Ok(0);
    }
    let length = || format!("{} bytes", wire.len());
    wire.try_into()
        .map(u128::from_be_bytes)
        .map_err(|_| InvalidValue::new(&length(), "labels have 16 bytes").in_field("labels"))
}

/// Returns whether a filter uses criteria that the first release doesn't know.
#[must_use]
pub fn needs_feature(filter: &Filter) -> bool {
    const TCP: u8 = 6;
    let fields = filter.parts();
    let ends = [fields.orig, fields.reply];
    let has_holes = |net: Masked| net.prefix_len().is_none();
    fields.icmp != IcmpFilter::default()
        || fields.labels != 0
        || (fields.state.is_some() && fields.protocol != Some(TCP))
        || ends.iter().any(|ends| {
            ends.zone.is_some() || [ends.src, ends.dst].into_iter().flatten().any(has_holes)
        })
}

fn translated_to_wire(nat: Option<Translated>) -> MessageField<wire::Translated> {
    let translated = |nat: Translated| wire::Translated {
        address: nat.address.map(ip_bytes).unwrap_or_default(),
        port: number_to_wire(nat.port),
        ..wire::Translated::default()
    };
    nat.map(translated).into()
}

fn translated(
    wire: &MessageField<wire::Translated>,
    field: &str,
) -> Result<Option<Translated>, FieldError> {
    let translated = |wire: &wire::Translated| {
        let address = (!wire.address.is_empty()).then(|| ip(&wire.address));
        let address = address.transpose().map_err(|bad| bad.in_field(field))?;
        let port = number(&wire.port, field)?;
        Ok(Translated { address, port })
    };
    wire.as_ref().map(translated).transpose()
}

impl From<&Filter> for wire::DeleteRequest {
    fn from(filter: &Filter) -> Self {
        let FilterFields {
            family,
            orig,
            reply,
            protocol,
            state,
            icmp,
            mark,
            zone,
            labels,
            status,
            id,
            nat,
        } = *filter.parts();
        Self {
            family: match family {
                None => 0,
                Some(Family::V4) => 4,
                Some(Family::V6) => 6,
            },
            orig: ends_to_wire(orig),
            reply: ends_to_wire(reply),
            protocol: number_to_wire(protocol),
            tcp_state: number_to_wire(state),
            mark: number_to_wire(mark.map(|mark| mark.value)),
            mark_mask: mark.map_or(0, |mark| mark.mask),
            zone: number_to_wire(zone),
            status_set: status.set,
            status_clear: status.clear,
            id: number_to_wire(id),
            src_nat: translated_to_wire(nat.source),
            dst_nat: translated_to_wire(nat.destination),
            any_nat: translated_to_wire(nat.any),
            icmp: icmp_to_wire(icmp),
            labels: match labels {
                0 => Vec::new(),
                bits => bits.to_be_bytes().to_vec(),
            },
            ..Self::default()
        }
    }
}

impl TryFrom<&wire::DeleteRequest> for Filter {
    type Error = FieldError;

    fn try_from(wire: &wire::DeleteRequest) -> Result<Self, FieldError> {
        let family = match wire.family {
            0 => None,
            4 => Some(Family::V4),
            6 => Some(Family::V6),
            other => {
                return Err(InvalidValue::new(&other, "a family is 0, 4 or 6").in_field("family"));
            }
        };
        let mask = wire.mark_mask;
        let fields = FilterFields {
            family,
            orig: ends(&wire.orig, "orig")?,
            reply: ends(&wire.reply, "reply")?,
            protocol: number(&wire.protocol, "protocol")?,
            state: number(&wire.tcp_state, "tcp_state")?,
            icmp: icmp(&wire.icmp)?,
            mark: number(&wire.mark, "mark")?.map(|value| Mark { value, mask }),
            zone: number(&wire.zone, "zone")?,
            labels: labels(&wire.labels)?,
            status: StatusMask {
                set: wire.status_set,
                clear: wire.status_clear,
            },
            id: number(&wire.id, "id")?,
            nat: Nat {
                source: translated(&wire.src_nat, "src_nat")?,
                destination: translated(&wire.dst_nat, "dst_nat")?,
                any: translated(&wire.any_nat, "any_nat")?,
            },
        };
        Filter::new(fields)
            .map_err(|rule| InvalidValue::new("", rule.to_string()).in_field("filter"))
    }
}

/// Builds the request that lists the flows that match a filter, or all.
#[must_use]
pub fn list_request(filter: Option<&Filter>) -> wire::ListRequest {
    wire::ListRequest {
        only: filter.map(Into::into).into(),
        max_layout: Bulk::Flows.layout(),
        ..wire::ListRequest::default()
    }
}

/// Decodes the filter of a request that lists flows.
///
/// # Errors
/// An invalid filter.
pub fn list_filter(wire: &wire::ListRequest) -> Result<Option<Filter>, FieldError> {
    wire.only.as_ref().map(TryInto::try_into).transpose()
}
