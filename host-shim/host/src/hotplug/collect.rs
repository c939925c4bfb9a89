//! Collects the state of machines that have ended.

use std::fs;
use std::path::Path;

use patchbay_types::failure::{Failure, Kind};

use super::unplug::restore_host;
use crate::sandbox::{Journal, Lock, StateDir, second_monitor};

/// Removes the locks, journals and second monitors of machines that have ended from the run directory,
/// and restores the TAPs of their cards.
pub fn collect(run_dir: &Path) {
    second_monitor::collect(run_dir);
    for state in StateDir::all(run_dir) {
        let Some(_lock) = Lock::take_ended(&state) else {
            continue;
        };
        match restore(&state) {
            // A later command tries again if that fails.
            Ok(()) => drop(fs::remove_dir_all(state.path())),
            // A later release wrote the journal, and can restore its TAPs.
            Err(failure) if failure.kind() == Kind::Unsupported => {}
            Err(failure) => tracing::debug!(
                "the state of an ended machine in {} is kept: {}",
                state.path().display(),
                failure.line()
            ),
        }
    }
}

/// Restores the host as before the cards of a machine. Without its journal nothing could be restored later.
fn restore(state: &StateDir) -> Result<(), Failure> {
    let journal = Journal::at(state.path());
    let restored = journal.cards()?.into_iter().map(|card| {
        restore_host(&card, None)?;
        // Its TAP can belong to another machine by the next attempt.
        journal.remove(&card.name)
    });
    // Each is tried.
    restored.fold(Ok(()), Result::and)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::net::UnixListener;
    use std::path::PathBuf;
    use std::thread;
    use std::time::Duration;

    use super::super::tap::tests::{in_netns, ip};
    use super::super::tap::tun::{TAP, attach};
    use super::*;
    use crate::netns::{HostLinkState, Links, Netns};
    use crate::sandbox::{BackendRecord, CardRecord, HostRecord, MtuState, Phase, SavedTap};

    const BEFORE: HostLinkState = HostLinkState {
        mtu: 1500,
        up: false,
    };

    /// Adds a machine with a card, whose TAP has the name of the monitor.
    fn machine(monitor: &Path) -> StateDir {
        let tap = monitor.file_name().unwrap().to_str().unwrap();
        let state = StateDir::of(monitor.parent().unwrap(), monitor).unwrap();
        let _lock = Lock::take(&state).unwrap();
        state.describe(None).unwrap();
        let card = CardRecord {
            phase: Phase::Plugged,
            name: "eth1".parse().unwrap(),
            device: tap.parse().unwrap(),
            netns: Some(PathBuf::from("/proc/thread-self/ns/net")),
            netns_id: Some(Netns::current().unwrap().id()),
            owner: None,
            suffix: "5f".to_owned(),
            fds: Vec::new(),
            backend: BackendRecord::ExistingTap(SavedTap {
                state: BEFORE,
                index: None,
            }),
            path: None,
            link: None,
            mtu: MtuState::Settled,
            mirror: None,
            port: None,
            host: HostRecord::default(),
        };
        Journal::at(state.path()).write(&card).unwrap();
        ip(&["tuntap", "add", tap, "mode", "tap"]);
        ip(&["link", "set", tap, "mtu", "9000", "up"]);
        state
    }

    /// Adds such a machine that has ended.
    fn ended_machine(monitor: &Path) -> StateDir {
        let _qemu = UnixListener::bind(monitor).unwrap();
        let state = machine(monitor);
        fs::remove_file(monitor).unwrap();
        state
    }

    #[test]
    fn collect_restores_taps_of_ended_machines_only() {
        in_netns(|_, _| {
            let run_dir = tempfile::tempdir().unwrap();
            let monitors = ["running", "ended"].map(|name| run_dir.path().join(name));
            let _qemus = monitors
                .each_ref()
                .map(|path| UnixListener::bind(path).unwrap());
            let [running, ended] = monitors.each_ref().map(|path| machine(path));
            fs::remove_file(&monitors[1]).unwrap();
            collect(run_dir.path());
            assert!(running.path().exists());
            assert!(!ended.path().exists());
            let namespace = Links::open(Netns::current().unwrap()).unwrap();
            let link = |name: &str| namespace.link(&name.parse().unwrap()).unwrap().unwrap();
            assert_eq!(link("ended").state, BEFORE);
            assert_eq!(link("running").state.mtu, 9000);
        });
    }

    #[test]
    fn collect_keeps_the_journal_of_a_host_that_is_not_restored() {
        in_netns(|_, _| {
            let run_dir = tempfile::tempdir().unwrap();
            let state = ended_machine(&run_dir.path().join("ended"));
            let card = state.path().join("cards/eth1.json");
            let journal = fs::read(&card).unwrap();
            fs::write(&card, "torn").unwrap();
            collect(run_dir.path());
            assert!(state.path().exists());
            fs::write(&card, journal).unwrap();
            collect(run_dir.path());
            assert!(!state.path().exists());
        });
    }

    /// The kernel closes the TAP after the end of the process.
    #[test]
    fn collect_waits_until_tap_is_closed() {
        in_netns(|_, _| {
            let run_dir = tempfile::tempdir().unwrap();
            let state = ended_machine(&run_dir.path().join("ended"));
            let tun = File::options().read(true).write(true).open("/dev/net/tun");
            let queue = tun.unwrap();
            attach(&queue, "ended", TAP).unwrap();
            let closing = thread::spawn(|| {
                thread::sleep(Duration::from_millis(300));
                drop(queue);
            });
            collect(run_dir.path());
            closing.join().unwrap();
            assert!(!state.path().exists());
            let links = Links::open(Netns::current().unwrap()).unwrap();
            let link = links.link(&"ended".parse().unwrap()).unwrap().unwrap();
            assert_eq!(link.state, BEFORE);
        });
    }
}
