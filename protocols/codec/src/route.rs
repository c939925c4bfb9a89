//! Routes: requests, listed routes and patterns.

use std::net::IpAddr;

use ipnet::IpNet;

use super::reader::{optional, put_ip, put_number, put_optional, put_optional_ip, put_text};
use super::{Packed, Reader};
use patchbay_types::{
    Destination, FieldError, IfName, InvalidValue, Route, RouteFields, RoutePattern, RouteSpec,
    Scope,
};

/// Maximum length of an interface's name in bytes (`IFNAMSIZ` - 1).
const MAX_NAME_BYTES: usize = 15;

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
        put_optional(out, scope.map(Scope::get), Vec::push);
        put_optional(out, *metric, put_number);
    }

    fn unpack(reader: &mut Reader<'_>) -> Result<Self, FieldError> {
        fields(reader, destination, |reader| {
            reader.optional_parsed("device")
        })
    }
}

/// The layout of a pattern, with destination and device required.
impl Packed for RouteSpec {
    fn pack(&self, out: &mut Vec<u8>) {
        self.pattern().pack(out);
    }

    fn unpack(reader: &mut Reader<'_>) -> Result<Self, FieldError> {
        let device = |reader: &mut Reader<'_>| reader.parsed("device");
        Self::new(fields(reader, net, device)?)
    }
}

fn fields<Dest, Device>(
    reader: &mut Reader<'_>,
    dest: impl FnOnce(&mut Reader<'_>) -> Result<Dest, FieldError>,
    device: impl FnOnce(&mut Reader<'_>) -> Result<Device, FieldError>,
) -> Result<RouteFields<Dest, Device>, FieldError> {
    Ok(RouteFields {
        dest: dest(reader)?,
        gateway: reader.optional_ip("gateway")?,
        source: reader.optional_ip("source")?,
        device: device(reader)?,
        scope: optional(reader, "scope", scope)?,
        metric: optional(reader, "metric", Reader::u32)?,
    })
}

impl Packed for Route {
    fn pack(&self, out: &mut Vec<u8>) {
        let Self {
            dest,
            gateway,
            source,
            device,
            scope,
            metric,
        } = self;
        put_net(out, *dest);
        put_optional_ip(out, *gateway);
        put_optional_ip(out, *source);
        put_text(out, device);
        out.push(scope.get());
        put_number(out, *metric);
    }

    fn unpack(reader: &mut Reader<'_>) -> Result<Self, FieldError> {
        Self {
            dest: net(reader)?,
            gateway: reader.optional_ip("gateway")?,
            source: reader.optional_ip("source")?,
            device: device(reader)?,
            scope: scope(reader, "scope")?,
            metric: reader.u32("metric")?,
        }
        .checked()
    }
}

fn put_net(out: &mut Vec<u8>, net: IpNet) {
    put_ip(out, net.addr());
    out.push(net.prefix_len());
}

fn net(reader: &mut Reader<'_>) -> Result<IpNet, FieldError> {
    let address = reader.ip("dest")?;
    prefix(reader, address)
}

fn destination(reader: &mut Reader<'_>) -> Result<Destination, FieldError> {
    match reader.optional_ip("dest")? {
        None => Ok(Destination::Default),
        Some(address) => prefix(reader, address).map(Destination::Net),
    }
}

/// Reads the prefix length that follows the address of a destination.
fn prefix(reader: &mut Reader<'_>, address: IpAddr) -> Result<IpNet, FieldError> {
    let bits = reader.byte("dest")?;
    let rule = "a prefix has at most 32 (IPv4) or 128 (IPv6) bits";
    let net = IpNet::new(address, bits);
    net.map_err(|_| InvalidValue::new(&format!("{address}/{bits}"), rule).in_field("dest"))
}

fn scope(reader: &mut Reader<'_>, field: &str) -> Result<Scope, FieldError> {
    let number = reader.byte(field)?;
    Scope::try_from(u64::from(number)).map_err(|invalid| invalid.in_field(field))
}

/// Reads the kernel's name of an interface, which can have any characters.
fn device(reader: &mut Reader<'_>) -> Result<String, FieldError> {
    let name = reader.text("device")?;
    if name.is_empty() || name.len() > MAX_NAME_BYTES {
        let rule = "an interface's name has 1 to 15 bytes";
        return Err(InvalidValue::new(name, rule).in_field("device"));
    }
    Ok(name.to_owned())
}
