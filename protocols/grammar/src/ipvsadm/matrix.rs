//! Which options a command permits and needs, and which exclude each other.

use super::error::Refused;
use super::options::{self, Key, Row, Verb};

/// Options of which one may stand on a line share this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Group {
    Service,
    Forwarding,
    One(Key),
}

/// `None`: may stand any number of times.
fn group(key: Key) -> Option<Group> {
    match key {
        Key::Tcp | Key::Udp | Key::Sctp | Key::Mark => Some(Group::Service),
        Key::Gateway | Key::Ipip | Key::Masquerade => Some(Group::Forwarding),
        Key::Ipv6 | Key::Sort => None,
        key => Some(Group::One(key)),
    }
}

fn in_group(row: &Row, wanted: Group) -> bool {
    group(row.key) == Some(wanted)
}

/// What a list can be of; at most one.
const SUBJECTS: [Group; 4] = [
    Group::One(Key::Connection),
    Group::Service,
    Group::One(Key::Timeout),
    Group::One(Key::Daemon),
];

/// Columns that these lists have not.
const NO_COLUMNS: [(Key, &[Key]); 3] = [
    (Key::Connection, &[Key::Stats, Key::Rate, Key::Thresholds]),
    (
        Key::Timeout,
        &[Key::Stats, Key::Rate, Key::Thresholds, Key::PersistentConn],
    ),
    (
        Key::Daemon,
        &[Key::Stats, Key::Rate, Key::Thresholds, Key::PersistentConn],
    ),
];

/// Refuses a second option of a group.
pub(super) fn check_repeated(seen: &[&'static Row], row: &'static Row) -> Result<(), Refused> {
    let Some(group) = group(row.key) else {
        return Ok(());
    };
    match seen.iter().find(|before| in_group(before, group)) {
        Some(first) => Err(Refused::repeated(first, row)),
        None => Ok(()),
    }
}

/// Checks all options of a line against its command.
pub(super) fn check(command: &'static Row, seen: &[&'static Row]) -> Result<(), Refused> {
    let Key::Verb(verb) = command.key else {
        return Err(Refused::NoCommand);
    };
    let has = |group| seen.iter().any(|row| in_group(row, group));
    let need = |option| Refused::Needed {
        option,
        command: command.into(),
    };
    let about_service = matches!(
        verb,
        Verb::AddService | Verb::EditService | Verb::DeleteService
    );
    let about_server = matches!(
        verb,
        Verb::AddServer | Verb::EditServer | Verb::DeleteServer
    );
    if (about_service || about_server) && !has(Group::Service) {
        return Err(need("a service: -t, -u, --sctp-service or -f"));
    }
    if about_server && !has(Group::One(Key::Server)) {
        return Err(need("-r/--real-server"));
    }
    let allowed = |row: &Row| row.with.is_empty() || row.with.contains(&verb);
    if let Some(row) = seen.iter().find(|row| !allowed(row)) {
        return Err(Refused::not_for(row, command));
    }
    subjects(seen)
}

fn subjects(seen: &[&'static Row]) -> Result<(), Refused> {
    let find = |group| seen.iter().find(|row| in_group(row, group));
    let pairs = NO_COLUMNS
        .iter()
        .flat_map(|(key, columns)| columns.iter().map(|column| (*key, Group::One(*column))));
    let subjects = SUBJECTS.iter().enumerate().filter_map(|(at, first)| {
        let second = SUBJECTS[at + 1..].iter().find_map(|group| find(*group));
        Some((find(*first)?, second?))
    });
    let columns = pairs.filter_map(|(key, column)| Some((find(Group::One(key))?, find(column)?)));
    let listed = seen.iter().any(|row| row.with == [Verb::List]);
    match subjects.chain(columns).next().filter(|_| listed) {
        Some((first, second)) => Err(Refused::Conflict {
            first: (*first).into(),
            second: (*second).into(),
        }),
        None => Ok(()),
    }
}

/// The row of a command that nothing was said of.
pub(super) fn default_command() -> Result<&'static Row, Refused> {
    options::of_verb(Verb::List).ok_or(Refused::NoCommand)
}
