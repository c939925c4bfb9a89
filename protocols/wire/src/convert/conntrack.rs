//! Filters for flows, to wire and back.

use ipnet::IpNet;

use super::{ip, ip_bytes};
use crate::proto::conntrack as wire;
use patchbay_types::conntrack::{Ends, Filter, FilterFields, Mark, Nat, Status, Translated};
use patchbay_types::ipvs::Family;
use patchbay_types::{FieldError, InvalidValue};

fn number<T: Into<u32>>(value: Option<T>) -> protobuf::MessageField<wire::Number> {
    let number = |value: T| wire::Number {
        value: value.into(),
        ..wire::Number::default()
    };
    value.map(number).into()
}

fn ends_to_wire(ends: Ends) -> wire::Ends {
    let net = |net: IpNet| wire::Net {
        address: ip_bytes(net.addr()),
        prefix: net.prefix_len().into(),
        ..wire::Net::default()
    };
    wire::Ends {
        src: ends.src.map(net).into(),
        dst: ends.dst.map(net).into(),
        src_port: number(ends.src_port),
        dst_port: number(ends.dst_port),
        ..wire::Ends::default()
    }
}

fn translated_to_wire(nat: Option<Translated>) -> protobuf::MessageField<wire::Translated> {
    let to_wire = |nat: Translated| wire::Translated {
        address: nat.address.map(ip_bytes).unwrap_or_default(),
        port: number(nat.port),
        ..wire::Translated::default()
    };
    nat.map(to_wire).into()
}

fn translated(
    wire: &protobuf::MessageField<wire::Translated>,
    field: &str,
) -> Result<Option<Translated>, FieldError> {
    let read = |wire: &wire::Translated| {
        let address = match wire.address.as_slice() {
            [] => None,
            bytes => Some(ip(bytes).map_err(|bad| bad.in_field(field))?),
        };
        let port = small(&wire.port, field)?;
        Ok(Translated { address, port })
    };
    wire.as_ref().map(read).transpose()
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
            orig: Some(ends_to_wire(orig)).into(),
            reply: Some(ends_to_wire(reply)).into(),
            protocol: number(protocol),
            tcp_state: number(tcp_state),
            mark: number(mark.map(|mark| mark.value)),
            mark_mask: mark.map_or(0, |mark| mark.mask),
            zone: number(zone),
            status_set: status.set,
            status_clear: status.clear,
            id: number(id),
            src_nat: translated_to_wire(nat.source),
            dst_nat: translated_to_wire(nat.destination),
            any_nat: translated_to_wire(nat.any),
            ..Self::default()
        }
    }
}

fn small<T: TryFrom<u32>>(
    wire: &protobuf::MessageField<wire::Number>,
    field: &str,
) -> Result<Option<T>, FieldError> {
    let read = |number: &wire::Number| {
        let bad =
            || InvalidValue::new(&number.value.to_string(), "it is too large").in_field(field);
        T::try_from(number.value).map_err(|_| bad())
    };
    wire.as_ref().map(read).transpose()
}

fn ends(wire: &protobuf::MessageField<wire::Ends>, field: &str) -> Result<Ends, FieldError> {
    let net = |net: &wire::Net| {
        let address = ip(&net.address)?;
        let prefix = u8::try_from(net.prefix).ok();
        let made = prefix.and_then(|prefix| IpNet::new(address, prefix).ok());
        made.ok_or_else(|| InvalidValue::new(&net.prefix.to_string(), "a prefix has 0 to 128 bits"))
    };
    let Some(wire) = wire.as_ref() else {
        return Ok(Ends::default());
    };
    Ok(Ends {
        src: wire
            .src
            .as_ref()
            .map(net)
            .transpose()
            .map_err(|bad| bad.in_field(field))?,
        dst: wire
            .dst
            .as_ref()
            .map(net)
            .transpose()
            .map_err(|bad| bad.in_field(field))?,
        src_port: small(&wire.src_port, field)?,
        dst_port: small(&wire.dst_port, field)?,
    })
}

impl TryFrom<&wire::DeleteRequest> for Filter {
    type Error = FieldError;

    fn try_from(wire: &wire::DeleteRequest) -> Result<Self, FieldError> {
        let family = match wire.family {
            0 => None,
            4 => Some(Family::V4),
            6 => Some(Family::V6),
            other => {
                let rule = "a family is 0, 4 or 6";
                return Err(InvalidValue::new(&other.to_string(), rule).in_field("family"));
            }
        };
        let mask = wire.mark_mask;
        let parts = FilterFields {
            family,
            orig: ends(&wire.orig, "orig")?,
            reply: ends(&wire.reply, "reply")?,
            protocol: small(&wire.protocol, "protocol")?,
            tcp_state: small(&wire.tcp_state, "tcp_state")?,
            mark: small(&wire.mark, "mark")?.map(|value| Mark { value, mask }),
            zone: small(&wire.zone, "zone")?,
            status: Status {
                set: wire.status_set,
                clear: wire.status_clear,
            },
            id: small(&wire.id, "id")?,
            nat: Nat {
                source: translated(&wire.src_nat, "src_nat")?,
                destination: translated(&wire.dst_nat, "dst_nat")?,
                any: translated(&wire.any_nat, "any_nat")?,
            },
        };
        Filter::new(parts)
            .map_err(|rule| InvalidValue::new("", rule.to_string()).in_field("filter"))
    }
}

/// The flows that a filter means, or all.
#[must_use]
pub fn list_request(only: Option<&Filter>) -> wire::ListRequest {
    wire::ListRequest {
        only: only.map(Into::into).into(),
        ..wire::ListRequest::default()
    }
}

/// What is asked for.
///
/// # Errors
/// The filter breaks a rule.
pub fn listed(wire: &wire::ListRequest) -> Result<Option<Filter>, FieldError> {
    wire.only.as_ref().map(TryInto::try_into).transpose()
}
