use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Barrier;
use std::thread;

use nix::sched::{CloneFlags, unshare};
use patchbay_types::QueuePairs;

use super::*;

/// Runs a test in a new network namespace of its thread.
pub(in crate::hotplug) fn in_netns(test: impl FnOnce(&IfName, Tap) + Send) {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            let device: IfName = "tap-test".parse().unwrap();
            let tap = Tap::new(Netns::current().unwrap(), &LinkName::from(&device));
            test(&device, tap.unwrap());
        });
    });
}

/// Runs `ip` in the namespace of the calling thread and returns its output.
pub(in crate::hotplug) fn ip(words: &[&str]) -> String {
    let done = std::process::Command::new("ip")
        .args(words)
        .output()
        .unwrap();
    assert!(done.status.success(), "{words:?}: {done:?}");
    String::from_utf8(done.stdout).unwrap()
}

#[test]
fn open_creates_a_tap_that_ends_with_its_queues() {
    in_netns(|_, tap| {
        let pairs = QueuePairs::try_from(2).unwrap();
        let (queues, before) = tap.open(pairs).unwrap();
        assert_eq!((queues.len(), before), (2, None));
        let busy = tap.open(pairs).unwrap_err();
        assert_eq!((busy.kind(), busy.field()), (Kind::Exists, Some("device")));
        let up = HostLinkState {
            mtu: 9000,
            up: true,
        };
        tap.set(up).unwrap();
        assert_eq!(tap.link().unwrap().unwrap().state, up);
        // A device in use is not restored.
        let index = tap.link().unwrap().map(|link| link.index);
        let down = HostLinkState {
            mtu: 1500,
            up: false,
        };
        tap.restore(SavedTap { state: down, index }, None).unwrap();
        assert_eq!(tap.link().unwrap().unwrap().state, up);
        drop(queues);
        assert!(tap.link().unwrap().is_none());
        tap.restore(SavedTap { state: up, index }, None).unwrap();
    });
}

#[test]
fn open_reports_and_restore_resets_existing_state() {
    in_netns(|device, tap| {
        let device = device.as_str();
        ip(&["tuntap", "add", device, "mode", "tap", "multi_queue"]);
        let (queues, before) = tap.open(QueuePairs::ONE).unwrap();
        let down = HostLinkState {
            mtu: 1500,
            up: false,
        };
        let before = before.unwrap();
        assert_eq!(before.state, down);
        tap.set(HostLinkState {
            mtu: 1400,
            up: true,
        })
        .unwrap();
        drop(queues);
        ip(&["link", "set", device, "down"]);
        ip(&["link", "set", device, "name", "tap-new"]);
        ip(&["tuntap", "add", device, "mode", "tap"]);
        ip(&["link", "set", device, "mtu", "1300"]);
        tap.restore(before, None).unwrap();
        let renamed = tap.links.link_at(before.index.unwrap()).unwrap();
        assert_eq!(renamed.unwrap().state, down);
        let later = tap.link().unwrap().unwrap();
        assert_eq!(later.state.mtu, 1300);
    });
}

#[test]
fn open_existing_device_has_any_name_and_new_one_that_of_the_guide() {
    in_netns(|_, tap| {
        let mut tap = tap;
        for name in ["wg=0", r"tap\xff", "0tap"] {
            tap.device = name.parse().unwrap();
            let failure = tap.open(QueuePairs::ONE).unwrap_err();
            assert_eq!(
                (failure.kind(), failure.field()),
                (Kind::Invalid, Some("device"))
            );
            assert!(
                failure.to_string().contains("starts with a letter"),
                "{failure}"
            );
            let device = OsStr::from_bytes(tap.device.as_bytes());
            let mut add = std::process::Command::new("ip");
            add.args(["tuntap", "add", "mode", "tap", "name"])
                .arg(device);
            assert!(add.status().unwrap().success());
            let (queues, before) = tap.open(QueuePairs::ONE).unwrap();
            assert_eq!((queues.len(), before.is_some()), (1, true), "{name}");
        }
    });
}

#[test]
fn open_device_whose_alias_is_not_utf8_succeeds() {
    in_netns(|device, tap| {
        let script = format!(
            "ip tuntap add {device} mode tap && \
             ip link set {device} alias $(printf '\\377\\376')"
        );
        let mut shell = std::process::Command::new("sh");
        assert!(shell.args(["-c", &script]).status().unwrap().success());
        let (queues, before) = tap.open(QueuePairs::ONE).unwrap();
        assert_eq!(
            (queues.len(), before.map(|before| before.state.up)),
            (1, Some(false))
        );
    });
}

#[test]
fn open_link_of_another_kind_fails() {
    in_netns(|_, tap| {
        let tap = Tap {
            device: "lo".parse().unwrap(),
            ..tap
        };
        let failure = tap.open(QueuePairs::ONE).unwrap_err();
        assert_eq!(
            failure.to_string(),
            "device 'lo' exists and is not a TAP device"
        );
    });
}

#[test]
fn open_race_for_a_multi_queue_tap_has_one_winner_at_most() {
    in_netns(|device, tap| {
        let device = LinkName::from(device);
        ip(&["tuntap", "add", "tap-test", "mode", "tap", "multi_queue"]);
        let mut won = 0;
        for race in 0..100 {
            let start = Barrier::new(2);
            // A namespace belongs to a thread.
            let (netns, device) = (Path::new("/proc/thread-self/ns/net"), &device);
            let taps = [0; 2].map(|_| Tap::new(Netns::open(netns).unwrap(), device).unwrap());
            let opened = thread::scope(|scope| {
                let racers = taps.each_ref().map(|tap| {
                    scope.spawn(|| {
                        start.wait();
                        tap.open(QueuePairs::try_from(2).unwrap())
                    })
                });
                racers.map(|racer| racer.join().unwrap())
            });
            for failure in opened.iter().filter_map(|opened| opened.as_ref().err()) {
                assert_eq!(failure.kind(), Kind::Exists, "{failure}");
            }
            let winners = opened.iter().filter(|opened| opened.is_ok()).count();
            assert!(winners <= 1, "race {race}: both have the TAP");
            won += winners;
        }
        assert!(won > 0, "no race had a winner");
        assert!(tap.open(QueuePairs::ONE).is_ok());
        eprintln!("{won} of 100 races had a winner");
    });
}

#[test]
fn open_device_that_was_replaced_meanwhile_fails() {
    in_netns(|_, tap| {
        ip(&["tuntap", "add", "tap-test", "mode", "tap"]);
        let earlier = tap.link().unwrap();
        ip(&["link", "del", "tap-test"]);
        ip(&["tuntap", "add", "tap-test", "mode", "tap"]);
        let queue = File::options().read(true).write(true).open("/dev/net/tun");
        let queue = queue.unwrap();
        tap.attach(&queue, TAP).unwrap();
        let queues = [queue];
        let failure = tap.check_attached(&queues, earlier).unwrap_err();
        assert_eq!(
            failure.to_string(),
            "device 'tap-test' was replaced while it was opened"
        );
        tap.check_attached(&queues, tap.link().unwrap()).unwrap();
        ip(&["link", "set", "tap-test", "name", "tap-new"]);
        ip(&["tuntap", "add", "tap-test", "mode", "tap"]);
        let failure = tap.check_attached(&queues, None).unwrap_err();
        assert_eq!(failure.kind(), Kind::NotYet, "{failure}");
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        ip(&["tuntap", "add", "tap-new", "mode", "tap"]);
        let elsewhere = Tap::new(Netns::current().unwrap(), &"tap-new".parse().unwrap()).unwrap();
        let failure = elsewhere.check_attached(&queues, None).unwrap_err();
        assert_eq!(failure.kind(), Kind::NotYet, "{failure}");
    });
}
