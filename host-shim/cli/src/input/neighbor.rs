//! Documents of static neighbors: Kata's `ARPNeighbor`, one object or an array.

use std::net::IpAddr;
use std::path::Path;
use std::str::FromStr;

use patchbay_host::json::Object;
use patchbay_types::failure::Failure;
use patchbay_types::{
    FieldError, IfName, InvalidValue, LinkName, MAX_NEIGHBORS, Neighbor, NeighborAddress,
    NeighborPattern, check_neighbors,
};
use serde::Deserialize;
use serde_json::Value;

use super::document::Document;
use super::family::FamilyText;

/// `NUD_PERMANENT` (`linux/neighbour.h`).
pub(crate) const PERMANENT: u32 = 0x80;

/// Neighbor, of which only the JSON types have been checked.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct NeighborDocument {
    #[serde(rename = "toIPAddress")]
    #[cfg_attr(test, schemars(with = "Option<ToAddress>"))]
    to: Option<Object<ToAddress>>,
    /// In the place of `toIPAddress`: `neighbor list` prints it. Not in Kata.
    address: String,
    device: String,
    lladdr: String,
    state: u32,
    flags: u32,
}

/// Kata's `IPAddress`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct ToAddress {
    address: String,
    family: Option<FamilyText>,
    mask: String,
}

/// Reads the neighbors of `add-neighbor`.
pub(crate) fn to_add(path: &Path) -> Result<Vec<Neighbor>, Failure> {
    let neighbors = each(&Document::read(path)?, NeighborDocument::neighbor)?;
    check_neighbors(&neighbors, MAX_NEIGHBORS, "")?;
    Ok(neighbors)
}

/// Reads the patterns of `del-neighbor`.
pub(crate) fn to_delete(path: &Path) -> Result<Vec<NeighborPattern>, Failure> {
    each(&Document::read(path)?, NeighborDocument::pattern)
}

/// Reads the neighbors of a card.
pub(super) fn of_card(
    documents: &[Object<NeighborDocument>],
    name: &IfName,
) -> Result<Vec<Neighbor<()>>, FieldError> {
    let one = |(index, Object(document)): (usize, &Object<NeighborDocument>)| {
        document.of_card(name, &format!("neighbors[{index}]"))
    };
    documents.iter().enumerate().map(one).collect()
}

/// Reads each neighbor of an array, or the single neighbor of the document.
fn each<T>(
    document: &Document,
    read: impl Fn(&NeighborDocument, &str) -> Result<T, FieldError>,
) -> Result<Vec<T>, Failure> {
    let Value::Array(_) = &document.value else {
        return Ok(vec![read(&document.object("neighbor")?, "")?]);
    };
    let documents = document.objects("neighbors", MAX_NEIGHBORS)?;
    let one = |(index, Object(document)): (usize, &Object<NeighborDocument>)| {
        Ok(read(document, &format!("[{index}]"))?)
    };
    documents.iter().enumerate().map(one).collect()
}

/// Returns the path of a field below the place of its neighbor.
fn path(at: &str, field: &str) -> String {
    match at {
        "" => field.to_owned(),
        at => format!("{at}.{field}"),
    }
}

/// Parses a field; `None` for empty text, which Go can't distinguish from an absent member.
fn optional<T>(text: &str, at: &str, field: &str) -> Result<Option<T>, FieldError>
where
    T: FromStr<Err = InvalidValue>,
{
    if text.is_empty() {
        return Ok(None);
    }
    let parsed = text.parse().map(Some);
    parsed.map_err(|invalid: InvalidValue| invalid.in_field(path(at, field)))
}

impl NeighborDocument {
    /// Reads a neighbor at a place of its document.
    pub(super) fn neighbor(&self, at: &str) -> Result<Neighbor, FieldError> {
        let pattern = self.pattern(at)?;
        let absent = |field| FieldError::missing(path(at, field));
        Ok(Neighbor {
            ip: pattern.ip,
            lladdr: pattern.lladdr.ok_or_else(|| absent("lladdr"))?,
            device: pattern.device.ok_or_else(|| absent("device"))?,
        })
    }

    fn of_card(&self, name: &IfName, at: &str) -> Result<Neighbor<()>, FieldError> {
        let pattern = self.pattern(at)?;
        if pattern
            .device
            .as_ref()
            .is_some_and(|device| *device != *name)
        {
            let rule = format!("a neighbor of the card has its name, '{name}', or none");
            return Err(InvalidValue::new(&self.device, rule).in_field(path(at, "device")));
        }
        Ok(Neighbor {
            ip: pattern.ip,
            lladdr: pattern
                .lladdr
                .ok_or_else(|| FieldError::missing(path(at, "lladdr")))?,
            device: (),
        })
    }

    fn pattern(&self, at: &str) -> Result<NeighborPattern, FieldError> {
        for (field, value, allowed, rule) in [
            (
                "state",
                self.state,
                PERMANENT,
                "only static neighbors are supported, of state 128",
            ),
            ("flags", self.flags, 0, "a static neighbor has no flags"),
        ] {
            if value != 0 && value != allowed {
                let invalid = InvalidValue::new(&value, rule);
                return Err(invalid.in_field(path(at, field)));
            }
        }
        Ok(NeighborPattern {
            ip: self.address(at)?,
            lladdr: optional(&self.lladdr, at, "lladdr")?,
            device: optional::<LinkName>(&self.device, at, "device")?,
        })
    }

    fn address(&self, at: &str) -> Result<NeighborAddress, FieldError> {
        let (field, text) = match &self.to {
            Some(Object(to)) => ("toIPAddress.address", to.address.trim()),
            None => ("address", self.address.trim()),
        };
        if text.is_empty() {
            return Err(FieldError::missing(path(at, "toIPAddress.address")));
        }
        let rule = "it must be an IPv4 or IPv6 address";
        let ip: Result<IpAddr, _> = text.parse().map_err(|_| InvalidValue::new(text, rule));
        let address = ip.and_then(NeighborAddress::try_from);
        let address = address.map_err(|invalid| invalid.in_field(path(at, field)))?;
        if let Some(Object(to)) = &self.to {
            to.check(address.get(), at)?;
        }
        Ok(address)
    }
}

impl ToAddress {
    /// Checks the members that the address implies.
    fn check(&self, ip: IpAddr, at: &str) -> Result<(), FieldError> {
        if let Some(family) = &self.family {
            let checked = family.check([ip]);
            checked.map_err(|invalid| invalid.in_field(path(at, "toIPAddress.family")))?;
        }
        let host = if ip.is_ipv4() { "32" } else { "128" };
        if ["", host].contains(&self.mask.as_str()) {
            return Ok(());
        }
        let rule = format!("the mask of a neighbor is {host}, or absent");
        let invalid = InvalidValue::new(&self.mask, rule);
        Err(invalid.in_field(path(at, "toIPAddress.mask")))
    }
}

#[cfg(test)]
mod tests {
    use patchbay_types::failure::Kind;

    use super::*;

    fn added(text: &str) -> Result<Vec<String>, Failure> {
        let document = Document::parse("the text".to_owned(), text.as_bytes())?;
        let neighbors = each(&document, NeighborDocument::neighbor)?;
        Ok(neighbors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn neighbor_of_kata_is_read() {
        let kata = r#"{"toIPAddress":{"family":0,"address":"10.0.0.9","mask":""},
            "device":"eth1","lladdr":"02:00:00:00:00:09","state":128,"flags":0}"#;
        let v4 = "10.0.0.9 lladdr 02:00:00:00:00:09 dev eth1";
        assert_eq!(added(kata).unwrap(), [v4]);
        let short = r#"[{"address":"fd00::9","device":"wg=0","lladdr":"03-00-00-00-00-09"},
            {"toipaddress":{"family":"v4","address":"10.0.0.9","mask":"32"},"device":"eth1","LLADDR":"02:00:00:00:00:09"}]"#;
        let v6 = "fd00::9 lladdr 03:00:00:00:00:09 dev wg=0";
        assert_eq!(added(short).unwrap(), [v6, v4]);
    }

    #[test]
    fn neighbor_invalid_field_is_named() {
        let whole = r#"[{"toIPAddress":{"address":"10.0.0.9"},"device":"eth1","lladdr":"02:00:00:00:00:09"}]"#;
        for (from, to, field, rule) in [
            (
                r#""10.0.0.9""#,
                r#""10.0.0""#,
                "[0].toIPAddress.address",
                "IPv4 or IPv6",
            ),
            (
                r#""10.0.0.9""#,
                r#""224.0.0.9""#,
                "[0].toIPAddress.address",
                "unicast",
            ),
            (
                r#""address":"10.0.0.9""#,
                "",
                "[0].toIPAddress.address",
                "missing",
            ),
            (
                r#""10.0.0.9""#,
                r#""10.0.0.9","family":1"#,
                "[0].toIPAddress.family",
                "family",
            ),
            (
                r#""10.0.0.9""#,
                r#""10.0.0.9","mask":"24""#,
                "[0].toIPAddress.mask",
                "32",
            ),
            (r#""eth1""#, r#""""#, "[0].device", "missing"),
            (r#""eth1""#, r#""a b""#, "[0].device", "no blank"),
            (
                r#""02:00:00:00:00:09""#,
                r#""02""#,
                "[0].lladdr",
                "six bytes",
            ),
            (r#""02:00:00:00:00:09""#, r#""""#, "[0].lladdr", "missing"),
            (r#""eth1""#, r#""eth1","state":2"#, "[0].state", "static"),
            (r#""eth1""#, r#""eth1","flags":8"#, "[0].flags", "no flags"),
        ] {
            let text = whole.replace(from, to);
            let failure = added(&text).unwrap_err();
            assert_eq!(
                (failure.kind(), failure.field()),
                (Kind::Invalid, Some(field)),
                "{text}"
            );
            assert!(failure.to_string().contains(rule), "{failure}");
        }
        for text in ["null", "7", "[null]", "[[]]", "{}"] {
            assert_eq!(added(text).unwrap_err().kind(), Kind::Invalid, "{text}");
        }
    }
}
