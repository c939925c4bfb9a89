//! The agent is killed in the guest, idle and at work. It restarts, reads the state of the kernel, and
//! the next command works.

use std::fmt::Write as _;
use std::thread;
use std::time::{Duration, Instant};

use patchbay_tests::balance::{Balancer, VIP};
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

/// Delays, in milliseconds, between the start of a command and the kill.
const KILL_DELAYS_MS: [u64; 7] = [0, 4, 12, 30, 60, 90, 120];

fn kill(guest: &Guest) {
    guest.shell("kill -9 $(pidof patchbay-agent); true");
}

/// Runs a command and kills the agent meanwhile. Asserts that the command exits in time by itself.
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

/// Repeats a command until the agent is back.
fn retry(command: impl Fn() -> Done) -> Done {
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
fn add_iface_agent_killed_can_be_repeated() {
    let guest = Guest::start(Machine::Q35);
    kill(&guest);
    retry(|| guest.kata_network("list-ifaces", "")).ok();
    for moment in KILL_DELAYS_MS {
        let done = killed_during(&guest, moment, || guest.plug(&card()));
        let added = retry(|| guest.plug(&card())).json();
        assert_eq!(added["name"], "eth-k", "killed after {moment} ms: {done}");
        let links = guest.ip("link show");
        let ours = links.as_array().unwrap().iter();
        let ours = ours.filter(|link| link["address"] == "02:42:20:6f:a3:70");
        assert_eq!(ours.count(), 1, "{links}");
        retry(|| guest.unplug(&card())).ok();
        assert!(guest.netns().links().is_empty());
    }
    eprintln!("{} points killed", KILL_DELAYS_MS.len() + 1);
}

#[test]
fn add_route_agent_killed_can_be_repeated() {
    let guest = Guest::start(Machine::Q35);
    guest.plug(&card()).ok();
    let route = |number: usize| json!({"dest": format!("10.{}.{}.0/24", number / 250, number % 250), "device": "eth-k"});
    let routes = json!((0..2000).map(route).collect::<Vec<_>>()).to_string();
    for moment in KILL_DELAYS_MS {
        killed_during(&guest, moment, || guest.kata_network("add-route", &routes));
        retry(|| guest.kata_network("add-route", &routes)).ok();
        let there = guest.exec("ip -4 route show").ok();
        assert_eq!(
            there.lines().filter(|line| line.starts_with("10.")).count(),
            2000
        );
        retry(|| guest.kata_network("del-route", &routes)).ok();
    }
    eprintln!("{} points killed", KILL_DELAYS_MS.len());
}

/// Waits for the restarted agent, then returns the rules.
fn saved_rules(guest: &Guest) -> String {
    retry(|| guest.kata_network("list-ifaces", "")).ok();
    guest.exec("ipvsadm -Sn").ok()
}

#[test]
fn restore_agent_killed_is_all_or_nothing() {
    let guest = Guest::start(Machine::Q35);
    let file = |weight: usize, services: std::ops::Range<usize>| {
        let mut rules = String::new();
        for service in services {
            let place = format!("10.{}.{}.1:80", service / 250, service % 250);
            let server = format!("-a -t {place} -r 10.200.0.1:80 -m -w {weight}");
            writeln!(rules, "-A -t {place} -s rr\n{server}").unwrap();
        }
        rules + "--set 100 200 300\n--start-daemon master --mcast-interface lo --syncid 7\n"
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
    let changed = saved_rules(&guest);
    restore(&first, &["--replace"]).ok();
    let whole = saved_rules(&guest);
    let mut undone = 0;
    for moment in KILL_DELAYS_MS {
        guest.ipvsadm("-C").ok();
        guest.ipvsadm("--set 1 2 3").ok();
        guest.ipvsadm("--stop-daemon master");
        killed_during(&guest, moment, || restore(&first, &[]));
        let now = saved_rules(&guest);
        assert!(now.is_empty() || now == whole, "after {moment} ms");
        let timeouts = guest.exec("ipvsadm -L --timeout").ok();
        let done = !now.is_empty();
        assert_eq!(timeouts.contains(": 100 200 300"), done, "{timeouts}");
        let daemons = guest.exec("ipvsadm -L --daemon").ok();
        assert_eq!(daemons.contains("syncid=7"), done, "{daemons}");
        undone += usize::from(!done);

        retry(|| restore(&first, &["--replace"])).ok();
        killed_during(&guest, moment, || restore(&second, &["--replace"]));
        let now = saved_rules(&guest);
        assert!(now == whole || now == changed, "after {moment} ms");
        undone += usize::from(now == whole);
    }
    assert!(undone > 0);
    let console = guest.sandbox(&["console", guest.id()]).out;
    let followed = "an interrupted change of IPVS was undone";
    assert!(
        console.contains(followed),
        "no agent was killed at its work"
    );
    eprintln!("{} points killed", 2 * KILL_DELAYS_MS.len());
}

/// Rules and the setting that ends connections.
fn state(guest: &Guest) -> [String; 2] {
    let rules = saved_rules(guest);
    let setting = "cat /proc/sys/net/ipv4/vs/expire_nodest_conn";
    [rules, guest.exec(setting).ok()]
}

#[test]
fn end_connections_agent_killed_is_undone() {
    let field = Balancer::start();
    let guest = &field.guest;
    field.serve(8001);
    // A server of many services, which takes the kernel a while to delete.
    let mut rules = format!("-A -t {VIP}:8001 -s rr\n-a -t {VIP}:8001 -r 10.2.0.1:8001 -m -w 7\n");
    for service in 0..3000 {
        let place = format!("10.{}.{}.1:80", 100 + service / 250, service % 250);
        let server = format!("-a -t {place} -r 10.2.0.1:8001 -m -w 7");
        writeln!(rules, "-A -t {place} -s rr\n{server}").unwrap();
    }
    guest.restore(&[], &rules).ok();
    let before = state(guest);
    let words = [
        "ipvs",
        guest.id(),
        "end-connections",
        "--server",
        "10.2.0.1",
    ];
    for moment in KILL_DELAYS_MS.into_iter().chain([180, 260, 360, 500]) {
        let open = field.clients[0].connections(8001, 2);
        killed_during(guest, moment, || guest.patchbay(&words));
        assert_eq!(state(guest), before, "after {moment} ms");
        drop(open);
    }
    let console = guest.sandbox(&["console", guest.id()]).out;
    let followed = "an interrupted change of IPVS was undone";
    assert!(
        console.contains(followed),
        "no agent was killed at its work"
    );
}
