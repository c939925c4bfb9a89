//! The calls about the settings of IPVS.

use patchbay_codec::{Packed as _, Reader, pack};
use patchbay_types::failure::Failure;
use patchbay_types::ipvs::{Reading, Setting};
use patchbay_wire::proto::ipvs as wire;
use patchbay_wire::proto::ipvs_ttrpc::IpvsClient;

use super::{ANSWER, Agent, context, nonsense};

impl Agent {
    /// The settings that the guest's kernel has.
    pub fn sysctls(&self) -> Result<Vec<Reading>, Failure> {
        let client = IpvsClient::new(self.transport.clone());
        let request = wire::SysctlsRequest::default();
        let call = client.sysctls(context(ANSWER), &request);
        let reply = self.wait(ANSWER, call)?;
        let mut reader = Reader::new(&reply.readings);
        let mut readings = Vec::new();
        while !reader.is_empty() {
            readings.push(Reading::unpack(&mut reader).map_err(|invalid| nonsense(&invalid))?);
        }
        Ok(readings)
    }

    /// Sets one of them.
    pub fn set_sysctl(&self, setting: &Setting) -> Result<(), Failure> {
        let client = IpvsClient::new(self.transport.clone());
        let request = wire::SetSysctlRequest {
            setting: pack(setting),
            ..wire::SetSysctlRequest::default()
        };
        let call = client.set_sysctl(context(ANSWER), &request);
        self.wait(ANSWER, call)?;
        Ok(())
    }
}
