//! Tracked flows.

use super::reader::{optional, put_ip, put_number, put_optional, put_u16};
use super::{Packed, Reader};
use patchbay_types::FieldError;
use patchbay_types::conntrack::{Flow, Tuple};

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
    })
}

impl Packed for Flow {
    fn pack(&self, out: &mut Vec<u8>) {
        let Self {
            orig,
            reply,
            protocol,
            tcp_state,
            status,
            mark,
            zone,
            id,
            timeout,
        } = self;
        put_tuple(out, orig);
        put_tuple(out, reply);
        out.push(*protocol);
        put_optional(out, *tcp_state, Vec::push);
        put_number(out, *status);
        put_number(out, *mark);
        put_u16(out, *zone);
        put_number(out, *id);
        put_optional(out, *timeout, put_number);
    }

    fn unpack(reader: &mut Reader<'_>) -> Result<Self, FieldError> {
        Ok(Self {
            orig: tuple(reader, "orig")?,
            reply: tuple(reader, "reply")?,
            protocol: reader.byte("protocol")?,
            tcp_state: optional(reader, "tcp_state", Reader::byte)?,
            status: reader.u32("status")?,
            mark: reader.u32("mark")?,
            zone: reader.u16("zone")?,
            id: reader.u32("id")?,
            timeout: optional(reader, "timeout", Reader::u32)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{pack, unpack};

    fn flow() -> Flow {
        Flow {
            orig: Tuple {
                src: [10, 0, 0, 9].into(),
                dst: [10, 0, 0, 1].into(),
                src_port: Some(1000),
                dst_port: Some(80),
            },
            reply: Tuple {
                src: [10, 0, 0, 1].into(),
                dst: [10, 0, 0, 9].into(),
                src_port: None,
                dst_port: None,
            },
            protocol: 6,
            tcp_state: Some(3),
            status: 14,
            mark: u32::MAX,
            zone: 7,
            id: 300,
            timeout: Some(600),
        }
    }

    #[test]
    fn flow_round_trips() {
        let forgotten = Flow {
            orig: Tuple {
                src: "2001:db8::9".parse().unwrap(),
                ..flow().orig
            },
            tcp_state: None,
            timeout: None,
            ..flow()
        };
        for flow in [flow(), forgotten] {
            assert_eq!(unpack::<Flow>(&pack(&flow)), Ok(flow));
        }
    }

    #[test]
    fn flow_invalid_or_cut_names_its_field() {
        let whole = pack(&flow());
        for (at, byte, field) in [
            (0, 0, "orig"),
            (10, 2, "orig"),
            (16, 5, "reply"),
            (29, 2, "tcp_state"),
            (31, 0x80, "status"),
        ] {
            let mut bytes = whole.clone();
            bytes[at] = byte;
            let error = unpack::<Flow>(&bytes).unwrap_err();
            assert_eq!(error.field(), field, "{at}: {error}");
        }
        for end in 0..whole.len() {
            let error = unpack::<Flow>(&whole[..end]).unwrap_err();
            assert!(error.to_string().contains("ends within it"), "{error}");
        }
    }
}
