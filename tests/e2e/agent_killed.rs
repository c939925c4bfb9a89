//! The agent is killed in the guest, idle and at work. It restarts, reads the state of the kernel, and
//! the next command works.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use patchbay_tests::balance::{Balancer, VIP};
use patchbay_tests::{AGENT_PID, Card, Cases, Done, Guest, Machine, patchbay, run};
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

/// Number of steps of a command at which the agent is killed, in a sample and in a full run.
const KILLS: Cases = Cases {
    sample: 3,
    full: 12,
};

/// Number of services of a table, in a sample and in a full run: one that takes the kernel a while to change.
const SERVICES: Cases = Cases {
    sample: 1000,
    full: 3000,
};

/// System calls of the agent with an effect: requests to the kernel, replies to the host, the undo log.
const CALLS: &str = "sendto,sendmsg,write,ioctl,fsync,rename,unlink";

/// A system call by one of the agent's threads, counted from 1 for each name.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Step {
    call: String,
    number: usize,
}

/// Copies strace and its libraries from the host to the guest, which has the same Debian.
fn install_strace(guest: &Guest) {
    let pack = "set -o pipefail; strace=$(command -v strace) && \
                tar -chzf - $strace $(ldd $strace | grep -o '/lib[^ ]*') 2>/dev/null | base64";
    let packed = run(Command::new("bash").args(["-c", pack]), "").ok();
    guest.write_file("/tmp/strace.tar", &packed);
    let unpack = "mkdir /tmp/strace && base64 -d </tmp/strace.tar | tar -C /tmp/strace -xzf -";
    guest.shell(unpack).ok();
}

/// Attaches strace to all threads of the agent.
fn trace(guest: &Guest, options: &str) {
    guest
        .shell(&format!(
            "cd /tmp/strace && rm -f /tmp/calls && pid={AGENT_PID}
             lib64/ld-linux-x86-64.so.2 --library-path lib/x86_64-linux-gnu usr/bin/strace -f -q \
               -o /tmp/calls -p $pid -e trace={CALLS} {options} </dev/null >/tmp/strace.log 2>&1 &
             echo $! >/tmp/tracer
             while grep -h TracerPid /proc/$pid/task/*/status | grep -qw 0; do
               kill -0 $(cat /tmp/tracer) || {{ cat /tmp/strace.log >&2; exit 1; }}
             done"
        ))
        .ok();
}

/// Detaches strace; returns the calls that it has seen.
fn end_trace(guest: &Guest) -> String {
    let stop = "kill -INT $(cat /tmp/tracer) 2>/dev/null
                while kill -0 $(cat /tmp/tracer) 2>/dev/null; do :; done
                cat /tmp/calls";
    guest.shell(stop).ok()
}

/// Runs a command; returns steps of the agent meanwhile, evenly spaced.
fn steps(guest: &Guest, command: impl FnOnce() -> Done) -> Vec<Step> {
    trace(guest, "");
    command().ok();
    let calls = end_trace(guest);
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let mut steps = Vec::new();
    // Lines are `PID CALL(ARGUMENTS) = RESULT`, also of calls that were resumed.
    for line in calls.lines() {
        let (pid, rest) = line.split_once(' ').unwrap();
        let Some((call, _)) = rest.trim_start().split_once('(') else {
            continue;
        };
        if !CALLS.split(',').any(|name| name == call) {
            continue;
        }
        let number = counts.entry((pid, call)).or_default();
        *number += 1;
        let step = Step {
            call: call.to_owned(),
            number: *number,
        };
        if !steps.contains(&step) {
            steps.push(step);
        }
    }
    eprintln!("{} steps: {counts:?}", steps.len());
    let kills = KILLS.count();
    let between = steps.len().div_ceil(kills).max(1);
    // The first steps of a command have no effect yet.
    steps
        .into_iter()
        .skip(between / 2)
        .step_by(between)
        .collect()
}

fn kill(guest: &Guest) {
    guest.shell(&format!("kill -9 {AGENT_PID}; true"));
}

/// Runs a command; the agent is killed before a step. Asserts that the command exits in time by itself.
/// Returns whether the agent reached the step: requests are not always served by the same threads.
fn killed_during(guest: &Guest, step: &Step, command: impl FnOnce() -> Done) -> bool {
    let Step { call, number } = step;
    let begun = Instant::now();
    trace(
        guest,
        &format!("-e inject={call}:signal=KILL:when={number}"),
    );
    let done = command();
    let killed = end_trace(guest).contains("killed by SIGKILL");
    eprintln!("{step:?}, killed: {killed}; {done}");
    assert!((0..=9).contains(&done.status), "{done}");
    assert!(begun.elapsed() < Duration::from_secs(60), "{done}");
    killed
}

/// Runs a test of one kill for each step; asserts that most of the kills took place.
fn for_each_step(steps: &[Step], mut test: impl FnMut(&Step) -> bool) {
    let killed = steps.iter().filter(|step| test(step)).count();
    eprintln!("killed at {killed} of {} steps", steps.len());
    assert!(killed * 2 > steps.len());
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
    install_strace(&guest);
    let steps = steps(&guest, || guest.plug(&card()));
    guest.unplug(&card()).ok();
    for_each_step(&steps, |step| {
        let killed = killed_during(&guest, step, || guest.plug(&card()));
        let added = retry(|| guest.plug(&card())).json();
        assert_eq!(added["name"], "eth-k", "killed at {step:?}");
        let links = guest.ip("link show");
        let ours = links.as_array().unwrap().iter();
        let ours = ours.filter(|link| link["address"] == "02:42:20:6f:a3:70");
        assert_eq!(ours.count(), 1, "{links}");
        retry(|| guest.unplug(&card())).ok();
        assert!(guest.netns().links().is_empty());
        killed
    });
}

#[test]
fn add_route_agent_killed_can_be_repeated() {
    let guest = Guest::start(Machine::Q35);
    guest.plug(&card()).ok();
    let route = |number: usize| json!({"dest": format!("10.{}.{}.0/24", number / 250, number % 250), "device": "eth-k"});
    let routes = json!((0..2000).map(route).collect::<Vec<_>>()).to_string();
    install_strace(&guest);
    let steps = steps(&guest, || guest.kata_network("add-route", &routes));
    guest.kata_network("del-route", &routes).ok();
    for_each_step(&steps, |step| {
        let killed = killed_during(&guest, step, || guest.kata_network("add-route", &routes));
        retry(|| guest.kata_network("add-route", &routes)).ok();
        let there = guest.exec("ip -4 route show").ok();
        assert_eq!(
            there.lines().filter(|line| line.starts_with("10.")).count(),
            2000
        );
        retry(|| guest.kata_network("del-route", &routes)).ok();
        killed
    });
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
    let services = SERVICES.count();
    let (first, second) = (
        file(1, 0..services),
        file(2, services / 2..services * 3 / 2),
    );
    install_strace(&guest);
    let steps = steps(&guest, || restore(&second, &[]));
    let changed = saved_rules(&guest);
    restore(&first, &["--replace"]).ok();
    let whole = saved_rules(&guest);
    let mut undone = 0;
    for_each_step(&steps, |step| {
        guest.ipvsadm("-C").ok();
        guest.ipvsadm("--set 1 2 3").ok();
        guest.ipvsadm("--stop-daemon master");
        let first_killed = killed_during(&guest, step, || restore(&first, &[]));
        let now = saved_rules(&guest);
        assert!(now.is_empty() || now == whole, "killed at {step:?}");
        let timeouts = guest.exec("ipvsadm -L --timeout").ok();
        let done = !now.is_empty();
        assert_eq!(timeouts.contains(": 100 200 300"), done, "{timeouts}");
        let daemons = guest.exec("ipvsadm -L --daemon").ok();
        assert_eq!(daemons.contains("syncid=7"), done, "{daemons}");
        undone += usize::from(!done);

        retry(|| restore(&first, &["--replace"])).ok();
        let second_killed = killed_during(&guest, step, || restore(&second, &["--replace"]));
        let now = saved_rules(&guest);
        assert!(now == whole || now == changed, "killed at {step:?}");
        undone += usize::from(now == whole);
        first_killed && second_killed
    });
    assert!(undone > 0);
    let console = guest.sandbox(&["console", guest.id()]).out;
    let followed = "an interrupted change of IPVS was undone";
    assert!(
        console.contains(followed),
        "no agent was killed at its work"
    );
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
    for service in 0..SERVICES.count() {
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
    install_strace(guest);
    let open = field.clients[0].connections(8001, 2);
    let steps = steps(guest, || guest.patchbay(&words));
    drop(open);
    for_each_step(&steps, |step| {
        let open = field.clients[0].connections(8001, 2);
        let killed = killed_during(guest, step, || guest.patchbay(&words));
        assert_eq!(state(guest), before, "killed at {step:?}");
        drop(open);
        killed
    });
    let console = guest.sandbox(&["console", guest.id()]).out;
    let followed = "an interrupted change of IPVS was undone";
    assert!(
        console.contains(followed),
        "no agent was killed at its work"
    );
}
