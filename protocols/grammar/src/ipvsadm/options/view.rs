//! Options of `-L` and `-S`.

use crate::ipvsadm::command::{CounterFormat, Format, Names, SortOrder, View};
use crate::ipvsadm::compat::{CommandName, Group};
use crate::ipvsadm::spec::{IpvsOption, flag};

const LIST: &[CommandName] = &[CommandName::List];
const LIST_OR_SAVE: &[CommandName] = &[CommandName::List, CommandName::Save];

#[rustfmt::skip]
pub(super) static OPTIONS: &[IpvsOption] = &[
    flag("c", "connection", "list connections", |a| a.view = View::Connections)
        .on(LIST).group(Group::Connections),
    flag("n", "numeric", "print addresses and ports as numbers", |a| a.table.names = Names::Numeric)
        .on(LIST_OR_SAVE),
    flag("X", "exact", "print large numbers in full", |a| a.table.digits = CounterFormat::Exact)
        .on(LIST),
    flag("", "stats", "list counters", |a| a.show(Format::Stats))
        .on(LIST).group(Group::Counters),
    flag("", "rate", "list rates per second", |a| a.show(Format::Rates))
        .on(LIST).group(Group::Counters),
    flag("", "thresholds", "list connection thresholds", |a| a.show(Format::Thresholds))
        .on(LIST).group(Group::Counters),
    flag("", "persistent-conn", "list persistent connections", |a| a.show(Format::Persistence))
        .on(LIST).group(Group::EngineData),
    flag("", "nosort", "list in the kernel's order", |a| a.table.order = SortOrder::Kernel).on(LIST),
    flag("", "sort", "list in order (default)", |_| ()).group(Group::Repeatable),
    flag("", "tun-info", "list tunnels", |a| a.show(Format::Tunnels)).on(LIST),
    flag("", "timeout", "print the timeouts", |a| a.view = |_| View::Timeouts)
        .on(LIST).group(Group::Status),
    flag("", "daemon", "print the sync daemons", |a| a.view = |_| View::Daemons)
        .on(LIST).group(Group::Status),
];
