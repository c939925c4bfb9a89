//! Model of the guest: the cards that its kernel has detected, and the agent that configures them.

use std::collections::BTreeMap;

use patchbay_types::failure::{Failure, Kind};
use patchbay_wire::proto::agent as wire;
use patchbay_wire::{API_VERSION, Feature, layouts};

use crate::agent::{Call, Caller};

/// State of the guest.
#[derive(Debug)]
pub(crate) struct Guest {
    /// Cards by their PCI path.
    pub(crate) links: BTreeMap<Vec<u8>, wire::Interface>,
    /// Calls that wait for a card.
    pub(crate) waiting: Vec<Waiting>,
    last_index: u32,
}

/// Call that waits for a card.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) caller: Caller,
    pub(crate) deadline: u64,
    pub(crate) request: Awaited,
}

/// Request that waits for a card.
#[derive(Debug)]
pub(crate) enum Awaited {
    Configure(wire::ConfigureInterfaceRequest),
    Release(wire::ReleaseCardRequest),
}

/// Answer to a call.
pub(crate) enum Answer {
    Reply(Result<Vec<u8>, Failure>),
    Wait(u32, Awaited),
}

const MTU: u32 = 1500;

impl Guest {
    pub(crate) fn new() -> Self {
        Self {
            links: BTreeMap::new(),
            waiting: Vec::new(),
            last_index: 1,
        }
    }

    /// Detects a card.
    pub(crate) fn detect(&mut self, path: Vec<u8>, mac: &str) {
        self.last_index += 1;
        let octets = mac
            .split(':')
            .map(|octet| u8::from_str_radix(octet, 16).unwrap());
        let link = wire::Interface {
            index: self.last_index,
            name: format!("eth{}", self.last_index + 100),
            mac: octets.collect(),
            mtu: MTU,
            pci_path: path.clone(),
            ..wire::Interface::default()
        };
        self.links.insert(path, link);
    }

    /// Carries a call out, or keeps it until its card is there.
    pub(crate) fn carry_out(&mut self, call: &Call) -> Answer {
        match call.method.as_str() {
            "Hello" => reply(&greeting()),
            "MarkCard" => reply(&wire::MarkCardReply::new()),
            "ListInterfaces" => reply(&wire::ListInterfacesReply {
                interfaces: self.links.values().cloned().collect(),
                ..Default::default()
            }),
            "LocateCards" => {
                let request: wire::LocateCardsRequest = parse(call);
                reply(&self.locate(&request))
            }
            "ConfigureInterface" => {
                let request: wire::ConfigureInterfaceRequest = parse(call);
                Answer::Wait(request.wait_ms, Awaited::Configure(request))
            }
            "ReleaseCard" => {
                let request: wire::ReleaseCardRequest = parse(call);
                Answer::Wait(request.wait_ms, Awaited::Release(request))
            }
            "UpdateInterface" => Answer::Reply(self.update(&parse(call))),
            other => {
                let message = format!("the model has no method {other}");
                Answer::Reply(Err(Failure::new(Kind::Unsupported, message)))
            }
        }
    }

    /// Returns whether the card of a call that waits is there, or gone.
    pub(crate) fn is_answerable(&self, request: &Awaited) -> bool {
        match request {
            Awaited::Configure(request) => self.links.contains_key(&request.pci_path),
            Awaited::Release(request) => !self.links.contains_key(&request.pci_path),
        }
    }

    /// Answers a call that has waited.
    pub(crate) fn answer(&mut self, request: &Awaited) -> Result<Vec<u8>, Failure> {
        match request {
            _ if !self.is_answerable(request) => Err(Failure::new(
                Kind::Timeout,
                "the guest is not ready in time",
            )),
            Awaited::Configure(request) => self.configure(request),
            Awaited::Release(_) => Ok(encode(&wire::ReleaseCardReply::new())),
        }
    }

    fn configure(&mut self, request: &wire::ConfigureInterfaceRequest) -> Result<Vec<u8>, Failure> {
        let mut links = self.links.values();
        let is_taken =
            |link: &wire::Interface| link.name == request.name && link.pci_path != request.pci_path;
        if links.any(is_taken) {
            return Err(Failure::new(Kind::Exists, "the name is taken"));
        }
        let link = self.links.get_mut(&request.pci_path).unwrap();
        if link.mac != request.mac {
            return Err(Failure::new(Kind::NotFound, "another card is at the path"));
        }
        link.name.clone_from(&request.name);
        link.mtu = request.mtu;
        link.addresses.clone_from(&request.addresses);
        link.up = true;
        link.no_arp = request.no_arp;
        Ok(encode(&wire::Configured {
            interface: Some(link.clone()).into(),
            ..Default::default()
        }))
    }

    fn update(&mut self, request: &wire::UpdateInterfaceRequest) -> Result<Vec<u8>, Failure> {
        let mut links = self.links.values_mut();
        let found = links.find(|link| match &request.pci_path[..] {
            [] => link.name == request.name,
            path => link.pci_path == path,
        });
        let absent = || Failure::new(Kind::NotFound, "there is no such interface");
        let link = found.ok_or_else(absent)?;
        if request.set_addresses {
            link.addresses.clone_from(&request.addresses);
        }
        if request.mtu != 0 {
            link.mtu = request.mtu;
        }
        Ok(encode(link))
    }

    fn locate(&self, request: &wire::LocateCardsRequest) -> wire::LocateCardsReply {
        let place = |path: &Vec<u8>| wire::Place {
            kind: if self.links.contains_key(path) { 5 } else { 1 },
            ..Default::default()
        };
        wire::LocateCardsReply {
            places: request.pci_paths.iter().map(place).collect(),
            ..Default::default()
        }
    }
}

fn greeting() -> wire::HelloReply {
    let absent = [Feature::Cancel, Feature::RestoreProgress];
    let features = Feature::ALL
        .into_iter()
        .filter(|feature| !absent.contains(feature));
    wire::HelloReply {
        api_version: API_VERSION,
        features: features.map(|feature| feature.name().to_owned()).collect(),
        layouts: Some(layouts()).into(),
        boot_id: "0ab2e5f4-6d1c-4a0e-9c7b-1f2e3d4c5b6a".to_owned(),
        ..Default::default()
    }
}

fn parse<M: protobuf::Message>(call: &Call) -> M {
    M::parse_from_bytes(&call.payload).unwrap()
}

fn encode(message: &impl protobuf::Message) -> Vec<u8> {
    message.write_to_bytes().unwrap()
}

fn reply(message: &impl protobuf::Message) -> Answer {
    Answer::Reply(Ok(encode(message)))
}
