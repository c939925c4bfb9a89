//! Calls for settings.

use patchbay_codec::{Bulk, Layered as _, Packed as _, Reader, pack};
use patchbay_types::failure::Failure;
use patchbay_types::ipvs::{Reading, Setting};
use patchbay_wire::Feature;
use patchbay_wire::proto::ipvs as wire;

use super::{Agent, Call, protocol_error};

const CALL: Call = Call::short(Feature::Ipvs);
/// Agents that read this layout can skip an IPVS that isn't loaded.
const LAYOUT_OF_LOADED: u32 = 1;

/// Settings of the modules that are loaded in the guest.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct LoadedSettings {
    pub(crate) readings: Vec<Reading>,
    /// Number of flows that conntrack tracks; `None` if it isn't loaded, and of agents that don't report it.
    pub(crate) flows: Option<u32>,
}

impl LoadedSettings {
    /// Returns whether IPVS is loaded.
    pub(crate) fn has_ipvs(&self) -> bool {
        self.readings.iter().any(|reading| reading.sysctl.is_ipvs())
    }
}

impl Agent {
    /// Reads the settings that the guest's kernel has.
    pub fn sysctls(&self) -> Result<Vec<Reading>, Failure> {
        Ok(self.read_settings(&request())?.readings)
    }

    /// Reads the settings without loading a module in the guest; `None` if the agent can't.
    pub(crate) fn loaded_settings(&self) -> Result<Option<LoadedSettings>, Failure> {
        let greeting = self.greeting()?;
        match greeting.require_layout(Bulk::Settings, LAYOUT_OF_LOADED) {
            Ok(()) => {
                let mut request = request();
                request.loaded = true;
                self.read_settings(&request).map(Some)
            }
            Err(_) => Ok(None),
        }
    }

    fn read_settings(&self, request: &wire::SysctlsRequest) -> Result<LoadedSettings, Failure> {
        let client = self.ipvs_client();
        let reply = self.call(CALL.reading(), |context| client.sysctls(context, request))?;
        Bulk::Settings.check(reply.layout).map_err(protocol_error)?;
        let mut reader = Reader::new(&reply.readings);
        let mut readings = Vec::new();
        while !reader.is_empty() {
            readings.push(Reading::unpack(&mut reader).map_err(protocol_error)?);
        }
        Ok(LoadedSettings {
            readings,
            flows: reply.flows,
        })
    }

    /// Changes a setting.
    pub fn set_sysctl(&self, setting: &Setting) -> Result<(), Failure> {
        let layout = setting.get().layout();
        self.require_layout(Bulk::Settings, layout)?;
        let client = self.ipvs_client();
        let request = wire::SetSysctlRequest {
            setting: pack(setting),
            layout,
            ..wire::SetSysctlRequest::default()
        };
        let call = |context| client.set_sysctl(context, &request);
        self.call(CALL, call).map(drop)
    }
}

fn request() -> wire::SysctlsRequest {
    wire::SysctlsRequest {
        max_layout: Bulk::Settings.layout(),
        ..wire::SysctlsRequest::default()
    }
}
