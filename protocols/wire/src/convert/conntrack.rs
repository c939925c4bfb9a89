//! Filters of flows.

use ipnet::IpNet;
use protobuf::MessageField;

use super::{ip, ip_bytes, narrow};
use crate::proto::conntrack as wire;
use patchbay_codec::Bulk;
use patchbay_types::conntrack::{Ends, Filter, FilterFields, Mark, Nat, StatusMask, Translated};
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

fn net_to_wire(net_option: Option<IpNet>) -> MessageField<wire::Net> {
    let net = |net: IpNet| wire::Net {
        address: ip_bytes(net.addr()),
        prefix: net.prefix_len().into(),
        ..wire::Net::default()
    };
    net_option.map(net).into()
}

fn net(wire: &MessageField<wire::Net>, field: &str) -> Result<Option<IpNet>, FieldError> {
    let net = |wire: &wire::Net| {
        let address = ip(&wire.address).map_err(|invalid| invalid.in_field(field))?;
        IpNet::new(address, narrow(wire.prefix, field)?).map_err(|_| {
            let rule = "a prefix has at most 32 (IPv4) or 128 (IPv6) bits";
            InvalidValue::new(&wire.prefix, rule).in_field(field)
        })
    };
    wire.as_ref().map(net).transpose()
}

fn ends_to_wire(ends: Ends) -> MessageField<wire::Ends> {
    MessageField::some(wire::Ends {
        src: net_to_wire(ends.src),
        dst: net_to_wire(ends.dst),
        src_port: number_to_wire(ends.src_port),
        dst_port: number_to_wire(ends.dst_port),
        ..wire::Ends::default()
    })
}

fn ends(wire: &wire::Ends, field: &str) -> Result<Ends, FieldError> {
    Ok(Ends {
        src: net(&wire.src, field)?,
        dst: net(&wire.dst, field)?,
        src_port: number(&wire.src_port, field)?,
        dst_port: number(&wire.dst_port, field)?,
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
            tcp_state,
            mark,
            zone,
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
            tcp_state: number_to_wire(tcp_state),
            mark: number_to_wire(mark.map(|mark| mark.value)),
            mark_mask: mark.map_or(0, |mark| mark.mask),
            zone: number_to_wire(zone),
            status_set: status.set,
            status_clear: status.clear,
            id: number_to_wire(id),
            src_nat: translated_to_wire(nat.source),
            dst_nat: translated_to_wire(nat.destination),
            any_nat: translated_to_wire(nat.any),
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
            tcp_state: number(&wire.tcp_state, "tcp_state")?,
            mark: number(&wire.mark, "mark")?.map(|value| Mark { value, mask }),
            zone: number(&wire.zone, "zone")?,
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
