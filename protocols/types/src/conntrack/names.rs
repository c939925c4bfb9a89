//! conntrack's names of protocols, states and status bits.

/// Protocols that conntrack knows by name.
pub const PROTOCOLS: &[(&str, u8)] = &[
    ("tcp", 6),
    ("udp", 17),
    ("sctp", 132),
    ("icmp", 1),
    ("icmpv6", 58),
    ("gre", 47),
    ("dccp", 33),
    ("udplite", 136),
];

/// `IPPROTO_ICMP`.
pub const ICMP: u8 = 1;
/// `IPPROTO_ICMPV6`.
pub const ICMPV6: u8 = 58;
/// `IPPROTO_GRE`.
pub const GRE: u8 = 47;

/// Protocols whose flows have ports.
const WITH_PORTS: [u8; 5] = [6, 17, 132, 33, 136];

/// States by protocol, in the order of `TCP_CONNTRACK_*`, `SCTP_CONNTRACK_*` and
/// `CT_DCCP_*`, from 0.
#[rustfmt::skip]
const STATES: [(u8, &[&str]); 3] = [
    (6, &[
        "NONE", "SYN_SENT", "SYN_RECV", "ESTABLISHED", "FIN_WAIT", "CLOSE_WAIT", "LAST_ACK",
        "TIME_WAIT", "CLOSE", "SYN_SENT2",
    ]),
    (132, &[
        "NONE", "CLOSED", "COOKIE_WAIT", "COOKIE_ECHOED", "ESTABLISHED", "SHUTDOWN_SENT",
        "SHUTDOWN_RECD", "SHUTDOWN_ACK_SENT", "HEARTBEAT_SENT",
    ]),
    (33, &[
        "NONE", "REQUEST", "RESPOND", "PARTOPEN", "OPEN", "CLOSEREQ", "CLOSING", "TIMEWAIT",
        "IGNORE", "INVALID",
    ]),
];

/// Status bits (`IPS_*`) by name.
pub const STATUSES: &[(&str, u32)] = &[
    ("EXPECTED", 1),
    ("SEEN_REPLY", 1 << 1),
    ("ASSURED", 1 << 2),
    ("CONFIRMED", 1 << 3),
    ("SRC_NAT", 1 << 4),
    ("DST_NAT", 1 << 5),
    ("FIXED_TIMEOUT", 1 << 10),
    ("OFFLOAD", 1 << 14),
    ("HW_OFFLOAD", 1 << 15),
];
/// Bit of `SEEN_REPLY` (`IPS_SEEN_REPLY`).
pub const SEEN_REPLY: u32 = 1 << 1;
/// Name for a clear `SEEN_REPLY`.
pub const UNREPLIED: &str = "UNREPLIED";

/// Returns the name of a protocol; `None` if it has only a number.
#[must_use]
pub fn protocol_name(number: u8) -> Option<&'static str> {
    let known = PROTOCOLS.iter().find(|(_, known)| *known == number);
    known.map(|(name, _)| *name)
}

/// Returns whether flows of a protocol have ports. GRE has keys, which the kernel reports as ports.
#[must_use]
pub fn has_ports(protocol: u8) -> bool {
    WITH_PORTS.contains(&protocol)
}

/// Returns the names of a protocol's states by number; empty for a protocol without states.
#[must_use]
pub fn states(protocol: u8) -> &'static [&'static str] {
    let known = STATES.iter().find(|(known, _)| *known == protocol);
    known.map_or(&[], |(_, states)| states)
}

/// Returns the name of a protocol's state; `None` for an unknown one.
#[must_use]
pub fn state_name(protocol: u8, state: u8) -> Option<&'static str> {
    states(protocol).get(usize::from(state)).copied()
}

/// Returns the names of status bits; `--status` accepts all but `CONFIRMED`.
pub fn status_names(status: u32) -> impl Iterator<Item = &'static str> {
    let set = STATUSES.iter().filter(move |(_, bit)| status & bit != 0);
    let unreplied = (status & SEEN_REPLY == 0).then_some(UNREPLIED);
    set.map(|(name, _)| *name).chain(unreplied)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_numbers_have_names() {
        assert_eq!((protocol_name(17), protocol_name(50)), (Some("udp"), None));
        assert_eq!(state_name(6, 3), Some("ESTABLISHED"));
        assert_eq!(state_name(132, 4), Some("ESTABLISHED"));
        assert_eq!((state_name(6, 10), state_name(17, 0)), (None, None));
        let names = |status| status_names(status).collect::<Vec<_>>();
        assert_eq!(names(0b1110), ["SEEN_REPLY", "ASSURED", "CONFIRMED"]);
        assert_eq!(names(0b1000), ["CONFIRMED", "UNREPLIED"]);
    }
}
