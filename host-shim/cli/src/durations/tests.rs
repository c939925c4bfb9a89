use std::fs;
use std::os::unix::fs::symlink;

use clap::CommandFactory;

use super::*;
use crate::args::CommandLine;

fn count(dir: &Path, command: &str, result: CommandResult, duration: Duration) {
    let clock = Clock(Instant::now().checked_sub(duration).unwrap());
    clock.stop(dir, command, result);
}

#[test]
fn durations_of_several_commands_are_counted_by_bucket_and_result() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(read(dir.path()), []);
    for millis in [1, 30, 40, 200_000] {
        let duration = Duration::from_millis(millis);
        count(dir.path(), "nic add", CommandResult::Success, duration);
    }
    let second = Duration::from_secs(1);
    count(dir.path(), "nic add", CommandResult::Failure, second);
    count(dir.path(), "watch", CommandResult::Success, second);
    let rows = read(dir.path());
    let [success, failure] = &rows[..] else {
        panic!("{rows:?}");
    };
    assert_eq!(
        (&*success.command, success.result),
        ("nic add", CommandResult::Success)
    );
    assert_eq!(success.counts, [1, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    let micros = 200_071_000..200_900_000;
    assert!(micros.contains(&success.micros), "{}", success.micros);
    assert_eq!(failure.result, CommandResult::Failure);
    assert_eq!(failure.counts.iter().sum::<u64>(), 1);
}

#[test]
fn read_of_a_damaged_file_returns_the_rows_before_the_damage() {
    let dir = tempfile::tempdir().unwrap();
    for command in ["list", "gc"] {
        count(dir.path(), command, CommandResult::Success, Duration::ZERO);
    }
    let path = dir.path().join(FILE);
    let whole = fs::read(&path).unwrap();
    for length in HEADER.len() + ROW_BYTES..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        assert_eq!(read(dir.path()).len(), 1, "{length}");
    }
    let mut other = whole.clone();
    other[HEADER.len()] = b'?';
    fs::write(&path, &other).unwrap();
    assert_eq!(read(dir.path()), []);
    // Counts whose sum overflows.
    let counts = HEADER.len() + KEY_BYTES;
    let mut other = whole.clone();
    other[counts..counts + 16].fill(0xff);
    fs::write(&path, &other).unwrap();
    assert_eq!(read(dir.path()), []);
    fs::write(&path, b"another layout").unwrap();
    assert_eq!(read(dir.path()), []);
    assert_eq!(fs::read(&path).unwrap(), b"another layout");
    count(dir.path(), "gc", CommandResult::Success, Duration::ZERO);
    assert_eq!(read(dir.path()).len(), 1);
}

#[test]
fn count_in_a_folder_or_file_of_others_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing");
    count(&missing, "list", CommandResult::Success, Duration::ZERO);
    assert!(!missing.exists());
    let secret = dir.path().join("secret");
    fs::write(&secret, "secret").unwrap();
    symlink(&secret, dir.path().join(FILE)).unwrap();
    count(dir.path(), "list", CommandResult::Success, Duration::ZERO);
    assert_eq!(fs::read(&secret).unwrap(), b"secret");
    assert_eq!(read(dir.path()), []);
}

#[test]
fn count_beside_a_held_lock_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    count(dir.path(), "list", CommandResult::Success, Duration::ZERO);
    let held = open_locked(dir.path()).unwrap();
    count(dir.path(), "list", CommandResult::Success, Duration::ZERO);
    drop(held);
    assert_eq!(read(dir.path())[0].counts.iter().sum::<u64>(), 1);
}

/// A name that is too long would never be counted.
#[test]
fn names_of_all_commands_fit_their_rows() {
    fn check(command: &clap::Command, path: &str) -> usize {
        let subcommands = command.get_subcommands().map(|below| {
            let path = format!("{path} {}", below.get_name());
            assert!(is_name(path.trim_start()), "{path}");
            1 + check(below, &path)
        });
        subcommands.sum()
    }
    let commands = check(&CommandLine::command(), "");
    assert!(2 * commands < MAX_ROWS, "{commands}");
    let all = CommandLine::command();
    for name in NOT_COUNTED {
        assert!(all.find_subcommand(name).is_some(), "{name}");
    }
}
