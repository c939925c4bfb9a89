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

/// Protocols whose flows have ports.
const WITH_PORTS: [u8; 5] = [6, 17, 132, 33, 136];

/// TCP states in the order of `TCP_CONNTRACK_*`, from 0.
pub const TCP_STATES: [&str; 10] = [
    "NONE",
    "SYN_SENT",
    "SYN_RECV",
    "ESTABLISHED",
    "FIN_WAIT",
    "CLOSE_WAIT",
    "LAST_ACK",
    "TIME_WAIT",
    "CLOSE",
    "SYN_SENT2",
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

/// Returns the name of a TCP state; `None` for an unknown one.
#[must_use]
pub fn tcp_state_name(state: u8) -> Option<&'static str> {
    TCP_STATES.get(usize::from(state)).copied()
}

/// Returns the names of status bits, as `--status` accepts them.
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
        assert_eq!(tcp_state_name(3), Some("ESTABLISHED"));
        assert_eq!(tcp_state_name(10), None);
        let names = |status| status_names(status).collect::<Vec<_>>();
        assert_eq!(names(0b1110), ["SEEN_REPLY", "ASSURED", "CONFIRMED"]);
        assert_eq!(names(0b1000), ["CONFIRMED", "UNREPLIED"]);
    }
}
