//! Records of cards in the journal.

use std::path::{Path, PathBuf};

use patchbay_types::{IfName, LinkName, PciPath};
use serde::{Deserialize, Serialize};

use super::host_record::HostRecord;
use super::link_record::LinkRecord;
use super::tap_record::{MtuState, SavedTap};
use crate::card::{Backend, BridgePort, CardRequest, Listener, PlugRequest};
use crate::mirror::MirrorRecord;
use crate::netns::NetnsId;
use crate::process::Process;

/// Phase of a card's operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Plugging has begun; QEMU knows how far it came.
    Adding,
    /// The card is plugged.
    Plugged,
    /// Unplugging has begun.
    Removing,
}

/// Journal entry of a card.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CardRecord {
    pub(crate) phase: Phase,
    /// Name in the guest.
    #[serde(with = "name_as_text")]
    pub(crate) name: IfName,
    /// Host device as the operator names it.
    #[serde(with = "name_as_text")]
    pub(crate) device: LinkName,
    /// Path of the host device's network namespace; `None`: that of the command. Other commands can
    /// name the sandbox in a way that leads to another namespace, or to none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) netns: Option<PathBuf>,
    /// Identity of that namespace, by which another one of the same name is recognized; absent for
    /// vhost-user cards and in records of releases before 0.3.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) netns_id: Option<NetnsId>,
    /// Process that plugs or removes the card; `None` if no process waits for the guest any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) owner: Option<Process>,
    /// Suffix of QEMU's ids and descriptor names, new for each plug.
    #[serde(rename = "attempt")]
    pub(crate) suffix: String,
    /// Names of the descriptors handed to QEMU.
    pub(crate) fds: Vec<String>,
    #[serde(rename = "behind")]
    pub(crate) backend: BackendRecord,
    /// PCI path, by which the guest knows the card; absent in records of release 0.1.0.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "path_as_devfns"
    )]
    pub(crate) path: Option<PciPath>,
    /// Configuration in the guest; absent in records of release 0.1.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) link: Option<LinkRecord>,
    #[serde(default, skip_serializing_if = "MtuState::is_settled")]
    pub(crate) mtu: MtuState,
    /// Link that the card mirrors. Its TAP is of the kind [`BackendRecord::OwnTap`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mirror: Option<MirrorRecord>,
    /// Bridge of which the TAP is a port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) port: Option<PortRecord>,
    /// Settings on the host.
    #[serde(default, skip_serializing_if = "HostRecord::is_default")]
    pub(crate) host: HostRecord,
}

/// Port of a bridge in the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PortRecord {
    #[serde(flatten)]
    pub(crate) wanted: BridgePort,
    pub(crate) membership: Membership,
}

/// Program that made a TAP a port of its bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Membership {
    /// patchbay, which takes the TAP out again.
    Own,
    /// Another program, before the card was plugged.
    Foreign,
}

/// Host side of a card.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum BackendRecord {
    /// TAP created for the card; it ends with its last descriptor.
    OwnTap,
    /// TAP that existed, and the state to restore.
    ExistingTap(SavedTap),
    /// Socket of a vhost-user backend, because QEMU forgets the path once it is connected.
    VhostUser(PathBuf, Listener),
}

impl CardRecord {
    /// Prefix of QEMU's device ids of all cards.
    pub(crate) const DEVICE_PREFIX: &str = "pbd.";

    /// Returns whether a command has begun to work on the card and no other process does now. A process that
    /// looks for such cards works on none: a removal that failed must not stay a service's for ever.
    pub(crate) fn is_left(&self) -> bool {
        let own = Process::current();
        let is_owned = self
            .owner
            .is_some_and(|owner| Some(owner) != own && owner.is_alive());
        self.phase != Phase::Plugged && !is_owned
    }

    /// Returns the latest request for the card, with the name under which it was plugged; `None` for a card that the
    /// journal has lost.
    pub(crate) fn request(&self) -> Option<PlugRequest> {
        let link = self.link.as_ref()?.spec.clone();
        let link = link.with_name(self.name.clone());
        if let Some(mirror) = &self.mirror {
            return Some(PlugRequest::Mirror(mirror.request(&link)));
        }
        let backend = match &self.backend {
            BackendRecord::OwnTap | BackendRecord::ExistingTap(_) => {
                let port = self.port.as_ref();
                port.map_or(Backend::Tap, |port| Backend::Bridge(port.wanted.clone()))
            }
            BackendRecord::VhostUser(socket, listener) => {
                Backend::VhostUser(socket.to_str()?.parse().ok()?, *listener)
            }
        };
        Some(PlugRequest::Card(CardRequest {
            device: self.device.clone(),
            backend,
            link,
        }))
    }

    /// Returns QEMU's id of the device.
    pub(crate) fn device_id(name: &IfName) -> String {
        format!("{}{name}", Self::DEVICE_PREFIX)
    }

    /// Returns QEMU's id of the network backend. It is never reused, because a failed `netdev_add`
    /// can leave the id taken.
    pub(crate) fn netdev_id(&self) -> String {
        format!("{}{}", Self::netdev_prefix(&self.name), self.suffix)
    }

    /// Returns QEMU's id of the character device of a vhost-user card.
    pub(crate) fn chardev_id(&self) -> String {
        format!("pbc.{}.{}", self.name, self.suffix)
    }

    /// Returns the socket of a vhost-user card and the side that listens on it.
    pub(crate) fn socket(&self) -> Option<(&Path, Listener)> {
        match &self.backend {
            BackendRecord::OwnTap | BackendRecord::ExistingTap(_) => None,
            BackendRecord::VhostUser(socket, listener) => Some((socket, *listener)),
        }
    }

    /// Returns the prefix of the backend ids of a card; the suffix follows.
    pub(crate) fn netdev_prefix(name: &IfName) -> String {
        format!("pbn.{name}.")
    }
}

/// [`IfName`] or [`LinkName`] as JSON text.
pub(crate) mod name_as_text {
    use std::fmt::Display;
    use std::str::FromStr;

    use patchbay_types::InvalidValue;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(name: &impl Display, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(name)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>, Name>(from: D) -> Result<Name, D::Error>
    where
        Name: FromStr<Err = InvalidValue>,
    {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

/// [`PciPath`] as a list of `devfn` numbers.
mod path_as_devfns {
    use patchbay_types::{PciAddress, PciPath};
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[expect(clippy::ref_option, reason = "the signature that serde needs")]
    pub(super) fn serialize<S: Serializer>(
        path: &Option<PciPath>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        let steps = path.iter().flat_map(PciPath::steps);
        steps
            .map(|step| step.devfn())
            .collect::<Vec<_>>()
            .serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<PciPath>, D::Error> {
        let devfns = Vec::<u8>::deserialize(from)?.into_iter();
        let path = PciPath::new(devfns.map(PciAddress::from_devfn).collect());
        path.map(Some).map_err(D::Error::custom)
    }
}
