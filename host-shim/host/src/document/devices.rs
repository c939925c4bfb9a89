//! Devices of the guest when the cards are as wanted.

use std::collections::{HashMap, HashSet};

use patchbay_types::failure::{Failure, Kind};
use patchbay_types::{LinkName, RouteSpec};

use super::present::Present;
use super::{Unplug, Wanted};

/// Devices that routes and neighbors can use when the cards are as wanted.
pub(super) struct Devices {
    names: HashSet<LinkName>,
    /// Present names by plugged ones.
    renamed: HashMap<LinkName, LinkName>,
}

impl Devices {
    /// Returns the present devices without the cards that are unplugged, and the cards of the document.
    pub(super) fn new<'a>(
        wanted: &Wanted,
        present: &Present,
        unplugged: impl Iterator<Item = &'a Unplug>,
    ) -> Self {
        let mut names = present.names.clone();
        let mut renamed = present.renamed.clone();
        for unplug in unplugged {
            let name = LinkName::from(unplug.card.name());
            names.remove(&renamed.remove(&name).unwrap_or(name));
        }
        let wanted = wanted.interfaces.iter().flatten();
        names.extend(wanted.map(|request| LinkName::from(request.name())));
        Self { names, renamed }
    }

    /// Returns the present name of a device.
    ///
    /// # Errors
    /// [`Kind::NotFound`] for a device that does not exist; `field` is its place in the document.
    pub(super) fn present_name(
        &self,
        device: &LinkName,
        field: String,
    ) -> Result<LinkName, Failure> {
        if let Some(now) = self.renamed.get(device) {
            return Ok(now.clone());
        }
        if self.names.contains(device) {
            return Ok(device.clone());
        }
        let message =
            format!("device '{device}' is not an interface of the guest, nor of the document");
        Err(Failure::new(Kind::NotFound, message).with_field(field))
    }

    /// Returns the routes with the present names of their devices.
    ///
    /// # Errors
    /// Those of [`Self::present_name`]; [`Kind::Invalid`] for two routes of the same table, destination and
    /// metric.
    pub(super) fn routes(&self, wanted: &[RouteSpec]) -> Result<Vec<RouteSpec>, Failure> {
        let mut seen = HashMap::new();
        let mut list = wanted.to_vec();
        for (index, spec) in list.iter_mut().enumerate() {
            let route = spec.resolve();
            if seen.insert(route.identity(), index).is_some() {
                let rule =
                    "table, destination and metric are those of another route of the document";
                let message = format!("the route {route} can't be added: {rule}");
                let failure = Failure::new(Kind::Invalid, message);
                return Err(failure.with_field(format!("routes[{index}]")));
            }
            let device = spec.device_mut();
            *device = self.present_name(device, format!("routes[{index}].device"))?;
        }
        Ok(list)
    }
}
