//! The incumbent's JSON, read as Go reads it: keys in any case, unknown keys passed over, `null` as
//! absent, the last of a repeated key, types strict, and only the first value of the document.

pub(crate) mod route;

use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::Path;

use patchbay_protocols::failure::{Failure, Kind};
use patchbay_protocols::model::{
    Arp, BadValue, Duplicates, IfName, InterfaceAddress, Invalid, LinkChange, LinkParts, LinkSpec,
    MacAddr, Mtu, QueuePairs,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Largest file that is read: 1 MiB, as for the incumbent.
const MAX_FILE: u64 = 1 << 20;
/// Most that is read of standard input, which the incumbent does not limit: 16 MiB, more than all
/// the routes of one request need.
const MAX_INPUT: u64 = 16 << 20;

/// The keys that mean something, as the user guide spells them.
const KEYS: [&str; 18] = [
    "device",
    "name",
    "IPAddresses",
    "address",
    "mask",
    "family",
    "mtu",
    "hwAddr",
    "linkType",
    "vhostUserSocket",
    "queues",
    "rawFlags",
    "dad",
    "dest",
    "gateway",
    "source",
    "scope",
    "metric",
];

/// `IFF_NOARP` in `rawFlags` (`linux/if.h`).
const IFF_NOARP: u32 = 1 << 7;

/// An interface as it was written, nothing checked but JSON types.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RawInterface {
    pub(crate) device: Option<String>,
    pub(crate) name: Option<String>,
    #[serde(rename = "IPAddresses")]
    pub(crate) addresses: Option<Vec<Option<RawAddress>>>,
    pub(crate) mtu: Option<u64>,
    #[serde(rename = "hwAddr")]
    pub(crate) mac: Option<String>,
    pub(crate) link_type: Option<String>,
    pub(crate) vhost_user_socket: Option<String>,
    pub(crate) queues: Option<u32>,
    pub(crate) raw_flags: Option<u32>,
    /// Our own: whether duplicates of its IPv6 addresses are looked for.
    pub(crate) dad: Option<bool>,
}

/// An address as it was written.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct RawAddress {
    pub(crate) address: Option<String>,
    pub(crate) mask: Option<String>,
    pub(crate) family: Option<u32>,
}

/// A request to plug a card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AddIface {
    /// The TAP on the host.
    pub(crate) device: IfName,
    /// What it shall be in the guest.
    pub(crate) link: LinkSpec,
}

/// Reads the interface at the path, or from standard input for `-`.
pub(crate) fn interface(path: &Path) -> Result<RawInterface, Failure> {
    let document = Document::read(path)?;
    match &document.value {
        Value::Object(_) => document.read_as(document.value.clone(), "interface"),
        _ => Err(document.holds_no("interface", "a JSON object is needed")),
    }
}

/// A JSON document, its keys spelled as in the guide.
struct Document {
    /// What to call it in a message.
    name: String,
    value: Value,
}

impl Document {
    fn read(path: &Path) -> Result<Self, Failure> {
        let name = if path == Path::new("-") {
            "standard input".to_owned()
        } else {
            path.to_string_lossy().into_owned()
        };
        let bytes = read(path).map_err(|error| {
            let kind = error.raw_os_error().map_or(Kind::Invalid, Kind::from_errno);
            Failure::new(kind, format!("could not read {name}")).with_cause(error.to_string())
        })?;
        let mut values = serde_json::Deserializer::from_slice(&bytes).into_iter::<Value>();
        let cause = match values.next() {
            Some(Ok(value)) => {
                let value = canonical(value);
                return Ok(Self { name, value });
            }
            None => "it is empty".to_owned(),
            Some(Err(error)) => format!("it is not JSON ({error})"),
        };
        let sentence = format!("could not read {name}");
        Err(Failure::new(Kind::Invalid, sentence).with_cause(cause))
    }

    fn holds_no(&self, what: &str, cause: impl Into<String>) -> Failure {
        let sentence = format!("{} holds no {what}", self.name);
        Failure::new(Kind::Invalid, sentence).with_cause(cause)
    }

    fn read_as<T: DeserializeOwned>(&self, value: Value, what: &str) -> Result<T, Failure> {
        serde_path_to_error::deserialize(value)
            .map_err(|error| self.holds_no(what, format!("{}: {}", error.path(), error.inner())))
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let (mut source, most): (Box<dyn Read>, _) = match path.to_str() {
        Some("-") => (Box::new(io::stdin()), MAX_INPUT),
        _ => (Box::new(File::open(path)?), MAX_FILE),
    };
    source.by_ref().take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        let sentence = "network file too big: a file has at most 1 MiB, standard input 16 MiB";
        return Err(io::Error::other(sentence));
    }
    Ok(bytes)
}

/// Spells the keys as the guide does.
fn canonical(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut spelled = Map::new();
            for (key, value) in map {
                if let Some(known) = KEYS.iter().find(|known| known.eq_ignore_ascii_case(&key)) {
                    spelled.insert((*known).to_owned(), canonical(value));
                }
            }
            Value::Object(spelled)
        }
        Value::Array(values) => Value::Array(values.into_iter().map(canonical).collect()),
        plain => plain,
    }
}

/// A mandatory text; Go can't tell absent from empty, and scripts rely on neither.
fn given(text: Option<String>, field: &str) -> Result<String, Invalid> {
    text.filter(|text| !text.is_empty())
        .ok_or_else(|| BadValue::new("", "it must be given").at(field))
}

/// The name by which `del-iface` goes.
pub(crate) fn name(raw: &RawInterface) -> Result<IfName, Invalid> {
    given(raw.name.clone(), "name")?
        .parse()
        .map_err(|bad: BadValue| bad.at("name"))
}

impl TryFrom<RawInterface> for AddIface {
    type Error = Failure;

    fn try_from(raw: RawInterface) -> Result<Self, Failure> {
        let RawInterface {
            device,
            name: _,
            addresses,
            mtu,
            mac,
            link_type,
            vhost_user_socket,
            queues,
            raw_flags,
            dad,
        } = &raw;
        let link_type = link_type.as_deref().unwrap_or_default();
        if !["", "tap"].contains(&link_type) {
            let rule = "only cards of type tap can be plugged";
            return Err(BadValue::new(link_type, rule).at("linkType").into());
        }
        if vhost_user_socket
            .as_ref()
            .is_some_and(|socket| !socket.is_empty())
        {
            let sentence = "vhostUserSocket: this version plugs no vhost-user cards yet";
            return Err(Failure::new(Kind::Unsupported, sentence).with_field("vhostUserSocket"));
        }
        let device = given(device.clone(), "device")?;
        let mac = given(mac.clone(), "hwAddr")?;
        let mtu = mtu.filter(|mtu| *mtu != 0);
        let mtu = mtu.ok_or_else(|| BadValue::new("0", "it must be given").at("mtu"))?;
        let queues = queues
            .filter(|queues| *queues != 0)
            .map(|q| QueuePairs::try_from(u64::from(q)));
        let no_arp = raw_flags.unwrap_or_default() & IFF_NOARP != 0;
        let parts = LinkParts {
            name: name(&raw)?,
            mac: mac.parse::<MacAddr>().map_err(|bad| bad.at("hwAddr"))?,
            mtu: Mtu::try_from(mtu).map_err(|bad| bad.at("mtu"))?,
            addresses: read_addresses(addresses.as_deref().unwrap_or_default())?,
            queues: queues.transpose().map_err(|bad| bad.at("queues"))?,
            arp: if no_arp { Arp::Off } else { Arp::On },
        };
        Ok(Self {
            device: device.parse().map_err(|bad: BadValue| bad.at("device"))?,
            link: LinkSpec::new(parts, "IPAddresses")?.with_duplicates(duplicates(*dad)),
        })
    }
}

/// The incumbent never looks for duplicates, and waits for nobody: so unless that is asked.
fn duplicates(dad: Option<bool>) -> Duplicates {
    dad.unwrap_or_default().into()
}

impl TryFrom<RawInterface> for LinkChange {
    type Error = Invalid;

    fn try_from(raw: RawInterface) -> Result<Self, Invalid> {
        let name = name(&raw)?;
        let RawInterface {
            device,
            name: _,
            addresses,
            mtu,
            mac,
            link_type,
            vhost_user_socket,
            queues,
            raw_flags: _,
            dad,
        } = raw;
        let queues = queues.filter(|queues| *queues != 0);
        let fixed = [
            ("device", device),
            ("hwAddr", mac),
            ("linkType", link_type),
            ("vhostUserSocket", vhost_user_socket),
            ("queues", queues.map(|queues| queues.to_string())),
        ];
        for (field, value) in fixed {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                let rule = "it should be 0 or empty: an update changes only IPAddresses and mtu";
                return Err(BadValue::new(&value, rule).at(field));
            }
        }
        let mtu = mtu.filter(|mtu| *mtu != 0).map(Mtu::try_from);
        let mtu = mtu.transpose().map_err(|bad| bad.at("mtu"))?;
        let addresses = addresses.map(|raw| read_addresses(&raw)).transpose()?;
        let change = LinkChange::new(name, addresses, mtu, "IPAddresses")?;
        Ok(change.with_duplicates(duplicates(dad)))
    }
}

fn read_addresses(raw: &[Option<RawAddress>]) -> Result<Vec<InterfaceAddress>, Invalid> {
    let one = |(index, raw): (usize, &Option<RawAddress>)| {
        let at = |part: &str| format!("IPAddresses[{index}]{part}");
        let raw = raw.as_ref().ok_or_else(|| {
            BadValue::new("null", "an address has the keys address and mask").at(at(""))
        })?;
        let text = raw.address.as_deref().unwrap_or_default().trim();
        let ip: IpAddr = text.parse().map_err(|_| {
            BadValue::new(text, "an address is IPv4 or IPv6 text").at(at(".address"))
        })?;
        let mask = raw.mask.as_deref().unwrap_or_default();
        // Digits only: u8::from_str would take a sign.
        let digits = mask
            .bytes()
            .all(|b| b.is_ascii_digit())
            .then(|| mask.parse().ok());
        let prefix: u8 = digits.flatten().ok_or_else(|| {
            let rule = "a mask is the prefix length, in decimal digits as text";
            BadValue::new(mask, rule).at(at(".mask"))
        })?;
        let family = if ip.is_ipv4() { 2 } else { 10 };
        if raw
            .family
            .is_some_and(|given| given != 0 && given != family)
        {
            let rule = "a family is 2 for an IPv4 and 10 for an IPv6 address";
            let given = raw.family.unwrap_or_default().to_string();
            return Err(BadValue::new(&given, rule).at(at(".family")));
        }
        InterfaceAddress::new(ip, prefix).map_err(|bad| bad.at(at("")))
    };
    raw.iter().enumerate().map(one).collect()
}
