//! Options of `-L` and `-S`.

use super::{IpvsOption, flag};
use crate::ipvsadm::args::Args;
use crate::ipvsadm::compat::{CommandName, Group};
use crate::ipvsadm::{CounterFormat, EngineColumns, Format, Names, SortOrder, TableView, View};

/// Values of the options.
#[derive(Default)]
pub(in crate::ipvsadm) struct ViewArgs {
    pub(super) table: TableView,
    subject: Subject,
}

#[derive(Default, Clone, Copy)]
enum Subject {
    #[default]
    Table,
    Connections,
    Timeouts,
    Daemons,
}

const LIST: &[CommandName] = &[CommandName::List];

pub(super) static OPTIONS: &[IpvsOption] = &[
    flag("c", "connection", "list connections", |a| {
        a.view.subject = Subject::Connections;
    })
    .on(LIST)
    .group(Group::Connections),
    flag(
        "n",
        "numeric",
        "print addresses and ports as numbers",
        |a| {
            a.view.table.names = Names::Numeric;
        },
    )
    .on(&[CommandName::List, CommandName::Save]),
    flag("X", "exact", "print large numbers in full", |a| {
        a.view.table.digits = CounterFormat::Exact;
    })
    .on(LIST),
    format("stats", "list counters", |a| a.format(Format::Stats)).group(Group::Counters),
    format("rate", "list rates per second", |a| a.format(Format::Rates)).group(Group::Counters),
    format("thresholds", "list connection thresholds", |a| {
        a.format(Format::Thresholds)
    })
    .group(Group::Counters),
    format("persistent-conn", "list persistent connections", |a| {
        a.format(Format::Persistence)
    })
    .group(Group::EngineData),
    flag("", "nosort", "list in the kernel's order", |a| {
        a.view.table.order = SortOrder::Kernel;
    })
    .on(LIST),
    flag("", "sort", "list in order (default)", |_| ()).group(Group::Repeatable),
    format("tun-info", "list tunnels", |a| a.format(Format::Tunnels)),
    flag("", "timeout", "print the timeouts", |a| {
        a.view.subject = Subject::Timeouts
    })
    .on(LIST)
    .group(Group::Status),
    flag("", "daemon", "print the sync daemons", |a| {
        a.view.subject = Subject::Daemons
    })
    .on(LIST)
    .group(Group::Status),
];

const fn format(long: &'static str, help: &'static str, set: fn(&mut Args<'_>)) -> IpvsOption {
    flag("", long, help, set).on(LIST)
}

impl Args<'_> {
    fn format(&mut self, format: Format) {
        self.view.table.format = self.view.table.format.min(format);
    }
}

/// Builds the view of `-L`.
pub(super) fn build(args: &Args<'_>) -> View {
    let ViewArgs { table, subject } = &args.view;
    match subject {
        Subject::Connections if table.format == Format::Persistence => {
            View::Connections(table.names, EngineColumns::Shown)
        }
        Subject::Connections => View::Connections(table.names, EngineColumns::Hidden),
        Subject::Timeouts => View::Timeouts,
        Subject::Daemons => View::Daemons,
        Subject::Table => View::Table(TableView {
            service: args.id,
            ..table.clone()
        }),
    }
}
