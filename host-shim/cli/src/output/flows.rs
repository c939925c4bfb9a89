//! Output of `conntrack list`.

use patchbay_types::conntrack::{Flow, has_ports, protocol_name, status_names, tcp_state_name};
use serde_json::{Value, json};

use super::without_nulls;

/// Formats a flow of `conntrack list`; `reply` is the direction of the replies.
pub(crate) fn flow(flow: &Flow) -> Value {
    let name_or_number =
        |name: Option<&str>, number: u8| name.map_or_else(|| number.to_string(), str::to_owned);
    let port = |port: Option<u16>| port.filter(|_| has_ports(flow.protocol));
    let state = |state| name_or_number(tcp_state_name(state), state);
    let Flow { orig, reply, .. } = flow;
    without_nulls(json!({
        "protocol": name_or_number(protocol_name(flow.protocol), flow.protocol),
        "state": flow.tcp_state.map(state),
        "src": orig.src,
        "sport": port(orig.src_port),
        "dst": orig.dst,
        "dport": port(orig.dst_port),
        "replySrc": reply.src,
        "replySport": port(reply.src_port),
        "replyDst": reply.dst,
        "replyDport": port(reply.dst_port),
        "mark": flow.mark,
        "zone": flow.zone,
        "status": status_names(flow.status).collect::<Vec<_>>(),
        "timeout": flow.timeout,
        "id": flow.id,
    }))
}
