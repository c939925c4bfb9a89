//! Changes of interfaces.

use super::addresses;
use crate::proto::agent as wire;
use patchbay_types::{DadPolicy, FieldError, IfName, LinkChange, Mtu};

/// What of which interface shall change.
pub fn update_request(change: &LinkChange) -> wire::UpdateInterfaceRequest {
    let wanted = change.addresses();
    wire::UpdateInterfaceRequest {
        name: change.name().to_string(),
        set_addresses: wanted.is_some(),
        addresses: wanted.into_iter().flatten().map(Into::into).collect(),
        mtu: change.mtu().map_or(0, |mtu| u32::from(mtu.get())),
        detect_duplicates: change.duplicates() == DadPolicy::Detect,
        ..wire::UpdateInterfaceRequest::default()
    }
}

impl TryFrom<&wire::UpdateInterfaceRequest> for LinkChange {
    type Error = FieldError;

    fn try_from(request: &wire::UpdateInterfaceRequest) -> Result<Self, FieldError> {
        let wire::UpdateInterfaceRequest {
            name,
            set_addresses,
            addresses: wire_addresses,
            mtu,
            detect_duplicates,
            special_fields: _,
        } = request;
        let name = name.parse::<IfName>().map_err(|bad| bad.in_field("name"))?;
        let wanted = set_addresses
            .then(|| addresses(wire_addresses))
            .transpose()?;
        let mtu = match mtu {
            0 => None,
            bytes => Some(Mtu::try_from(u64::from(*bytes)).map_err(|bad| bad.in_field("mtu"))?),
        };
        let change = LinkChange::new(name, wanted, mtu, "addresses")?;
        Ok(change.with_dad((*detect_duplicates).into()))
    }
}

#[cfg(test)]
mod tests {
    use protobuf::Message;

    use super::*;
    use patchbay_types::InterfaceAddress;

    #[test]
    fn no_addresses_and_none_said_stay_apart_on_the_wire() {
        let address = InterfaceAddress::new("fd00::1".parse().unwrap(), 64).unwrap();
        for wanted in [None, Some(vec![]), Some(vec![address])] {
            let mtu = Mtu::try_from(1500).ok();
            let sent = LinkChange::new("eth1".parse().unwrap(), wanted, mtu, "addresses").unwrap();
            let sent = sent.with_dad(DadPolicy::Detect);
            let bytes = update_request(&sent).write_to_bytes().unwrap();
            let read = wire::UpdateInterfaceRequest::parse_from_bytes(&bytes).unwrap();
            assert_eq!(LinkChange::try_from(&read).unwrap(), sent);
        }
    }

    #[test]
    fn each_bad_field_is_named() {
        type Break = fn(&mut wire::UpdateInterfaceRequest);
        let cases: [(&str, Break); 3] = [
            ("name", |r| r.name.clear()),
            ("mtu", |r| r.mtu = 67),
            ("addresses[0]", |r| {
                r.addresses.push(wire::Address::default());
            }),
        ];
        for (field, break_it) in cases {
            let mut request = wire::UpdateInterfaceRequest {
                name: "eth1".to_owned(),
                set_addresses: true,
                ..wire::UpdateInterfaceRequest::default()
            };
            break_it(&mut request);
            assert_eq!(LinkChange::try_from(&request).unwrap_err().field(), field);
        }
    }
}
