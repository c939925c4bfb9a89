//! Processes of the guest try to answer the host in the agent's place.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use patchbay_tests::{AGENT_PID, Cases, Guest, Machine, bin};

/// Kills of the agent while a process tries to bind its ports.
const KILLS: Cases = Cases {
    sample: 10,
    full: 50,
};
/// Processes that the OOM killer takes after all others.
const BYSTANDERS: u32 = 20;
/// User without a capability.
const USER: u32 = 1000;

/// Kills the agent and waits for the next one, in the guest.
const KILL_AND_WAIT: &str = "pid=$(pidof patchbay-agent); kill -9 $pid; \
    while new=$(pidof patchbay-agent); [ -z \"$new\" ] || [ \"$new\" = \"$pid\" ]; do sleep 0.02; done";

fn agent_pid(guest: &Guest) -> String {
    guest.exec("pidof patchbay-agent").ok()
}

#[test]
fn ports_agent_killed_often_are_never_free() {
    let guest = Guest::start(Machine::Q35);
    let user = USER.to_string();
    let words = [
        "exec",
        guest.id(),
        "--",
        "patchbay-intruder",
        &user,
        "squat",
        "961",
        "1061",
    ];
    let mut squatter = Command::new(bin("patchbay-sandbox"))
        .env("PATCHBAY_RUN_DIR", guest.run_dir())
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let first = agent_pid(&guest);
    for _ in 0..KILLS.count() {
        guest.shell(KILL_AND_WAIT).ok();
    }
    assert_ne!(agent_pid(&guest), first);
    drop(squatter.stdin.take());
    let output = squatter.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "over\n");
    guest.kata_network("list-ifaces", "").ok();
}

/// The kernel keeps the connection until the next agent accepts it.
#[test]
fn command_agent_is_restarting_waits_for_it() {
    let guest = Guest::start(Machine::Q35);
    for _ in 0..3 {
        guest.shell("kill -9 $(pidof patchbay-agent)").ok();
        guest.kata_network("list-ifaces", "").ok();
    }
}

#[test]
fn agent_memory_exhausted_by_user_survives() {
    let guest = Guest::start(Machine::Q35);
    let before = agent_pid(&guest);
    // The kernel panics if it finds nothing to kill while it still frees the file of the last victim.
    let bystander = "sh -c 'echo -900 >/proc/self/oom_score_adj; exec sleep 600' >/dev/null 2>&1 &";
    guest
        .shell(&format!(
            "for i in $(seq {BYSTANDERS}); do {bystander} done"
        ))
        .ok();
    // The victims include the server of `exec`, so the process must not depend on it.
    let attack = format!("setsid patchbay-intruder {USER} exhaust >/dev/null 2>&1 </dev/null &");
    guest.shell(&attack);
    let deadline = Instant::now() + Duration::from_secs(60);
    // The last victim is the process itself.
    let console = || guest.sandbox(&["console", guest.id()]).ok();
    while !console().contains("(patchbay-intrud)") {
        assert!(Instant::now() < deadline, "{}", console());
        std::thread::sleep(Duration::from_millis(100));
    }
    guest.kata_network("list-ifaces", "").ok();
    // The server of `exec` comes back.
    let after = loop {
        let pid = guest.exec("pidof patchbay-agent");
        if pid.status == 0 {
            break pid.out;
        }
        assert!(Instant::now() < deadline, "{pid}");
    };
    assert_eq!(after, before);
    assert!(console().contains("Killed process"), "{}", console());
}

#[test]
fn ports_agent_killed_under_systemd_are_never_free() {
    let guest = Guest::start_debian(&[]);
    let squat = format!("patchbay-intruder {USER} squat 961 1061 >/tmp/squat");
    // More kills than the default limit of starts, five in ten seconds.
    let script = format!(
        "mkfifo /tmp/end; {squat} </tmp/end & exec 3>/tmp/end; \
         for i in 1 2 3 4 5 6 7; do {KILL_AND_WAIT}; done; exec 3>&-; wait; cat /tmp/squat"
    );
    assert_eq!(guest.shell(&script).ok(), "over\n");
    guest.kata_network("list-ifaces", "").ok();
    let score = guest
        .shell("cat /proc/$(pidof patchbay-agent)/oom_score_adj")
        .ok();
    assert_eq!(score, "-1000\n");
    // The unit lets the supervisor enter namespaces.
    let netns = ["--guest-netns", "1", "sysctl", "list", guest.id()];
    guest.patchbay(&netns).ok();
}

/// Results of `patchbay-intruder confined`, as errnos.
const CONFINED: &str = "\
set ip_forward: 0
list processes: 0
create own file: 0
remove own file: 0
set core_pattern: 13
write memory: 13
write sysrq: 13
rescan PCI: 13
write program: 13
create program: 13
write console: 13
read module: 13
read program: 13
open UDP socket: 0
send UDP: 1
connect UDP: 1
connect TCP: 1
connect Unix: 1
run program: 1
new namespace: 1
signal init: 1
trace init: 1
fork: 1
load module: 1
load image: 1
become root: 1
map W+X: 1
protect W+X: 1
map file: 1
";

#[test]
fn code_in_the_agent_gets_no_further_privilege() {
    let guest = Guest::start(Machine::Q35);
    let arguments = format!(r"tr '\0' ' ' </proc/{AGENT_PID}/cmdline | cut -d' ' -f2-");
    let script = format!("patchbay-intruder 0 confined $({arguments})");
    assert_eq!(guest.shell(&script).ok(), CONFINED);
}

/// Ids of processes by their name, the child after its parent.
fn processes(guest: &Guest, name: &str) -> Vec<String> {
    let script = format!("grep -lx {name} /proc/[0-9]*/comm | cut -d/ -f3 | sort -n");
    let found = guest.shell(&script).ok();
    found.lines().map(str::to_owned).collect()
}

/// User and group of the agent and its helpers.
const ID: u32 = 96_100;

#[test]
fn agent_and_its_helpers_have_few_privileges() {
    let guest = Guest::start(Machine::Q35);
    let agent = guest.shell(&format!("echo {AGENT_PID}")).ok();
    for (processes, permitted, effective) in [
        // CAP_NET_ADMIN, and CAP_NET_BIND_SERVICE on demand.
        (vec![agent.trim_end().to_owned()], 0x1400, 0x1000),
        // CAP_SYS_MODULE.
        (processes(&guest, "patchbay-module"), 0x1_0000, 0x1_0000),
        // CAP_SYS_ADMIN, CAP_SYS_PTRACE, CAP_SETPCAP, and those of the agents and their helpers.
        (processes(&guest, "patchbay-netns"), 0x29_1500, 0x29_1500),
    ] {
        assert!(!processes.is_empty());
        for process in processes {
            let limits = "^(Uid|Gid|Groups|Cap(Eff|Prm|Bnd)|NoNewPrivs|Seccomp(_filters)?):";
            let found = guest.shell(&format!("grep -E '{limits}' /proc/{process}/status"));
            let ids = [ID; 4].map(|id| id.to_string()).join("\t");
            let expected = format!(
                "Uid:\t{ids}\nGid:\t{ids}\nGroups:\t \nCapPrm:\t{permitted:016x}\n\
                 CapEff:\t{effective:016x}\nCapBnd:\t{permitted:016x}\n\
                 NoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t2\n"
            );
            assert_eq!(found.ok(), expected, "{process}");
        }
    }
}

#[test]
fn loader_that_is_killed_is_replaced() {
    let guest = Guest::start(Machine::Q35);
    let agent = || guest.shell(&format!("echo {AGENT_PID}")).ok();
    let before = agent();
    let pair = processes(&guest, "patchbay-module");
    let [parent, child] = &pair[..] else {
        panic!("{pair:?}");
    };
    for (victim, scheduler) in [(child, "wrr"), (parent, "lc")] {
        guest.shell(&format!("kill -9 {victim}")).ok();
        let add = format!("-A -t 10.0.0.1:80 -s {scheduler}");
        guest.ipvsadm(&add).ok();
        guest.ipvsadm("-D -t 10.0.0.1:80").ok();
    }
    assert_eq!(agent(), before);
    // The successor of the child. The agent has not waited for the parent.
    let left = processes(&guest, "patchbay-module");
    let new = left.iter().filter(|process| !pair.contains(process));
    assert_eq!(new.count(), 1, "{left:?}");
}
