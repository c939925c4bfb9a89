//! Routes: requests, listed routes and patterns.
//!
//! A route without the fields that layout 0 lacks has the bytes of layout 0, which begin with the
//! family of the destination (0, 4 or 6). Otherwise [`EXTENDED`] and a number with a bit for each added
//! field precede them, and the added fields follow, as numbers.

use std::net::IpAddr;

use ipnet::IpNet;

use super::reader::{
    optional, put_bytes, put_ip, put_number, put_optional, put_optional_ip, strange,
};
use super::{Packed, Reader};
use patchbay_types::{
    Destination, FieldError, IfName, InvalidValue, LinkName, Onlink, Route, RouteFields,
    RoutePattern, RouteSpec, RouteTable, Scope,
};

/// Layout that this build writes where layout 0 doesn't suffice.
pub(crate) const LAYOUT: u32 = 1;

/// Additions of each layout, from 1.
pub(crate) const ADDITIONS: [&str; LAYOUT as usize] =
    ["onlink, mtu, protocol, table, and devices with any name"];

/// First byte of a route with added fields.
const EXTENDED: u8 = 1;

/// Bits of added fields.
mod bit {
    pub(super) const ONLINK: u64 = 1;
    pub(super) const MTU: u64 = 1 << 1;
    pub(super) const PROTOCOL: u64 = 1 << 2;
    pub(super) const TABLE: u64 = 1 << 3;
    pub(super) const ALL: u64 = ONLINK | MTU | PROTOCOL | TABLE;
}

/// Value of a list that travels with a layout number.
pub trait Layered: Packed {
    /// Returns the lowest layout that expresses the value.
    fn layout(&self) -> u32;
}

impl Packed for RoutePattern {
    fn pack(&self, out: &mut Vec<u8>) {
        put(self, out);
    }

    fn unpack(reader: &mut Reader<'_>) -> Result<Self, FieldError> {
        get(reader)
    }
}

/// The layout of a pattern, with destination and device required.
impl Packed for RouteSpec {
    fn pack(&self, out: &mut Vec<u8>) {
        put(self.fields(), out);
    }

    fn unpack(reader: &mut Reader<'_>) -> Result<Self, FieldError> {
        Self::new(get(reader)?)
    }
}

impl Packed for Route {
    fn pack(&self, out: &mut Vec<u8>) {
        put(self, out);
    }

    fn unpack(reader: &mut Reader<'_>) -> Result<Self, FieldError> {
        get::<IpNet, LinkName, Scope, u32>(reader)?.checked()
    }
}

/// Readers of layout 0 accept a device in a request by the rule for new names.
fn layout_of_request(added: u64, device: Option<&LinkName>) -> u32 {
    let old_name = |name: &LinkName| name.to_string().parse::<IfName>().is_ok();
    u32::from(added != 0 || !device.is_none_or(old_name))
}

impl Layered for RoutePattern {
    fn layout(&self) -> u32 {
        layout_of_request(added(self), self.device.as_ref())
    }
}

impl Layered for RouteSpec {
    fn layout(&self) -> u32 {
        layout_of_request(added(self.fields()), Some(&self.fields().device))
    }
}

impl Layered for Route {
    /// Readers of layout 0 accept any UTF-8 as the device of a listed route.
    fn layout(&self) -> u32 {
        let is_text = std::str::from_utf8(self.device.as_bytes()).is_ok();
        u32::from(added(self) != 0 || !is_text)
    }
}

/// Returns the routes that readers of `layout` know, without the fields that they don't.
#[must_use]
pub fn routes_for_layout(routes: &[Route], layout: u32) -> Vec<Route> {
    let reduced = |route: &Route| match layout {
        0 => Route {
            onlink: Onlink::Off,
            mtu: None,
            protocol: None,
            ..route.clone()
        },
        _ => route.clone(),
    };
    let known = |route: &Route| route.layout() <= layout;
    routes.iter().map(reduced).filter(known).collect()
}

/// Returns the bits of the added fields that a route has.
fn added<Dest, Device, S, Metric>(route: &RouteFields<Dest, Device, S, Metric>) -> u64 {
    let of = |is_set, bit| if is_set { bit } else { 0 };
    of(route.onlink == Onlink::On, bit::ONLINK)
        | of(route.mtu.is_some(), bit::MTU)
        | of(route.protocol.is_some(), bit::PROTOCOL)
        | of(route.table != RouteTable::MAIN, bit::TABLE)
}

fn put<Dest: Part, Device: Part, S: Part, Metric: Part>(
    route: &RouteFields<Dest, Device, S, Metric>,
    out: &mut Vec<u8>,
) {
    let RouteFields {
        dest,
        gateway,
        source,
        device,
        scope,
        metric,
        // Has no more than its bit.
        onlink: _,
        mtu,
        protocol,
        table,
    } = route;
    let added = added(route);
    if added != 0 {
        out.push(EXTENDED);
        put_number(out, added);
    }
    dest.put(out);
    put_optional_ip(out, *gateway);
    put_optional_ip(out, *source);
    device.put(out);
    scope.put(out);
    metric.put(out);
    if let Some(mtu) = mtu {
        put_number(out, mtu.get());
    }
    if let Some(protocol) = protocol {
        put_number(out, protocol.get());
    }
    if *table != RouteTable::MAIN {
        put_number(out, table.get());
    }
}

fn get<Dest: Part, Device: Part, S: Part, Metric: Part>(
    reader: &mut Reader<'_>,
) -> Result<RouteFields<Dest, Device, S, Metric>, FieldError> {
    let added = if reader.skip(EXTENDED) {
        reader.u64("fields")?
    } else {
        0
    };
    if added & !bit::ALL != 0 {
        let rule = "it has a bit for each field that this build knows";
        return Err(strange(added, rule, "fields"));
    }
    Ok(RouteFields {
        dest: Dest::get(reader, "dest")?,
        gateway: reader.optional_ip("gateway")?,
        source: reader.optional_ip("source")?,
        device: Device::get(reader, "device")?,
        scope: S::get(reader, "scope")?,
        metric: Metric::get(reader, "metric")?,
        onlink: Onlink::from(added & bit::ONLINK != 0),
        mtu: number(reader, added & bit::MTU, "mtu")?,
        protocol: number(reader, added & bit::PROTOCOL, "protocol")?,
        table: number(reader, added & bit::TABLE, "table")?.unwrap_or(RouteTable::MAIN),
    })
}

/// Reads an added field, if its bit is set.
fn number<T: TryFrom<u64, Error = InvalidValue>>(
    reader: &mut Reader<'_>,
    bit: u64,
    field: &str,
) -> Result<Option<T>, FieldError> {
    if bit == 0 {
        return Ok(None);
    }
    let number = T::try_from(reader.u64(field)?);
    number.map(Some).map_err(|invalid| invalid.in_field(field))
}

/// Field whose type differs between the forms of a route.
trait Part: Sized {
    fn put(&self, out: &mut Vec<u8>);
    fn get(reader: &mut Reader<'_>, field: &str) -> Result<Self, FieldError>;
}

impl Part for IpNet {
    fn put(&self, out: &mut Vec<u8>) {
        put_ip(out, self.addr());
        out.push(self.prefix_len());
    }

    fn get(reader: &mut Reader<'_>, field: &str) -> Result<Self, FieldError> {
        let address = reader.ip(field)?;
        prefix(reader, address, field)
    }
}

impl Part for Destination {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Default => put_optional_ip(out, None),
            Self::Net(net) => net.put(out),
        }
    }

    fn get(reader: &mut Reader<'_>, field: &str) -> Result<Self, FieldError> {
        match reader.optional_ip(field)? {
            None => Ok(Self::Default),
            Some(address) => prefix(reader, address, field).map(Self::Net),
        }
    }
}

/// Reads the prefix length that follows the address of a destination.
fn prefix(reader: &mut Reader<'_>, address: IpAddr, field: &str) -> Result<IpNet, FieldError> {
    let bits = reader.byte(field)?;
    let rule = "a prefix has at most 32 (IPv4) or 128 (IPv6) bits";
    let net = IpNet::new(address, bits);
    net.map_err(|_| InvalidValue::new(&format!("{address}/{bits}"), rule).in_field(field))
}

impl Part for LinkName {
    fn put(&self, out: &mut Vec<u8>) {
        put_bytes(out, self.as_bytes());
    }

    fn get(reader: &mut Reader<'_>, field: &str) -> Result<Self, FieldError> {
        let name = Self::try_from(reader.short_bytes(field)?);
        name.map_err(|invalid| invalid.in_field(field))
    }
}

impl Part for Option<LinkName> {
    fn put(&self, out: &mut Vec<u8>) {
        put_bytes(out, self.as_ref().map_or(&[], LinkName::as_bytes));
    }

    fn get(reader: &mut Reader<'_>, field: &str) -> Result<Self, FieldError> {
        if reader.skip(0) {
            return Ok(None);
        }
        LinkName::get(reader, field).map(Some)
    }
}

impl Part for Scope {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(Self::get(*self));
    }

    fn get(reader: &mut Reader<'_>, field: &str) -> Result<Self, FieldError> {
        let number = reader.byte(field)?;
        Self::try_from(u64::from(number)).map_err(|invalid| invalid.in_field(field))
    }
}

impl Part for Option<Scope> {
    fn put(&self, out: &mut Vec<u8>) {
        put_optional(out, *self, |out, scope| Part::put(&scope, out));
    }

    fn get(reader: &mut Reader<'_>, field: &str) -> Result<Self, FieldError> {
        optional(reader, field, <Scope as Part>::get)
    }
}

impl Part for u32 {
    fn put(&self, out: &mut Vec<u8>) {
        put_number(out, *self);
    }

    fn get(reader: &mut Reader<'_>, field: &str) -> Result<Self, FieldError> {
        reader.u32(field)
    }
}

impl Part for Option<u32> {
    fn put(&self, out: &mut Vec<u8>) {
        put_optional(out, *self, put_number);
    }

    fn get(reader: &mut Reader<'_>, field: &str) -> Result<Self, FieldError> {
        optional(reader, field, Reader::u32)
    }
}
