//! Calls for the settings of IPVS.

use patchbay_codec::{Bulk, Packed as _, Reader, pack};
use patchbay_types::failure::Failure;
use patchbay_types::ipvs::{Reading, Setting};
use patchbay_wire::Feature;
use patchbay_wire::proto::ipvs as wire;

use super::{Agent, Call, protocol_error};

const CALL: Call = Call::short(Feature::Ipvs);

impl Agent {
    /// Reads the settings that the guest's kernel has.
    pub fn sysctls(&self) -> Result<Vec<Reading>, Failure> {
        let client = self.ipvs_client();
        let request = wire::SysctlsRequest {
            max_layout: Bulk::Settings.layout(),
            ..wire::SysctlsRequest::default()
        };
        let reply = self.call(CALL, |context| client.sysctls(context, &request))?;
        Bulk::Settings.check(reply.layout).map_err(protocol_error)?;
        let mut reader = Reader::new(&reply.readings);
        let mut readings = Vec::new();
        while !reader.is_empty() {
            readings.push(Reading::unpack(&mut reader).map_err(protocol_error)?);
        }
        Ok(readings)
    }

    /// Changes a setting.
    pub fn set_sysctl(&self, setting: &Setting) -> Result<(), Failure> {
        let client = self.ipvs_client();
        let request = wire::SetSysctlRequest {
            setting: pack(setting),
            ..wire::SetSysctlRequest::default()
        };
        let call = |context| client.set_sysctl(context, &request);
        self.call(CALL, call).map(drop)
    }
}
