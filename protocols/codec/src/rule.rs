//! Services and servers.

use std::num::NonZeroU32;

use super::reader::{put_ip, put_number, put_text, put_u16, strange};
use super::{Packed, Reader};
use patchbay_types::ipvs::{
    Family, Forward, Netmask, NonNegativeInt, Persistence, Protocol, SchedFlags, Scheduling,
    Server, ServerId, Service, ServiceId, Tunnel,
};
use patchbay_types::{FieldError, InvalidValue};

/// Tags of firewall marks, in place of a protocol number.
const MARK_V4: u8 = 0;
const MARK_V6: u8 = 1;

const TUNNEL: u8 = 2;

impl Packed for ServiceId {
    fn pack(&self, out: &mut Vec<u8>) {
        match *self {
            Self::Address {
                protocol,
                address,
                port,
            } => {
                out.push(protocol.number());
                put_ip(out, address);
                put_u16(out, port);
            }
            Self::Mark { mark, family } => {
                out.push(match family {
                    Family::V4 => MARK_V4,
                    Family::V6 => MARK_V6,
                });
                put_number(out, mark.get());
            }
        }
    }

    fn unpack(reader: &mut Reader<'_>) -> Result<Self, FieldError> {
        let family = match reader.byte("service.protocol")? {
            MARK_V4 => Family::V4,
            MARK_V6 => Family::V6,
            number => {
                let protocol = Protocol::try_from(u32::from(number));
                return Ok(Self::Address {
                    protocol: protocol.map_err(|bad| bad.in_field("service.protocol"))?,
                    address: reader.ip("service.address")?,
                    port: reader.u16("service.port")?,
                });
            }
        };
        let mark = NonZeroU32::new(reader.u32("service.mark")?);
        let mark = mark.ok_or_else(|| strange(0u8, "a mark is not 0", "service.mark"))?;
        Ok(Self::Mark { mark, family })
    }
}

impl Packed for Service {
    fn pack(&self, out: &mut Vec<u8>) {
        let Self {
            id,
            scheduler,
            persistence,
            netmask,
            scheduling,
            flags,
            engine,
        } = self;
        id.pack(out);
        put_text(out, scheduler.as_str());
        put_number(out, persistence.map_or(0, Persistence::get));
        put_number(
            out,
            match netmask {
                Netmask::V4(bits) => *bits,
                Netmask::V6(bits) => u32::from(*bits),
            },
        );
        out.push(match scheduling {
            Scheduling::Connections => 0,
            Scheduling::Packets => 1,
        });
        out.push(flags.bits());
        put_text(out, engine.as_ref().map_or("", |engine| engine.as_str()));
    }

    fn unpack(reader: &mut Reader<'_>) -> Result<Self, FieldError> {
        let id = ServiceId::unpack(reader)?;
        let scheduler = reader.text("scheduler")?.parse();
        let persistence = match reader.u32("persistence")? {
            0 => Ok(None),
            seconds => Persistence::try_from(seconds).map(Some),
        };
        let bits = reader.u32("netmask")?;
        let netmask = match id.family() {
            Family::V4 => Ok(Netmask::V4(bits)),
            Family::V6 => Netmask::prefix(bits),
        };
        let scheduling = match reader.byte("scheduling")? {
            0 => Scheduling::Connections,
            1 => Scheduling::Packets,
            number => return Err(strange(number, "it is 0 or 1", "scheduling")),
        };
        let flags = match reader.byte("flags")? {
            bits @ 0..8 => SchedFlags::from_bits(bits),
            bits => return Err(strange(bits, "a scheduler has three flags", "flags")),
        };
        let engine = match reader.text("engine")? {
            "" => Ok(None),
            name => name.parse().map(Some),
        };
        Ok(Self {
            id,
            scheduler: scheduler.map_err(|bad: InvalidValue| bad.in_field("scheduler"))?,
            persistence: persistence.map_err(|bad| bad.in_field("persistence"))?,
            netmask: netmask.map_err(|bad| bad.in_field("netmask"))?,
            scheduling,
            flags,
            engine: engine.map_err(|bad: InvalidValue| bad.in_field("engine"))?,
        })
    }
}

impl Packed for ServerId {
    fn pack(&self, out: &mut Vec<u8>) {
        put_ip(out, self.address);
        put_u16(out, self.port);
    }

    fn unpack(reader: &mut Reader<'_>) -> Result<Self, FieldError> {
        Ok(Self {
            address: reader.ip("server.address")?,
            port: reader.u16("server.port")?,
        })
    }
}

impl Packed for Server {
    fn pack(&self, out: &mut Vec<u8>) {
        self.id.pack(out);
        match self.forward {
            Forward::Masquerade => out.push(0),
            Forward::Local => out.push(1),
            Forward::Route => out.push(3),
            Forward::Tunnel(tunnel) => {
                let (kind, port, checksum) = tunnel.numbers();
                out.extend_from_slice(&[TUNNEL, kind, checksum]);
                put_u16(out, port);
            }
        }
        for count in [self.weight, self.upper, self.lower] {
            put_number(out, count.get());
        }
    }

    fn unpack(reader: &mut Reader<'_>) -> Result<Self, FieldError> {
        let id = ServerId::unpack(reader)?;
        let forward = match reader.byte("forward")? {
            TUNNEL => tunnel(reader)?,
            number => Forward::plain(number.into()).map_err(|bad| bad.in_field("forward"))?,
        };
        let mut count = |field| {
            NonNegativeInt::try_from(reader.u32(field)?)
                .map_err(|bad: InvalidValue| bad.in_field(field))
        };
        Ok(Self {
            id,
            forward,
            weight: count("weight")?,
            upper: count("upper")?,
            lower: count("lower")?,
        })
    }
}

fn tunnel(reader: &mut Reader<'_>) -> Result<Forward, FieldError> {
    let (kind, checksum) = (reader.byte("forward")?, reader.byte("forward")?);
    let port = reader.u16("forward")?;
    Tunnel::try_from((kind.into(), port.into(), checksum.into()))
        .map(Forward::Tunnel)
        .map_err(|bad| bad.in_field("forward"))
}
