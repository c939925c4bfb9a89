//! The option table: one row per option of ipvsadm 1.31.

use std::fmt::Write as _;

/// The commands: what the first option of a line asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    AddService,
    EditService,
    DeleteService,
    Clear,
    List,
    AddServer,
    EditServer,
    DeleteServer,
    Set,
    StartDaemon,
    StopDaemon,
    Restore,
    Save,
    Zero,
    Help,
    Version,
}

/// What an option means; those of one group may stand once on a line, all together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Verb(Verb),
    Tcp,
    Udp,
    Sctp,
    Mark,
    Ipv6,
    Scheduler,
    SchedFlags,
    Persistent,
    Netmask,
    Ops,
    Engine,
    Server,
    Gateway,
    Ipip,
    Masquerade,
    Weight,
    Upper,
    Lower,
    TunType,
    TunPort,
    TunNoCsum,
    TunCsum,
    TunRemCsum,
    Connection,
    Numeric,
    Exact,
    Stats,
    Rate,
    Thresholds,
    PersistentConn,
    NoSort,
    Sort,
    TunInfo,
    Timeout,
    Daemon,
    McastInterface,
    SyncId,
    SyncMaxLen,
    McastGroup,
    McastPort,
    McastTtl,
}

/// Whether a value follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    Nothing,
    Value(&'static str),
    /// Only if the next word does not begin with `-`.
    MayTake(&'static str),
}

/// One option.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) key: Key,
    pub(super) short: Option<char>,
    pub(super) long: &'static str,
    pub(super) takes: Takes,
    /// The commands that permit it; empty: it is a command, or outside the rules.
    pub(super) with: &'static [Verb],
    help: &'static str,
}

impl Row {
    /// As messages name it.
    pub(super) fn name(&self) -> String {
        match self.short {
            Some(short) => format!("-{short}/--{}", self.long),
            None => format!("--{}", self.long),
        }
    }
}

const SERVICE: &[Verb] = &[
    Verb::AddService,
    Verb::EditService,
    Verb::DeleteService,
    Verb::List,
    Verb::AddServer,
    Verb::EditServer,
    Verb::DeleteServer,
    Verb::Zero,
];
const MAKE_SERVICE: &[Verb] = &[Verb::AddService, Verb::EditService];
const ANY_SERVER: &[Verb] = &[Verb::AddServer, Verb::EditServer, Verb::DeleteServer];
const MAKE_SERVER: &[Verb] = &[Verb::AddServer, Verb::EditServer];
const LIST: &[Verb] = &[Verb::List];
const SHOW: &[Verb] = &[Verb::List, Verb::Save];
const START: &[Verb] = &[Verb::StartDaemon];
const SYNC_ID: &[Verb] = &[Verb::List, Verb::StartDaemon, Verb::StopDaemon];
const ALWAYS: &[Verb] = &[];

const fn row(
    key: Key,
    (short, long): (Option<char>, &'static str),
    takes: Takes,
    with: &'static [Verb],
    help: &'static str,
) -> Row {
    Row {
        key,
        short,
        long,
        takes,
        with,
        help,
    }
}

const fn verb(verb: Verb, names: (Option<char>, &'static str), help: &'static str) -> Row {
    row(Key::Verb(verb), names, Takes::Nothing, ALWAYS, help)
}

const ADDRESS: Takes = Takes::Value("ADDRESS[:PORT]");
const NUMBER: Takes = Takes::Value("N");
const NAME: Takes = Takes::Value("NAME");
const ROLE: Takes = Takes::Value("master|backup");
const FLAG: Takes = Takes::Nothing;

/// Every option. `-l` is a second spelling of `-L`.
#[rustfmt::skip]
pub(super) const OPTIONS: &[Row] = &[
    verb(Verb::AddService, (Some('A'), "add-service"), "add a virtual service"),
    verb(Verb::EditService, (Some('E'), "edit-service"), "replace what is said of a virtual service"),
    verb(Verb::DeleteService, (Some('D'), "delete-service"), "delete a virtual service"),
    verb(Verb::Clear, (Some('C'), "clear"), "delete everything"),
    verb(Verb::List, (Some('L'), "list"), "list services and servers"),
    verb(Verb::List, (Some('l'), "list"), "the same"),
    verb(Verb::AddServer, (Some('a'), "add-server"), "add a real server to a service"),
    verb(Verb::EditServer, (Some('e'), "edit-server"), "replace what is said of a real server"),
    verb(Verb::DeleteServer, (Some('d'), "delete-server"), "delete a real server"),
    verb(Verb::Set, (None, "set"), "set the timeouts: TCP TCPFIN UDP in seconds"),
    row(Key::Verb(Verb::StartDaemon), (None, "start-daemon"), ROLE, ALWAYS, "start a sync daemon"),
    row(Key::Verb(Verb::StopDaemon), (None, "stop-daemon"), ROLE, ALWAYS, "stop a sync daemon"),
    verb(Verb::Restore, (Some('R'), "restore"), "read rules from standard input"),
    verb(Verb::Save, (Some('S'), "save"), "print rules that restore reads"),
    verb(Verb::Zero, (Some('Z'), "zero"), "zero the counters of a service, or all"),
    verb(Verb::Help, (Some('h'), "help"), "print this"),
    verb(Verb::Version, (Some('v'), "version"), "print the version"),
    row(Key::Tcp, (Some('t'), "tcp-service"), ADDRESS, SERVICE, "a TCP service"),
    row(Key::Udp, (Some('u'), "udp-service"), ADDRESS, SERVICE, "a UDP service"),
    row(Key::Sctp, (None, "sctp-service"), ADDRESS, SERVICE, "an SCTP service"),
    row(Key::Mark, (Some('f'), "fwmark-service"), NUMBER, SERVICE, "a firewall mark, 1 to 4294967295"),
    row(Key::Ipv6, (Some('6'), "ipv6"), FLAG, ALWAYS, "the mark before is of IPv6 packets"),
    row(Key::Scheduler, (Some('s'), "scheduler"), NAME, MAKE_SERVICE, "scheduler [wlc]"),
    row(Key::SchedFlags, (Some('b'), "sched-flags"), Takes::Value("LIST"), MAKE_SERVICE, "flags of the scheduler, with commas"),
    row(Key::Persistent, (Some('p'), "persistent"), Takes::MayTake("SECONDS"), MAKE_SERVICE, "persistence, 1 to 2678400 seconds [360]"),
    row(Key::Netmask, (Some('M'), "netmask"), Takes::Value("MASK"), MAKE_SERVICE, "persistence mask: IPv4 mask or IPv6 bits"),
    row(Key::Ops, (Some('o'), "ops"), FLAG, MAKE_SERVICE, "schedule each packet (UDP, marks)"),
    row(Key::Engine, (None, "pe"), NAME, MAKE_SERVICE, "persistence engine"),
    row(Key::Server, (Some('r'), "real-server"), ADDRESS, ANY_SERVER, "the server; its port is the service's by default"),
    row(Key::Gateway, (Some('g'), "gatewaying"), FLAG, MAKE_SERVER, "forward by direct routing"),
    row(Key::Ipip, (Some('i'), "ipip"), FLAG, MAKE_SERVER, "forward by a tunnel"),
    row(Key::Masquerade, (Some('m'), "masquerading"), FLAG, MAKE_SERVER, "forward by NAT"),
    row(Key::Weight, (Some('w'), "weight"), NUMBER, MAKE_SERVER, "weight [1]"),
    row(Key::Upper, (Some('x'), "u-threshold"), NUMBER, MAKE_SERVER, "upper connection threshold [0: none]"),
    row(Key::Lower, (Some('y'), "l-threshold"), NUMBER, MAKE_SERVER, "lower connection threshold [0: none]"),
    row(Key::TunType, (None, "tun-type"), Takes::Value("ipip|gue|gre"), MAKE_SERVER, "kind of tunnel [ipip]"),
    row(Key::TunPort, (None, "tun-port"), NUMBER, MAKE_SERVER, "UDP port of a gue tunnel"),
    row(Key::TunNoCsum, (None, "tun-nocsum"), FLAG, MAKE_SERVER, "tunnel without checksum (gue, gre)"),
    row(Key::TunCsum, (None, "tun-csum"), FLAG, MAKE_SERVER, "tunnel with checksum (gue, gre)"),
    row(Key::TunRemCsum, (None, "tun-remcsum"), FLAG, MAKE_SERVER, "tunnel with remote checksum (gue)"),
    row(Key::Connection, (Some('c'), "connection"), FLAG, LIST, "list connections"),
    row(Key::Numeric, (Some('n'), "numeric"), FLAG, SHOW, "addresses and ports as numbers"),
    row(Key::Exact, (Some('X'), "exact"), FLAG, LIST, "large numbers in full"),
    row(Key::Stats, (None, "stats"), FLAG, LIST, "list counters"),
    row(Key::Rate, (None, "rate"), FLAG, LIST, "list rates per second"),
    row(Key::Thresholds, (None, "thresholds"), FLAG, LIST, "list thresholds"),
    row(Key::PersistentConn, (None, "persistent-conn"), FLAG, LIST, "list persistent connections"),
    row(Key::NoSort, (None, "nosort"), FLAG, LIST, "in the kernel's order"),
    row(Key::Sort, (None, "sort"), FLAG, ALWAYS, "in order, which is the default"),
    row(Key::TunInfo, (None, "tun-info"), FLAG, LIST, "list tunnels"),
    row(Key::Timeout, (None, "timeout"), FLAG, LIST, "show the timeouts"),
    row(Key::Daemon, (None, "daemon"), FLAG, LIST, "show the sync daemons"),
    row(Key::McastInterface, (None, "mcast-interface"), NAME, START, "link of the sync daemon [eth0]"),
    row(Key::SyncId, (None, "syncid"), NUMBER, SYNC_ID, "which directors belong together, 0 to 255 [0]"),
    row(Key::SyncMaxLen, (None, "sync-maxlen"), NUMBER, START, "bytes of a sync message, 1 to 65507"),
    row(Key::McastGroup, (None, "mcast-group"), Takes::Value("ADDRESS"), START, "multicast group of the sync daemon"),
    row(Key::McastPort, (None, "mcast-port"), NUMBER, START, "UDP port of the sync daemon"),
    row(Key::McastTtl, (None, "mcast-ttl"), NUMBER, START, "hops of the sync daemon, 1 to 255"),
];

/// The row of a short option.
pub(super) fn short(letter: char) -> Option<&'static Row> {
    OPTIONS.iter().find(|row| row.short == Some(letter))
}

/// The row of a long option; abbreviations are none.
pub(super) fn long(name: &str) -> Option<&'static Row> {
    OPTIONS.iter().find(|row| row.long == name)
}

/// The row that a command is made by.
pub(super) fn of_verb(verb: Verb) -> Option<&'static Row> {
    OPTIONS.iter().find(|row| row.key == Key::Verb(verb))
}

/// The table as text, for people.
#[must_use]
pub fn help() -> String {
    let mut text = String::new();
    for row in OPTIONS {
        let value = match row.takes {
            Takes::Nothing => String::new(),
            Takes::Value(name) => format!(" {name}"),
            Takes::MayTake(name) => format!(" [{name}]"),
        };
        let short = row
            .short
            .map_or_else(|| "    ".to_owned(), |short| format!("-{short}, "));
        let words = format!("{short}--{}{value}", row.long);
        // Writing to a String can't fail.
        let _ = writeln!(text, "  {words:<36}{}", row.help);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_spelling_stands_twice() {
        for (at, row) in OPTIONS.iter().enumerate() {
            let others = &OPTIONS[at + 1..];
            assert!(
                others
                    .iter()
                    .all(|other| other.short != row.short || row.short.is_none()),
                "{}",
                row.name()
            );
            let twice = others.iter().any(|other| other.long == row.long);
            assert_eq!(twice, row.short == Some('L'), "{}", row.name());
        }
        assert_eq!(help().lines().count(), OPTIONS.len());
    }
}
