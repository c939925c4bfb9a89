//! Settings of IPVS (`/proc/sys/net/ipv4/vs`), of forwarding, and of the size and timeouts of conntrack.
//!
//! Ranges are those of the kernel's documentation (ipvs-sysctl, ip-sysctl, nf_conntrack-sysctl). It has
//! none for `amemthresh`, `am_droprate`, `sync_qlen_max`, `sync_sock_size`, `sync_refresh_period`,
//! `conn_reuse_mode`, and for the numbers of conntrack. The kernel accepts more values for most
//! settings, and misinterprets them.

use std::fmt;
use std::str::FromStr;

use crate::InvalidValue;

/// Setting, as its row in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sysctl(u8);

/// Legal values of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Legal {
    /// 0 to this number.
    UpTo(i64),
    /// 1 to this number.
    From1To(i64),
    /// A power of two: the kernel spreads connections over ports by their low bits.
    PowerOfTwo(i64),
    /// A multiple of this number, to which the kernel rounds, up to the second one.
    MultipleOf(i64, i64),
    /// A threshold and a period, which is 0 or larger than the threshold.
    Threshold,
}

use Legal::{From1To, MultipleOf, PowerOfTwo, Threshold, UpTo};

/// Maximum of a C `int`.
const INT: i64 = i32::MAX as i64;
/// Maximum in seconds: an `int` of jiffies on every kernel.
const SECONDS: i64 = INT / 1000;
const FLAG: Legal = UpTo(1);
/// A timeout of 0 would end flows at once.
const TIMEOUT: Legal = From1To(SECONDS);
/// Buckets in a page of 4 KiB, and 32 MiB of them.
const BUCKETS: Legal = MultipleOf(512, 4 << 20);

/// Name, which is that of the file for a setting of IPVS; legal values, effect.
type Row = (&'static str, Legal, &'static str);

/// Settings by name, those of IPVS first. Positions are part of the wire format: new settings are added
/// at the end.
#[rustfmt::skip]
const TABLE: [Row; 46] = [
    ("am_droprate", UpTo(INT), "with drop_packet 3, one in this many packets is dropped"),
    ("amemthresh", UpTo(INT), "number of free pages below which the automatic defences act"),
    ("backup_only", FLAG, "a backup of the sync daemon does not forward"),
    ("cache_bypass", FLAG, "packets go to their original destination if there is no cache server"),
    ("conn_reuse_mode", UpTo(3),
        "a reused client port is scheduled again: 0 never, 1 where safe, 2 also while closing"),
    ("conntrack", FLAG, "conntrack tracks the connections of IPVS"),
    ("drop_entry", UpTo(3),
        "random drop of half-open connections: 0 never, 1 and 2 short of memory, 3 always"),
    ("drop_packet", UpTo(3),
        "drop of packets before they are forwarded: 0 never, 1 and 2 short of memory, 3 always"),
    ("expire_nodest_conn", FLAG, "connections end with their real server"),
    ("expire_quiescent_template", FLAG, "persistent clients leave a real server of weight 0"),
    ("ignore_tunneled", FLAG, "packets of unknown protocols are not scheduled again"),
    ("nat_icmp_send", FLAG, "a real server gets an ICMP error for an unknown connection"),
    ("pmtu_disc", FLAG, "packets that exceed the path MTU are refused"),
    ("run_estimation", FLAG, "rates are estimated"),
    ("schedule_icmp", FLAG, "ICMP packets without a connection are scheduled"),
    ("secure_tcp", UpTo(3), "stricter TCP states: 0 never, 1 and 2 short of memory, 3 always"),
    ("sloppy_sctp", FLAG, "any SCTP packet creates a connection"),
    ("sloppy_tcp", FLAG, "any TCP packet creates a connection"),
    ("snat_reroute", FLAG, "replies are routed like packets that this guest sends"),
    ("sync_persist_mode", FLAG, "for persistent services only the templates are synchronised"),
    ("sync_ports", PowerOfTwo(64), "threads and ports of a sync daemon"),
    ("sync_qlen_max", UpTo(INT), "maximum number of queued sync messages"),
    ("sync_refresh_period", UpTo(SECONDS),
        "change of a timer, in seconds, that synchronises a connection again"),
    ("sync_retries", UpTo(3), "number of repeated synchronisations of an unchanged connection"),
    ("sync_sock_size", UpTo(INT),
        "buffer of the sync daemon's socket in bytes; 0: the system's default"),
    ("sync_threshold", Threshold,
        "packets before a connection is synchronised (THRESHOLD), then packets per sync (PERIOD)"),
    ("sync_version", FLAG, "version of the synchronisation protocol to send"),
    ("net.ipv4.ip_forward", FLAG,
        "IPv4 packets are forwarded, which NAT needs; a change resets other settings of interfaces"),
    ("net.ipv6.conf.all.forwarding", FLAG,
        "IPv6 packets are forwarded, which NAT needs; stops SLAAC unless accept_ra is 2"),
    ("net.netfilter.nf_conntrack_buckets", BUCKETS, "size of the hash table of flows"),
    ("net.netfilter.nf_conntrack_generic_timeout", TIMEOUT,
        "seconds until a flow of another protocol expires"),
    ("net.netfilter.nf_conntrack_icmp_timeout", TIMEOUT, "seconds until a flow of ICMP expires"),
    ("net.netfilter.nf_conntrack_icmpv6_timeout", TIMEOUT,
        "seconds until a flow of ICMPv6 expires"),
    ("net.netfilter.nf_conntrack_max", UpTo(INT), "maximum number of flows; 0: no limit"),
    ("net.netfilter.nf_conntrack_tcp_timeout_close", TIMEOUT,
        "seconds until a flow in the state CLOSE expires"),
    ("net.netfilter.nf_conntrack_tcp_timeout_close_wait", TIMEOUT,
        "seconds until a flow in the state CLOSE_WAIT expires"),
    ("net.netfilter.nf_conntrack_tcp_timeout_established", TIMEOUT,
        "seconds until a flow in the state ESTABLISHED expires"),
    ("net.netfilter.nf_conntrack_tcp_timeout_fin_wait", TIMEOUT,
        "seconds until a flow in the state FIN_WAIT expires"),
    ("net.netfilter.nf_conntrack_tcp_timeout_last_ack", TIMEOUT,
        "seconds until a flow in the state LAST_ACK expires"),
    ("net.netfilter.nf_conntrack_tcp_timeout_max_retrans", TIMEOUT,
        "seconds until a flow with too many retransmissions expires"),
    ("net.netfilter.nf_conntrack_tcp_timeout_syn_recv", TIMEOUT,
        "seconds until a flow in the state SYN_RECV expires"),
    ("net.netfilter.nf_conntrack_tcp_timeout_syn_sent", TIMEOUT,
        "seconds until a flow in the state SYN_SENT expires"),
    ("net.netfilter.nf_conntrack_tcp_timeout_time_wait", TIMEOUT,
        "seconds until a flow in the state TIME_WAIT expires"),
    ("net.netfilter.nf_conntrack_tcp_timeout_unacknowledged", TIMEOUT,
        "seconds until a flow with unacknowledged data expires"),
    ("net.netfilter.nf_conntrack_udp_timeout", TIMEOUT,
        "seconds until a flow of UDP without an answer expires"),
    ("net.netfilter.nf_conntrack_udp_timeout_stream", TIMEOUT,
        "seconds until a flow of UDP with answers expires"),
];

/// Number of settings of IPVS, which are the first of the table. Agents of the first release know no others.
const IPVS: usize = 27;
const IPVS_PREFIX: &str = "net.ipv4.vs.";

impl Sysctl {
    /// Whether IPVS forwards IPv4 packets to other machines.
    pub const IP_FORWARD: Self = Self(27);
    /// The same for IPv6.
    pub const IP6_FORWARD: Self = Self(28);
    /// Whether conntrack tracks the connections of IPVS.
    pub const IPVS_CONNTRACK: Self = Self(5);
    /// Whether connections end with their real server.
    pub const EXPIRE_NODEST_CONN: Self = Self(8);

    /// Maximum number of flows; 0: no limit.
    pub const CONNTRACK_MAX: Self = Self(33);

    /// Returns all settings: those of IPVS by name, then the others by name.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..).map(Self).take(TABLE.len())
    }

    fn row(self) -> &'static Row {
        &TABLE[usize::from(self.0)]
    }

    /// Returns the number on the wire.
    #[must_use]
    pub fn number(self) -> u8 {
        self.0
    }

    /// Returns the name of lists: that of the file for a setting of IPVS, else the full name.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().0
    }

    /// Returns whether this is a setting of IPVS.
    #[must_use]
    pub fn is_ipvs(self) -> bool {
        usize::from(self.0) < IPVS
    }

    /// Returns the name for `sysctl -w`.
    #[must_use]
    pub fn full_name(self) -> String {
        let prefix = if self.is_ipvs() { IPVS_PREFIX } else { "" };
        format!("{prefix}{}", self.name())
    }

    /// Describes the legal values.
    #[must_use]
    pub fn legal(self) -> String {
        self.row().1.to_string()
    }

    /// Describes the effect.
    #[must_use]
    pub fn purpose(self) -> &'static str {
        self.row().2
    }
}

impl TryFrom<u8> for Sysctl {
    type Error = InvalidValue;

    fn try_from(number: u8) -> Result<Self, InvalidValue> {
        if usize::from(number) < TABLE.len() {
            return Ok(Self(number));
        }
        Err(InvalidValue::new(&number, "there is no such setting"))
    }
}

impl FromStr for Sysctl {
    type Err = InvalidValue;

    fn from_str(name: &str) -> Result<Self, InvalidValue> {
        let short = name.strip_prefix(IPVS_PREFIX).unwrap_or(name);
        let found = Self::all().find(|sysctl| {
            let wanted = if sysctl.is_ipvs() { short } else { name };
            sysctl.name() == wanted
        });
        let rule = "it must be an IPVS setting, net.ipv4.ip_forward, net.ipv6.conf.all.forwarding \
                    or a limit of conntrack, see sysctl list";
        found.ok_or_else(|| InvalidValue::new(name, rule))
    }
}

impl fmt::Display for Legal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UpTo(1) => write!(f, "0 or 1"),
            UpTo(most) => write!(f, "0 to {most}"),
            From1To(most) => write!(f, "1 to {most}"),
            MultipleOf(unit, most) => write!(f, "a multiple of {unit}, {unit} to {most}"),
            PowerOfTwo(most) => write!(f, "a power of two, 1 to {most}"),
            Threshold => write!(
                f,
                "THRESHOLD PERIOD: 0 to {INT}, THRESHOLD below PERIOD unless that is 0"
            ),
        }
    }
}

impl Legal {
    fn takes(self, value: SysctlValue) -> bool {
        match (self, value) {
            (UpTo(most), SysctlValue::One(number)) => (0..=most).contains(&number),
            (From1To(most), SysctlValue::One(number)) => (1..=most).contains(&number),
            (MultipleOf(unit, most), SysctlValue::One(number)) => {
                (unit..=most).contains(&number) && number % unit == 0
            }
            (PowerOfTwo(most), SysctlValue::One(number)) => {
                (1..=most).contains(&number) && number.count_ones() == 1
            }
            (Threshold, SysctlValue::Two(threshold, period)) => {
                let numbers = [threshold, period];
                numbers.iter().all(|number| (0..=INT).contains(number))
                    && (threshold < period || period == 0)
            }
            _ => false,
        }
    }
}

/// Content of a setting's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SysctlValue {
    /// Every setting but one.
    One(i64),
    /// `sync_threshold`.
    Two(i64, i64),
}

impl FromStr for SysctlValue {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let numbers: Result<Vec<i64>, _> = text.split_whitespace().map(str::parse).collect();
        match numbers.as_deref() {
            Ok([number]) => Ok(Self::One(*number)),
            Ok([first, second]) => Ok(Self::Two(*first, *second)),
            _ => Err(InvalidValue::new(text, "it is a whole number, or two")),
        }
    }
}

impl fmt::Display for SysctlValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(number) => write!(f, "{number}"),
            Self::Two(first, second) => write!(f, "{first} {second}"),
        }
    }
}

/// Setting with its current value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// Setting.
    pub sysctl: Sysctl,
    /// Value.
    pub value: SysctlValue,
}

/// Setting with a legal new value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting(Reading);

impl Setting {
    /// Checks the value against the range of the setting.
    ///
    /// # Errors
    /// A value outside of the range.
    pub fn new(wanted: Reading) -> Result<Self, InvalidValue> {
        let legal = wanted.sysctl.row().1;
        if !legal.takes(wanted.value) {
            let rule = format!("{} is {legal}", wanted.sysctl.name());
            return Err(InvalidValue::new(&wanted.value, rule));
        }
        Ok(Self(wanted))
    }

    /// Returns setting and value.
    #[must_use]
    pub fn get(&self) -> Reading {
        self.0
    }
}

#[cfg(test)]
mod tests;
