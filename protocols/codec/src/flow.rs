//! Tracked flows. Layout 1 appends to layout 0 the fields of ICMP, zones of one direction, labels,
//! and states of protocols other than TCP.

use super::Reader;
use super::reader::{optional, put_ip, put_number, put_optional, put_u16};
use patchbay_types::FieldError;
use patchbay_types::conntrack::{Flow, Icmp, Tuple};

/// Layout that this build writes for a reader that knows it.
pub(crate) const LAYOUT: u32 = 1;

/// Additions of each layout, from 1.
pub(crate) const ADDITIONS: [&str; LAYOUT as usize] =
    ["ICMP, zones of one direction, labels, states of all protocols"];

/// The only protocol whose state layout 0 has.
const TCP: u8 = 6;

fn put_tuple(out: &mut Vec<u8>, tuple: &Tuple) {
    put_ip(out, tuple.src);
    put_ip(out, tuple.dst);
    put_optional(out, tuple.src_port, put_u16);
    put_optional(out, tuple.dst_port, put_u16);
}

fn tuple(reader: &mut Reader<'_>, field: &str) -> Result<Tuple, FieldError> {
    Ok(Tuple {
        src: reader.ip(field)?,
        dst: reader.ip(field)?,
        src_port: optional(reader, field, Reader::u16)?,
        dst_port: optional(reader, field, Reader::u16)?,
        icmp: None,
        zone: 0,
    })
}

fn put_icmp(out: &mut Vec<u8>, icmp: Icmp) {
    out.extend_from_slice(&[icmp.kind, icmp.code]);
    put_u16(out, icmp.id);
}

fn icmp(reader: &mut Reader<'_>, field: &str) -> Result<Icmp, FieldError> {
    Ok(Icmp {
        kind: reader.byte(field)?,
        code: reader.byte(field)?,
        id: reader.u16(field)?,
    })
}

/// Appends a flow in a layout that the reader knows. Layout 0 leaves out what it can't express.
pub fn pack_flow(flow: &Flow, layout: u32, out: &mut Vec<u8>) {
    let Flow {
        orig,
        reply,
        protocol,
        state,
        status,
        mark,
        zone,
        labels,
        id,
        timeout,
    } = flow;
    put_tuple(out, orig);
    put_tuple(out, reply);
    out.push(*protocol);
    put_optional(out, state.filter(|_| *protocol == TCP), Vec::push);
    put_number(out, *status);
    put_number(out, *mark);
    put_u16(out, *zone);
    put_number(out, *id);
    put_optional(out, *timeout, put_number);
    if layout == 0 {
        return;
    }
    put_optional(out, state.filter(|_| *protocol != TCP), Vec::push);
    for tuple in [orig, reply] {
        put_optional(out, tuple.icmp, put_icmp);
        put_u16(out, tuple.zone);
    }
    let [high, low] = [labels >> 64, labels & u128::from(u64::MAX)];
    for half in [high, low] {
        put_number(out, u64::try_from(half).unwrap_or_default());
    }
}

/// Decodes a flow of a layout that [`super::Bulk::check`] accepts.
///
/// # Errors
/// Those of [`super::Packed::unpack`].
pub fn unpack_flow(reader: &mut Reader<'_>, layout: u32) -> Result<Flow, FieldError> {
    let mut flow = Flow {
        orig: tuple(reader, "orig")?,
        reply: tuple(reader, "reply")?,
        protocol: reader.byte("protocol")?,
        state: optional(reader, "state", Reader::byte)?,
        status: reader.u32("status")?,
        mark: reader.u32("mark")?,
        zone: reader.u16("zone")?,
        labels: 0,
        id: reader.u32("id")?,
        timeout: optional(reader, "timeout", Reader::u32)?,
    };
    if layout == 0 {
        return Ok(flow);
    }
    flow.state = flow.state.or(optional(reader, "state", Reader::byte)?);
    for tuple in [&mut flow.orig, &mut flow.reply] {
        tuple.icmp = optional(reader, "icmp", icmp)?;
        tuple.zone = reader.u16("zone")?;
    }
    let [high, low] = [reader.u64("labels")?, reader.u64("labels")?];
    flow.labels = u128::from(high) << 64 | u128::from(low);
    Ok(flow)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow() -> Flow {
        let tuple = |last: [u8; 2], ports: [u16; 2]| Tuple {
            src: [10, 0, 0, last[0]].into(),
            dst: [10, 0, 0, last[1]].into(),
            src_port: Some(ports[0]),
            dst_port: Some(ports[1]),
            icmp: None,
            zone: 0,
        };
        Flow {
            orig: tuple([9, 1], [1000, 80]),
            reply: Tuple {
                src_port: None,
                dst_port: None,
                ..tuple([1, 9], [0, 0])
            },
            protocol: 6,
            state: Some(3),
            status: 14,
            mark: u32::MAX,
            zone: 7,
            labels: 0,
            id: 300,
            timeout: Some(600),
        }
    }

    /// A flow that layout 0 can't express.
    fn icmp_flow() -> Flow {
        let flow = flow();
        let icmp = |kind| {
            Some(Icmp {
                kind,
                code: 1,
                id: 77,
            })
        };
        Flow {
            orig: Tuple {
                src: "2001:db8::9".parse().unwrap(),
                icmp: icmp(128),
                zone: 5,
                ..flow.orig
            },
            reply: Tuple {
                icmp: icmp(129),
                zone: u16::MAX,
                ..flow.reply
            },
            protocol: 132,
            state: Some(4),
            labels: 1 << 127 | 1 << 64 | 5,
            timeout: None,
            ..flow
        }
    }

    fn packed(flow: &Flow, layout: u32) -> Vec<u8> {
        let mut out = Vec::new();
        pack_flow(flow, layout, &mut out);
        out
    }

    #[test]
    fn flow_round_trips() {
        for (flow, layout) in [(flow(), 0), (flow(), 1), (icmp_flow(), 1)] {
            let bytes = packed(&flow, layout);
            let mut reader = Reader::new(&bytes);
            assert_eq!(unpack_flow(&mut reader, layout), Ok(flow));
            assert!(reader.is_empty());
        }
    }

    #[test]
    fn flow_in_layout_0_lacks_new_fields_only() {
        let whole = icmp_flow();
        let bytes = packed(&whole, 0);
        let cut = unpack_flow(&mut Reader::new(&bytes), 0).unwrap();
        let mut expected = whole;
        expected.orig = Tuple {
            icmp: None,
            zone: 0,
            ..whole.orig
        };
        expected.reply = Tuple {
            icmp: None,
            zone: 0,
            ..whole.reply
        };
        assert_eq!(
            cut,
            Flow {
                state: None,
                labels: 0,
                ..expected
            }
        );
    }

    #[test]
    fn flow_invalid_or_cut_names_its_field() {
        let whole = packed(&flow(), 1);
        for (at, byte, field) in [
            (0, 0, "orig"),
            (10, 2, "orig"),
            (16, 5, "reply"),
            (29, 2, "state"),
            (31, 0x80, "status"),
        ] {
            let mut bytes = whole.clone();
            bytes[at] = byte;
            let error = unpack_flow(&mut Reader::new(&bytes), 1).unwrap_err();
            assert_eq!(error.field(), field, "{at}: {error}");
        }
        for end in 0..whole.len() {
            let error = unpack_flow(&mut Reader::new(&whole[..end]), 1).unwrap_err();
            assert!(error.to_string().contains("ends within it"), "{error}");
        }
    }
}
