//! Output of `conntrack list`.

use patchbay_types::conntrack::{
    Flow, GRE, Tuple, has_ports, protocol_name, state_name, status_names,
};
use serde_json::{Value, json};

use super::json::without_nulls;
use super::table::Column;

/// Columns of `conntrack list`. JSON has the other keys too, which few flows have.
pub(crate) const FLOWS: &[Column] = &[
    Column::new("protocol"),
    Column::new("state"),
    Column::new("src"),
    Column::new("sport"),
    Column::new("dst"),
    Column::new("dport"),
    Column::new("replySrc"),
    Column::new("replySport"),
    Column::new("replyDst"),
    Column::new("replyDport"),
    Column::new("mark"),
    Column::new("status"),
    Column::new("timeout"),
];

/// Formats a flow of `conntrack list`; `reply` is the direction of the replies.
pub(crate) fn flow(flow: &Flow) -> Value {
    let name_or_number =
        |name: Option<&str>, number: u8| name.map_or_else(|| number.to_string(), str::to_owned);
    let port = |port: Option<u16>| port.filter(|_| has_ports(flow.protocol));
    let key = |key: Option<u16>| key.filter(|_| flow.protocol == GRE);
    let state = |state| name_or_number(state_name(flow.protocol, state), state);
    let zone = |tuple: &Tuple| Some(tuple.zone).filter(|zone| *zone != 0);
    let labels = (0..u128::BITS).filter(|bit| flow.labels >> bit & 1 == 1);
    let labels: Vec<u32> = labels.collect();
    let Flow { orig, reply, .. } = flow;
    without_nulls(json!({
        "protocol": name_or_number(protocol_name(flow.protocol), flow.protocol),
        "state": flow.state.map(state),
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
        "icmpType": orig.icmp.map(|icmp| icmp.kind),
        "icmpCode": orig.icmp.map(|icmp| icmp.code),
        "icmpId": orig.icmp.map(|icmp| icmp.id),
        "srcKey": key(orig.src_port),
        "dstKey": key(orig.dst_port),
        "replySrcKey": key(reply.src_port),
        "replyDstKey": key(reply.dst_port),
        "origZone": zone(orig),
        "replyZone": zone(reply),
        "labels": (!labels.is_empty()).then_some(labels),
    }))
}
