//! Tracked flows.

use patchbay_types::conntrack::{
    Flow, Tuple, has_ports, protocol_name, status_names, tcp_state_name,
};
use serde::Serialize;

use super::Tabular;
use super::table::Cells;

/// A flow of `conntrack list`.
#[derive(Debug, Serialize)]
pub(crate) struct FlowJson {
    protocol: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<String>,
    #[serde(flatten)]
    orig: OriginalDirection,
    #[serde(flatten)]
    reply: ReplyDirection,
    mark: u32,
    zone: u16,
    status: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<u32>,
    id: u32,
}

/// As the first packet went.
#[derive(Debug, Serialize)]
struct OriginalDirection {
    src: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    sport: Option<u16>,
    dst: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    dport: Option<u16>,
}

/// As answers come.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ReplyDirection {
    reply_src: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply_sport: Option<u16>,
    reply_dst: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply_dport: Option<u16>,
}

impl From<&Tuple> for OriginalDirection {
    fn from(tuple: &Tuple) -> Self {
        Self {
            src: tuple.src.to_string(),
            sport: tuple.src_port,
            dst: tuple.dst.to_string(),
            dport: tuple.dst_port,
        }
    }
}

impl From<&Tuple> for ReplyDirection {
    fn from(tuple: &Tuple) -> Self {
        Self {
            reply_src: tuple.src.to_string(),
            reply_sport: tuple.src_port,
            reply_dst: tuple.dst.to_string(),
            reply_dport: tuple.dst_port,
        }
    }
}

impl From<&Flow> for FlowJson {
    fn from(flow: &Flow) -> Self {
        let named =
            |name: Option<&str>, number: u8| name.map_or_else(|| number.to_string(), str::to_owned);
        let with_ports = |tuple: Tuple| Tuple {
            src_port: tuple.src_port.filter(|_| has_ports(flow.protocol)),
            dst_port: tuple.dst_port.filter(|_| has_ports(flow.protocol)),
            ..tuple
        };
        let state = |state| named(tcp_state_name(state), state);
        Self {
            protocol: named(protocol_name(flow.protocol), flow.protocol),
            state: flow.tcp_state.map(state),
            orig: (&with_ports(flow.orig)).into(),
            reply: (&with_ports(flow.reply)).into(),
            mark: flow.mark,
            zone: flow.zone,
            status: status_names(flow.status).collect(),
            timeout: flow.timeout,
            id: flow.id,
        }
    }
}

impl Tabular for FlowJson {
    fn rows(&self) -> Vec<Cells> {
        let cells = Cells::default()
            .with("PROTOCOL", &self.protocol)
            .with_some("STATE", self.state.as_ref())
            .with("SRC", &self.orig.src)
            .with_some("SPORT", self.orig.sport)
            .with("DST", &self.orig.dst)
            .with_some("DPORT", self.orig.dport)
            .with("REPLYSRC", &self.reply.reply_src)
            .with_some("REPLYSPORT", self.reply.reply_sport)
            .with("REPLYDST", &self.reply.reply_dst)
            .with_some("REPLYDPORT", self.reply.reply_dport)
            .with("MARK", self.mark)
            .with("ZONE", self.zone)
            .with("STATUS", self.status.join(" "))
            .with_some("TIMEOUT", self.timeout)
            .with("ID", self.id);
        vec![cells]
    }
}
