//! Routes, as asked for and as listed, and patterns of them.

use std::net::IpAddr;

use ipnet::IpNet;

use super::reader::{optional, put_ip, put_number, put_optional, put_optional_ip, put_text};
use super::{Packed, Reader};
use patchbay_types::{
    Destination, FieldError, IfName, InvalidValue, Route, RouteFields, RoutePattern, RouteSpec,
    Scope, Way,
};

/// Longest name of an interface in bytes, whatever its characters (`IFNAMSIZ`).
const MAX_NAME: usize = 15;

fn put_net(out: &mut Vec<u8>, net: IpNet) {
    put_ip(out, net.addr());
    out.push(net.prefix_len());
}

fn put_way(out: &mut Vec<u8>, way: &Way) {
    put_net(out, way.dest());
    put_optional_ip(out, way.gateway());
    put_optional_ip(out, way.source());
}

fn dest(reader: &mut Reader<'_>) -> Result<IpNet, FieldError> {
    let address = reader.ip("dest")?;
    net(reader, address)
}

fn net(reader: &mut Reader<'_>, address: IpAddr) -> Result<IpNet, FieldError> {
    let bits = reader.byte("dest")?;
    let rule = "a prefix has at most 32 (IPv4) or 128 (IPv6) bits";
    let net = IpNet::new(address, bits);
    net.map_err(|_| InvalidValue::new(&format!("{address}/{bits}"), rule).in_field("dest"))
}

fn put_scope(out: &mut Vec<u8>, scope: Option<Scope>) {
    put_optional(out, scope.map(Scope::get), Vec::push);
}

fn scope(reader: &mut Reader<'_>) -> Result<Option<Scope>, FieldError> {
    let number = optional(reader, "scope", Reader::byte)?;
    let scope = number.map(|number| Scope::try_from(u64::from(number)));
    scope.transpose().map_err(|bad| bad.in_field("scope"))
}

impl Packed for RouteSpec {
    fn pack(&self, out: &mut Vec<u8>) {
        put_way(out, self.way());
        put_text(out, self.device().as_str());
        put_scope(out, self.scope());
        put_optional(out, self.metric(), put_number);
    }

    fn unpack(reader: &mut Reader<'_>) -> Result<Self, FieldError> {
        Self::new(RouteFields {
            dest: dest(reader)?,
            gateway: reader.optional_ip("gateway")?,
            source: reader.optional_ip("source")?,
            device: device(reader.text("device")?)?,
            scope: scope(reader)?,
            metric: optional(reader, "metric", Reader::u32)?,
        })
    }
}

fn device(name: &str) -> Result<IfName, FieldError> {
    name.parse()
        .map_err(|bad: InvalidValue| bad.in_field("device"))
}

impl Packed for Route {
    fn pack(&self, out: &mut Vec<u8>) {
        let Self {
            way,
            device,
            scope,
            metric,
        } = self;
        put_way(out, way);
        put_text(out, device);
        out.push(*scope);
        put_number(out, *metric);
    }

    fn unpack(reader: &mut Reader<'_>) -> Result<Self, FieldError> {
        let dest = dest(reader)?;
        let gateway = reader.optional_ip("gateway")?;
        let way = Way::new(dest, gateway, reader.optional_ip("source")?)?;
        let device = reader.text("device")?;
        if device.is_empty() || device.len() > MAX_NAME {
            let rule = "the kernel's names have 1 to 15 bytes";
            return Err(InvalidValue::new(device, rule).in_field("device"));
        }
        Ok(Self {
            way,
            device: device.to_owned(),
            scope: reader.byte("scope")?,
            metric: reader.u32("metric")?,
        })
    }
}

impl Packed for RoutePattern {
    fn pack(&self, out: &mut Vec<u8>) {
        let Self {
            dest,
            gateway,
            source,
            device,
            scope,
            metric,
        } = self;
        match dest {
            Destination::Default => put_optional_ip(out, None),
            Destination::Net(net) => put_net(out, *net),
        }
        put_optional_ip(out, *gateway);
        put_optional_ip(out, *source);
        put_text(out, device.as_ref().map_or("", IfName::as_str));
        put_scope(out, *scope);
        put_optional(out, *metric, put_number);
    }

    fn unpack(reader: &mut Reader<'_>) -> Result<Self, FieldError> {
        Ok(Self {
            dest: match reader.optional_ip("dest")? {
                None => Destination::Default,
                Some(address) => Destination::Net(net(reader, address)?),
            },
            gateway: reader.optional_ip("gateway")?,
            source: reader.optional_ip("source")?,
            device: match reader.text("device")? {
                "" => None,
                name => Some(device(name)?),
            },
            scope: scope(reader)?,
            metric: optional(reader, "metric", Reader::u32)?,
        })
    }
}
