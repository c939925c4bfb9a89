//! The rule table: applying a rule file and computing the difference of two tables.

use std::num::NonZeroU32;

use proptest::prelude::*;

use patchbay_grammar::ipvsadm::{
    Grammar, SaveFormat, numeric, read_rules, server_line, service_line,
};
use patchbay_types::ipvs::{Change, Conflict, Deferred, ListedServer, Stats, Table};

/// Parses a line that changes something.
fn change(line: &str) -> Change {
    read_rules(&Grammar::NUMERIC, line)
        .unwrap()
        .remove(0)
        .change
}

fn fold(table: &mut Table, lines: &[&str]) -> Result<(), (usize, Conflict)> {
    let mut deferred = Deferred::default();
    for (index, line) in lines.iter().enumerate() {
        let number = NonZeroU32::new(u32::try_from(index + 1).unwrap());
        let applied = table.apply(change(line), number, &mut deferred);
        applied.map_err(|conflict| (index + 1, conflict))?;
    }
    Ok(())
}

/// The same rules as listed by a kernel, which has no line numbers.
fn listed(table: &Table) -> Table {
    let mut listed = Table::default();
    for service in table.services() {
        let servers: Vec<_> = table
            .recreate(service.id)
            .filter_map(|change| listed_server(&change))
            .collect();
        listed.insert(service.clone(), &servers);
    }
    listed
}

fn listed_server(change: &Change) -> Option<ListedServer> {
    let Change::AddServer(_, server) = change else {
        return None;
    };
    Some(ListedServer {
        server: *server,
        active: 0,
        inactive: 0,
        persistent: 0,
        stats: Stats::default(),
    })
}

fn text(table: &Table) -> Vec<String> {
    let changes = table
        .services()
        .flat_map(|service| table.recreate(service.id));
    let line = |change| match change {
        Change::AddService(service) => service_line(&service, &numeric, SaveFormat::Whole),
        Change::AddServer(of, server) => server_line(of, &server, &numeric, SaveFormat::Whole),
        other => panic!("{other:?}"),
    };
    changes.map(line).collect()
}

#[test]
fn apply_conflict_names_its_line() {
    let service = "-A -t 10.0.0.1:80";
    let server = "-a -t 10.0.0.1:80 -r 10.0.0.2";
    for (lines, line, kind) in [
        (&[service, service][..], 2, "exists"),
        (&[server], 1, "there is no service"),
        (&[service, server, server], 3, "already"),
        (
            &[service, "-d -t 10.0.0.1:80 -r 10.0.0.2:80"],
            2,
            "has no server",
        ),
        (
            &[
                service,
                server,
                "-D -t 10.0.0.1:80",
                service,
                server,
                "-Z -f 1",
            ],
            6,
            "no service",
        ),
        (
            &[
                "--start-daemon master",
                "--start-daemon backup",
                "--stop-daemon master",
                "--start-daemon master",
                "--start-daemon backup",
            ],
            5,
            "the backup sync daemon is started already",
        ),
    ] {
        let (at, conflict) = fold(&mut Table::default(), lines).unwrap_err();
        assert_eq!(at, line, "{lines:?}");
        assert!(conflict.to_string().contains(kind), "{conflict}");
    }
}

#[test]
fn apply_existing_rule_can_be_added_once() {
    let mut table = Table::default();
    fold(
        &mut table,
        &["-A -t 10.0.0.1:80", "-a -t 10.0.0.1:80 -r 10.0.0.2"],
    )
    .unwrap();
    let before = listed(&table);
    let mut merged = before.clone();
    fold(
        &mut merged,
        &[
            "-A -t 10.0.0.1:80 -s rr",
            "-a -t 10.0.0.1:80 -r 10.0.0.2 -w 7",
        ],
    )
    .unwrap();
    let steps: Vec<_> = before.diff(&merged).map(|(change, _)| change).collect();
    assert_eq!(
        steps,
        [
            change("-E -t 10.0.0.1:80 -s rr"),
            change("-e -t 10.0.0.1:80 -r 10.0.0.2 -w 7")
        ]
    );
    let again = merged.apply(
        change("-A -t 10.0.0.1:80"),
        NonZeroU32::new(3),
        &mut Deferred::default(),
    );
    assert!(matches!(again, Err(Conflict::ServiceExists(_))));
}

prop_compose! {
    /// A table of few ids, so that two tables have some in common.
    fn table()(rules in prop::collection::vec((0..6u8, 0..6u8, 0..3u32), 0..30)) -> Table {
        let mut table = Table::default();
        for (service, server, weight) in rules {
            let scheduler = ["rr", "wlc", "sh"][usize::from(service % 3)];
            let id = format!("-t 10.0.0.{service}:80");
            let mut nothing = Deferred::default();
            let _ = table.apply(change(&format!("-A {id} -s {scheduler}")), None, &mut nothing);
            let line = format!("-a {id} -r 10.0.1.{server} -m -w {weight}");
            let _ = table.apply(change(&line), None, &mut nothing);
        }
        table
    }
}

proptest! {
    #[test]
    fn diff_applied_yields_target(from in table(), to in table()) {
        let mut changed = from.clone();
        for (step, _) in from.diff(&to) {
            changed.apply(step, None, &mut Deferred::default()).unwrap();
        }
        prop_assert_eq!(text(&changed), text(&to));
        prop_assert_eq!(from.diff(&from).count(), 0);
    }
}
