//! The agent is killed in the guest, idle and at work: it comes again, reads the kernel, and the next
//! command finds the sandbox whole.
#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::thread;
use std::time::{Duration, Instant};

use patchbay_tests::{Card, Done, Guest, Machine, patchbay, run};
use serde_json::json;

fn card() -> Card {
    Card::named("eth-k")
        .mac("02:42:20:6f:a3:70")
        .set(
            "IPAddresses",
            json!([{"Family": 2, "Address": "172.16.0.3", "Mask": "24"}]),
        )
        .queues(2)
}

/// After how many milliseconds of a command the agent is killed.
const MOMENTS: [u64; 7] = [0, 4, 12, 30, 60, 90, 120];

fn kill(guest: &Guest) {
    guest.shell("kill -9 $(pidof patchbay-agent); true");
}

/// Runs a command and kills the agent on the way. It ends, well or with the exit code of a refusal.
fn killed_during(guest: &Guest, moment: u64, command: impl FnOnce() -> Done + Send) -> Done {
    let begun = Instant::now();
    let done = thread::scope(|scope| {
        let done = scope.spawn(command);
        thread::sleep(Duration::from_millis(moment));
        kill(guest);
        done.join().unwrap()
    });
    assert!((0..=9).contains(&done.status), "{done}");
    assert!(begun.elapsed() < Duration::from_secs(60), "{done}");
    done
}

/// What a command says when the agent is there again.
fn again(command: impl Fn() -> Done) -> Done {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let done = command();
        if done.status == 0 || Instant::now() > deadline {
            return done;
        }
        thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn a_card_is_whole_or_absent_and_comes_again() {
    let guest = Guest::start(Machine::Q35);
    kill(&guest);
    again(|| guest.kata_network("list-ifaces", "")).ok();
    for moment in MOMENTS {
        let done = killed_during(&guest, moment, || guest.plug(&card()));
        let added = again(|| guest.plug(&card())).json();
        assert_eq!(added["name"], "eth-k", "killed after {moment} ms: {done}");
        let links = guest.ip("link show");
        let ours = links.as_array().unwrap().iter();
        let ours = ours.filter(|link| link["address"] == "02:42:20:6f:a3:70");
        assert_eq!(ours.count(), 1, "{links}");
        again(|| guest.unplug(&card())).ok();
        assert!(guest.netns().links().is_empty());
    }
    eprintln!("{} points killed", MOMENTS.len() + 1);
}

#[test]
fn routes_can_be_told_again() {
    let guest = Guest::start(Machine::Q35);
    guest.plug(&card()).ok();
    let route = |number: usize| json!({"dest": format!("10.{}.{}.0/24", number / 250, number % 250), "device": "eth-k"});
    let routes = json!((0..2000).map(route).collect::<Vec<_>>()).to_string();
    for moment in MOMENTS {
        killed_during(&guest, moment, || guest.kata_network("add-route", &routes));
        again(|| guest.kata_network("add-route", &routes)).ok();
        let there = guest.exec("ip -4 route show").ok();
        assert_eq!(
            there.lines().filter(|line| line.starts_with("10.")).count(),
            2000
        );
        again(|| guest.kata_network("del-route", &routes)).ok();
    }
    eprintln!("{} points killed", MOMENTS.len());
}

/// The agent's own process, or its successor, has answered by then.
fn saved(guest: &Guest) -> String {
    again(|| guest.kata_network("list-ifaces", "")).ok();
    guest.exec("ipvsadm -Sn").ok()
}

#[test]
fn rules_are_what_they_were_or_what_the_file_says() {
    let guest = Guest::start(Machine::Q35);
    let file = |weight: usize, services: std::ops::Range<usize>| {
        let mut rules = String::new();
        for service in services {
            let place = format!("10.{}.{}.1:80", service / 250, service % 250);
            let server = format!("-a -t {place} -r 10.200.0.1:80 -m -w {weight}");
            writeln!(rules, "-A -t {place} -s rr\n{server}").unwrap();
        }
        rules + "--set 100 200 300\n"
    };
    let restore = |rules: &str, options: &[&str]| {
        let words = ["kata-ipvs", "ipvsadm", "--restore", "-", guest.id()];
        run(
            &mut patchbay(guest.run_dir(), &[&words, options].concat()),
            rules,
        )
    };
    guest.exec("ip link set lo up").ok();
    let (first, second) = (file(1, 0..3000), file(2, 1500..4500));
    restore(&second, &[]).ok();
    let changed = saved(&guest);
    restore(&first, &["--replace"]).ok();
    let whole = saved(&guest);
    let mut undone = 0;
    for moment in MOMENTS {
        guest.ipvsadm("-C").ok();
        guest.ipvsadm("--set 1 2 3").ok();
        killed_during(&guest, moment, || restore(&first, &[]));
        let now = saved(&guest);
        assert!(now.is_empty() || now == whole, "after {moment} ms");
        let timeouts = guest.exec("ipvsadm -L --timeout").ok();
        let done = !now.is_empty();
        assert_eq!(timeouts.contains(": 100 200 300"), done, "{timeouts}");
        undone += usize::from(!done);

        again(|| restore(&first, &["--replace"])).ok();
        killed_during(&guest, moment, || restore(&second, &["--replace"]));
        let now = saved(&guest);
        assert!(now == whole || now == changed, "after {moment} ms");
        undone += usize::from(now == whole);
    }
    assert!(undone > 0);
    let console = guest.sandbox(&["console", guest.id()]).out;
    let followed = "an interrupted rule file was undone";
    assert!(
        console.contains(followed),
        "no agent was killed at its work"
    );
    eprintln!("{} points killed", 2 * MOMENTS.len());
}
