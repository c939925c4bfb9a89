//! IPVS settings: the files in `/proc/sys/net/ipv4/vs`.
//!
//! Ranges are those of the kernel's documentation (ipvs-sysctl). It has none for `amemthresh`,
//! `am_droprate`, `sync_qlen_max`, `sync_sock_size`, `sync_refresh_period` and `conn_reuse_mode`.
//! The kernel accepts more values for most settings, and misinterprets them.

use std::fmt;
use std::str::FromStr;

use crate::InvalidValue;

/// Setting. Its number is part of the wire format, so new settings are added at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
#[allow(missing_docs, reason = "the table below says what each is")]
pub enum Sysctl {
    AmDroprate,
    Amemthresh,
    BackupOnly,
    CacheBypass,
    ConnReuseMode,
    Conntrack,
    DropEntry,
    DropPacket,
    ExpireNodestConn,
    ExpireQuiescentTemplate,
    IgnoreTunneled,
    NatIcmpSend,
    PmtuDisc,
    RunEstimation,
    ScheduleIcmp,
    SecureTcp,
    SloppySctp,
    SloppyTcp,
    SnatReroute,
    SyncPersistMode,
    SyncPorts,
    SyncQlenMax,
    SyncRefreshPeriod,
    SyncRetries,
    SyncSockSize,
    SyncThreshold,
    SyncVersion,
}

/// Legal values of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Legal {
    /// 0 to this number.
    UpTo(i64),
    /// A power of two: the kernel spreads connections over ports by their low bits.
    PowerOfTwo(i64),
    /// A threshold and a period, which is 0 or larger than the threshold.
    Threshold,
}

use Legal::{PowerOfTwo, Threshold, UpTo};

/// Maximum of a C `int`.
const INT: i64 = i32::MAX as i64;
/// Maximum in seconds: an `int` of jiffies on every kernel.
const SECONDS: i64 = INT / 1000;
const FLAG: Legal = UpTo(1);

type Row = (Sysctl, &'static str, Legal, &'static str);

/// Settings in the order of their numbers and names.
const TABLE: [Row; 27] = [
    (
        Sysctl::AmDroprate,
        "am_droprate",
        UpTo(INT),
        "one packet in so many is dropped where drop_packet is 3",
    ),
    (
        Sysctl::Amemthresh,
        "amemthresh",
        UpTo(INT),
        "free pages below which the automatic defences work",
    ),
    (
        Sysctl::BackupOnly,
        "backup_only",
        FLAG,
        "a backup of the sync daemon forwards nothing itself",
    ),
    (
        Sysctl::CacheBypass,
        "cache_bypass",
        FLAG,
        "without a cache server packets go to where they were meant for",
    ),
    (
        Sysctl::ConnReuseMode,
        "conn_reuse_mode",
        UpTo(3),
        "a client's port that is used again gets a new server: 0 never, 1 where that is safe, 2 also while a connection ends",
    ),
    (
        Sysctl::Conntrack,
        "conntrack",
        FLAG,
        "connections of IPVS are tracked by conntrack too",
    ),
    (
        Sysctl::DropEntry,
        "drop_entry",
        UpTo(3),
        "half-open connections are dropped at random: 0 never, 1 and 2 short of memory, 3 always",
    ),
    (
        Sysctl::DropPacket,
        "drop_packet",
        UpTo(3),
        "packets are dropped before they are forwarded: 0 never, 1 and 2 short of memory, 3 always",
    ),
    (
        Sysctl::ExpireNodestConn,
        "expire_nodest_conn",
        FLAG,
        "connections end with their server",
    ),
    (
        Sysctl::ExpireQuiescentTemplate,
        "expire_quiescent_template",
        FLAG,
        "persistent clients leave a server of weight 0",
    ),
    (
        Sysctl::IgnoreTunneled,
        "ignore_tunneled",
        FLAG,
        "packets of protocols that IPVS does not know are never scheduled again",
    ),
    (
        Sysctl::NatIcmpSend,
        "nat_icmp_send",
        FLAG,
        "a server whose connection is unknown gets an ICMP error",
    ),
    (
        Sysctl::PmtuDisc,
        "pmtu_disc",
        FLAG,
        "packets that are too long and must not be cut are refused",
    ),
    (
        Sysctl::RunEstimation,
        "run_estimation",
        FLAG,
        "rates and counters are kept up to date",
    ),
    (
        Sysctl::ScheduleIcmp,
        "schedule_icmp",
        FLAG,
        "ICMP that belongs to no connection is scheduled",
    ),
    (
        Sysctl::SecureTcp,
        "secure_tcp",
        UpTo(3),
        "stricter states of TCP: 0 never, 1 and 2 short of memory, 3 always",
    ),
    (
        Sysctl::SloppySctp,
        "sloppy_sctp",
        FLAG,
        "any packet of SCTP begins a connection",
    ),
    (
        Sysctl::SloppyTcp,
        "sloppy_tcp",
        FLAG,
        "any packet of TCP begins a connection",
    ),
    (
        Sysctl::SnatReroute,
        "snat_reroute",
        FLAG,
        "answers are routed as if this guest had sent them",
    ),
    (
        Sysctl::SyncPersistMode,
        "sync_persist_mode",
        FLAG,
        "of persistent services only the templates are synchronised",
    ),
    (
        Sysctl::SyncPorts,
        "sync_ports",
        PowerOfTwo(64),
        "threads and ports of a sync daemon",
    ),
    (
        Sysctl::SyncQlenMax,
        "sync_qlen_max",
        UpTo(INT),
        "most messages that wait to be sent to the backup",
    ),
    (
        Sysctl::SyncRefreshPeriod,
        "sync_refresh_period",
        UpTo(SECONDS),
        "seconds by which a timer must have moved before it is synchronised again",
    ),
    (
        Sysctl::SyncRetries,
        "sync_retries",
        UpTo(3),
        "how often an unchanged connection is synchronised again",
    ),
    (
        Sysctl::SyncSockSize,
        "sync_sock_size",
        UpTo(INT),
        "bytes that the sync daemon's socket may hold; 0 is the system's",
    ),
    (
        Sysctl::SyncThreshold,
        "sync_threshold",
        Threshold,
        "a connection is synchronised after THRESHOLD packets, and then once in every PERIOD packets",
    ),
    (
        Sysctl::SyncVersion,
        "sync_version",
        FLAG,
        "version of the synchronisation protocol that is sent",
    ),
];

impl Sysctl {
    /// Returns all settings by name.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|(sysctl, ..)| *sysctl)
    }

    fn row(self) -> &'static Row {
        &TABLE[usize::from(self.number())]
    }

    /// Returns the number on the wire.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// Returns the name of the file.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// Describes the legal values.
    #[must_use]
    pub fn legal(self) -> String {
        self.row().2.to_string()
    }

    /// Describes the effect.
    #[must_use]
    pub fn purpose(self) -> &'static str {
        self.row().3
    }
}

impl TryFrom<u8> for Sysctl {
    type Error = InvalidValue;

    fn try_from(number: u8) -> Result<Self, InvalidValue> {
        let row = TABLE.get(usize::from(number));
        let none = || InvalidValue::new(&number.to_string(), "there is no such setting");
        row.map(|(sysctl, ..)| *sysctl).ok_or_else(none)
    }
}

impl FromStr for Sysctl {
    type Err = InvalidValue;

    fn from_str(name: &str) -> Result<Self, InvalidValue> {
        let short = name.strip_prefix("net.ipv4.vs.").unwrap_or(name);
        let row = TABLE.iter().find(|(_, known, ..)| *known == short);
        let none = || InvalidValue::new(name, "it is no setting of IPVS; sysctl list shows them");
        row.map(|(sysctl, ..)| *sysctl).ok_or_else(none)
    }
}

impl fmt::Display for Legal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UpTo(1) => write!(f, "0 or 1"),
            UpTo(most) => write!(f, "0 to {most}"),
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
        let legal = wanted.sysctl.row().2;
        if !legal.takes(wanted.value) {
            let rule = format!("{} is {legal}", wanted.sysctl.name());
            return Err(InvalidValue::new(&wanted.value.to_string(), rule));
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
