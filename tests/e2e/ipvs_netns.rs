//! IPVS, conntrack and settings of another network namespace of the guest, compared with ipvsadm, conntrack
//! and sysctl inside of it.

use std::fmt::Write as _;

use patchbay_tests::{Done, Guest, Machine, REFERENCE_NETNS, patchbay, run};
use patchbay_types::failure::Kind;

const PATH: &str = "/run/netns/";

struct Other {
    guest: Guest,
    path: String,
}

impl Other {
    fn start() -> Self {
        let guest = Guest::start(Machine::Q35);
        guest.create_reference_netns();
        let path = format!("{PATH}{REFERENCE_NETNS}");
        Self { guest, path }
    }

    /// Runs a program in the namespace.
    fn inside(&self, words: &str) -> String {
        let words = format!("ip netns exec {REFERENCE_NETNS} {words}");
        self.guest.exec(&words).ok()
    }

    /// Runs patchbay for a namespace.
    fn run_in(&self, option: &str, netns: &str, words: &[&str]) -> Done {
        self.guest.patchbay(&[&[option, netns], words].concat())
    }

    fn run(&self, words: &[&str]) -> Done {
        self.run_in("--guest-netns", &self.path, words)
    }

    fn restore(&self, rules: &str) -> Done {
        let words = ["kata-ipvs", "ipvsadm", "--restore", "-", self.guest.id()];
        let netns = ["--guest-netns", &self.path, "--replace"];
        let words = [&words[..], &netns].concat();
        run(&mut patchbay(self.guest.run_dir(), &words), rules)
    }
}

#[test]
fn commands_in_netns_change_it_alone() {
    let other = Other::start();
    let (guest, id) = (&other.guest, other.guest.id());
    guest.ipvsadm("-A -t 10.0.0.9:80 -s rr").ok();
    let own = guest.exec("ipvsadm -Sn").ok();
    other
        .run(&["ipvs", id, "-A", "-t", "10.0.0.1:80", "-s", "wrr"])
        .ok();
    other
        .run(&[
            "ipvs",
            id,
            "-a",
            "-t",
            "10.0.0.1:80",
            "-r",
            "10.0.0.2:80",
            "-m",
            "-w",
            "5",
        ])
        .ok();
    let saved = other.inside("ipvsadm -Sn");
    let rules = "-A -t 10.0.0.1:80 -s wrr\n-a -t 10.0.0.1:80 -r 10.0.0.2:80 -m -w 5\n";
    assert_eq!(saved, rules);
    assert_eq!(guest.exec("ipvsadm -Sn").ok(), own);

    // By the process of a container, and by the option that has no other meaning without --qmp.
    // Started inside, so that the process is in the namespace when its id is known.
    let sleep =
        format!("ip netns exec {REFERENCE_NETNS} sh -c 'sleep 1000 >/dev/null 2>&1 & echo $!'");
    let pid = guest.shell(&sleep).ok();
    for (option, netns) in [
        ("--guest-netns", pid.trim()),
        ("--netns", pid.trim()),
        ("--netns", &other.path),
    ] {
        assert_eq!(
            other.run_in(option, netns, &["ipvs", id, "-S", "-n"]).ok(),
            rules
        );
    }
    let listed = other.inside("ipvsadm -Ln");
    let words = ["kata-ipvs", "ipvsadm", "--parameters", "-L -n", id];
    assert_eq!(other.run(&words).ok(), listed);

    settings_and_flows(&other);
}

fn settings_and_flows(other: &Other) {
    let (guest, id) = (&other.guest, other.guest.id());
    other.run(&["sysctl", "set", id, "conntrack", "1"]).ok();
    let setting = "sysctl -n net.ipv4.vs.conntrack";
    assert_eq!(other.inside(setting), "1\n");
    assert_eq!(guest.exec(setting).ok(), "0\n");
    other
        .run(&["sysctl", "set", id, "net.ipv4.ip_forward", "1"])
        .ok();
    assert_eq!(other.inside("sysctl -n net.ipv4.ip_forward"), "1\n");

    let flow = "-s 10.0.0.9 -d 10.0.0.1 --sport 5000 --dport 53 -t 600 -u SEEN_REPLY";
    let listed = other.run(&["conntrack", "list", id]).json();
    assert_eq!(listed.as_array().unwrap().len(), 0);
    other.inside(&format!("conntrack -I -p udp {flow}"));
    let listed = other.run(&["conntrack", "list", id]).json();
    assert_eq!(listed.as_array().unwrap().len(), 1);
    let words = [
        "kata-ipvs",
        "cleanup",
        "--parameters",
        "--orig-dst 10.0.0.1",
        id,
    ];
    let deleted = "1 flow entries have been deleted.\n";
    assert_eq!(guest.patchbay(&words).ok(), deleted.replace('1', "0"));
    assert_eq!(other.run(&words).ok(), deleted);
    assert_eq!(other.inside("conntrack -L"), "");
}

#[test]
fn unusable_netns_is_refused() {
    let other = Other::start();
    let (guest, id) = (&other.guest, other.guest.id());
    guest.shell("mkfifo /tmp/pipe").ok();
    for (netns, kind, rule) in [
        ("999999", Kind::NotFound, "namespace 999999 of the guest"),
        ("/run/netns/none", Kind::NotFound, "it doesn't exist"),
        (
            "/proc/1/ns/mnt",
            Kind::Invalid,
            "it is not a network namespace",
        ),
        ("/tmp/pipe", Kind::Invalid, "it is not a network namespace"),
        ("/proc", Kind::Invalid, "it is not a network namespace"),
        (
            "run/netns/x",
            Kind::Invalid,
            "a process id or an absolute path",
        ),
    ] {
        let done = other.run_in("--guest-netns", netns, &["ipvs", id, "-C"]);
        done.assert_error(kind, rule);
    }
    // A command that has no namespace of the guest.
    let done = other.run_in("--guest-netns", "1", &["route", "list", id]);
    done.assert_error(Kind::Invalid, "--guest-netns is for ipvs");
    let done = other.run_in("--netns", "1", &["--guest-netns", "1", "ipvs", id, "-C"]);
    done.assert_error(Kind::Invalid, "exclude each other");
}

#[test]
fn restore_in_netns_agent_killed_is_undone() {
    let other = Other::start();
    let guest = &other.guest;
    let file = |weight: u8| {
        let mut rules = String::new();
        for service in 0..3000 {
            let place = format!("10.{}.{}.1:80", service / 250, service % 250);
            let server = format!("-a -t {place} -r 10.200.0.1:80 -m -w {weight}");
            writeln!(rules, "-A -t {place} -s rr\n{server}").unwrap();
        }
        rules
    };
    other.restore(&file(1)).ok();
    let saved = || other.inside("ipvsadm -Sn");
    let before = saved();
    other.restore(&file(2)).ok();
    let after = saved();
    let mut undone = 0;
    for moment in [60, 120, 200, 300, 450] {
        other.restore(&file(1)).ok();
        std::thread::scope(|scope| {
            let done = scope.spawn(|| other.restore(&file(2)));
            std::thread::sleep(std::time::Duration::from_millis(moment));
            guest.shell("kill -9 $(pidof patchbay-agent); true");
            eprintln!("after {moment} ms: {}", done.join().unwrap());
        });
        // The restarted agent undoes it before it is reached again.
        let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
        loop {
            let now = saved();
            if now == before || now == after {
                break;
            }
            assert!(
                std::time::Instant::now() < end,
                "half a file after {moment} ms: {} of {} lines, {} with the old weight",
                now.lines().count(),
                before.lines().count(),
                now.matches("-w 1\n").count()
            );
        }
        undone += usize::from(saved() == before);
        while guest.patchbay(&["ipvs", guest.id(), "-L"]).status != 0 {
            assert!(std::time::Instant::now() < end, "no agent");
        }
    }
    assert!(undone > 0);
    assert_eq!(
        guest.shell("ls /run/*.netns-* 2>/dev/null | wc -l").ok(),
        "0\n"
    );
}
