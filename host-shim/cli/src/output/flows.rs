//! Output of `conntrack list`.

use std::net::IpAddr;

use patchbay_types::conntrack::{Flow, has_ports, protocol_name, status_names, tcp_state_name};
use serde::Serialize;

/// A flow of `conntrack list`; `reply` is the direction of the replies.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FlowJson {
    protocol: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<String>,
    src: IpAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    sport: Option<u16>,
    dst: IpAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    dport: Option<u16>,
    reply_src: IpAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply_sport: Option<u16>,
    reply_dst: IpAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply_dport: Option<u16>,
    mark: u32,
    zone: u16,
    status: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<u32>,
    id: u32,
}

impl From<&Flow> for FlowJson {
    fn from(flow: &Flow) -> Self {
        let name_or_number =
            |name: Option<&str>, number: u8| name.map_or_else(|| number.to_string(), str::to_owned);
        let port = |port: Option<u16>| port.filter(|_| has_ports(flow.protocol));
        let state = |state| name_or_number(tcp_state_name(state), state);
        let Flow { orig, reply, .. } = flow;
        Self {
            protocol: name_or_number(protocol_name(flow.protocol), flow.protocol),
            state: flow.tcp_state.map(state),
            src: orig.src,
            sport: port(orig.src_port),
            dst: orig.dst,
            dport: port(orig.dst_port),
            reply_src: reply.src,
            reply_sport: port(reply.src_port),
            reply_dst: reply.dst,
            reply_dport: port(reply.dst_port),
            mark: flow.mark,
            zone: flow.zone,
            status: status_names(flow.status).collect(),
            timeout: flow.timeout,
            id: flow.id,
        }
    }
}
