//! Random commands, each run by patchbay in the guest and by ipvsadm in the reference namespace: rules,
//! success and lists are the same.

use fastrand::Rng;
use patchbay_tests::{Cases, Guest, Machine, REFERENCE_NETNS, seeded_rng, seeds};

/// Seeds of a sample and of a full run, and steps of each.
const SEEDS: Cases = Cases { sample: 1, full: 8 };
const STEPS: usize = 130;
/// Interval, in steps, at which every format is compared; else the rules and one more format are.
const ALL_FORMATS: usize = 26;
/// Steps per run of ipvsadm, whose start in the guest costs more than its work.
const BLOCK: usize = 13;

/// Returns whether servers of this service have IPv6 addresses.
fn is_v6(service: &str) -> bool {
    service.contains('[') || service.ends_with("-6")
}

struct Steps(Rng);

impl Steps {
    fn one(&mut self, of: &[&'static str]) -> &'static str {
        self.0.choice(of).unwrap()
    }

    fn service(&mut self) -> &'static str {
        self.one(&[
            "-t 10.0.0.1:80",
            "-t 10.0.0.1:81",
            "-u 10.0.0.1:80",
            "--sctp-service 10.0.0.1:80",
            "-t [2001:db8::1]:80",
            "-u [2001:db8::1]:53",
            "-f 1",
            "-f 1 -6",
            "-t 9.255.0.1:0",
        ])
    }

    /// Returns options of a service, most of them valid.
    fn service_words(&mut self, service: &str) -> String {
        let scheduler = self.one(&[
            "",
            "-s rr",
            "-s wrr",
            "-s sh -b sh-port",
            "-s mh -b mh-fallback,mh-port",
            "-s lblc",
            "-s rr -b flag-1,flag-3",
            "-s nq",
            "-s bogus",
        ]);
        let mask = if is_v6(service) {
            "-M 64"
        } else {
            "-M 255.255.0.0"
        };
        let persistence = match self.0.u64(..8) {
            0 => "-p",
            1 => "-p 60",
            2 => &format!("-p 1 {mask}"),
            3 => "-p 90 -M 64",
            4 => "--pe sip -p 5",
            // Port 0 requires persistence.
            _ if service.ends_with(":0") => "-p 7",
            _ => "",
        };
        let ops = if service.starts_with("-t") || service.starts_with("--sctp") {
            self.one(&["", "", "", "", "", "", "", "-o"])
        } else {
            self.one(&["", "-o"])
        };
        format!("{scheduler} {persistence} {ops}")
    }

    /// Returns a server, usually of the service's address family.
    fn server(&mut self, service: &str) -> &'static str {
        let v6 = [
            "-r [2001:db8::2]:80",
            "-r 2001:db8::3",
            "-r [2001:db8::9]:80",
        ];
        let v4 = ["-r 10.0.0.2:80", "-r 10.0.0.2:8080", "-r 10.0.0.3"];
        match self.0.u64(..12) {
            0 => "-r 224.0.0.1:80",
            1 => self.one(&v4),
            2 => self.one(&v6),
            _ if is_v6(service) => self.one(&v6),
            _ => self.one(&v4),
        }
    }

    fn server_words(&mut self) -> String {
        let forward = self.one(&[
            "-m",
            "-m",
            "-g",
            "-i",
            "-i --tun-type gue --tun-port 6080",
            "-i --tun-type gre --tun-csum",
            "-i --tun-type gue --tun-port 6081 --tun-remcsum",
        ]);
        let weight = self.one(&["", "-w 0", "-w 7", "-w 70000"]);
        let thresholds = self.one(&[
            "",
            "",
            "",
            "-x 100",
            "-x 9 -y 9",
            "-x 100 -y 50",
            "-x 1 -y 2",
        ]);
        format!("{forward} {weight} {thresholds}")
    }

    fn daemon(&mut self) -> String {
        let role = self.one(&["master", "backup"]);
        let interface = self.one(&["lo", "lo", "lo", "lo", "nosuch0"]);
        let words = self.one(&[
            "",
            "--syncid 9",
            "--syncid 255 --sync-maxlen 500",
            "--mcast-group 224.0.1.9 --mcast-port 8900 --mcast-ttl 3",
            "--mcast-group ff02::5 --mcast-port 8901",
        ]);
        format!("--start-daemon {role} --mcast-interface {interface} {words}")
    }

    fn timeouts(&mut self) -> String {
        let mut one = |bound| match self.0.u64(..8) {
            0 => 0,
            // More jiffies than fit an int.
            1 => 99_999_999,
            _ => self.0.u64(..bound),
        };
        format!("--set {} {} {}", one(900), one(120), one(300))
    }

    fn command(&mut self) -> String {
        let command = self.short_command();
        // Long options, and abbreviated ones, which ipvsadm has none of.
        match self.0.u64(..8) {
            0 => long_options(&command),
            1 => long_options(&command).replace("--tcp-service", "--tcp-serv"),
            _ => command,
        }
    }

    fn short_command(&mut self) -> String {
        let service = self.service();
        match self.0.u64(..24) {
            0..5 => format!("-A {service} {}", self.service_words(service)),
            5..7 => format!("-E {service} {}", self.service_words(service)),
            7 => format!("-D {service}"),
            8..15 => format!(
                "-a {service} {} {}",
                self.server(service),
                self.server_words()
            ),
            15..17 => format!(
                "-e {service} {} {}",
                self.server(service),
                self.server_words()
            ),
            17..19 => format!("-d {service} {}", self.server(service)),
            19 => format!("-Z {service}"),
            20 => self.timeouts(),
            21 => self.daemon(),
            22 => format!("--stop-daemon {}", self.one(&["master", "backup"])),
            _ => self.one(&["-C", "-Z", "-Z", "-Z", "-Z"]).to_owned(),
        }
    }

    fn lists(&mut self, step: usize) -> Vec<String> {
        let mut lists = vec!["-S -n".to_owned()];
        if step.is_multiple_of(ALL_FORMATS) {
            lists.extend(FORMATS.iter().map(|list| (*list).to_owned()));
        } else if self.0.u64(..4) == 0 {
            let list = self.one(&["-L -n", "-L -n --stats", "-L -n --persistent-conn --exact"]);
            lists.push(format!("{list} {}", self.service()));
        } else {
            lists.push(self.one(FORMATS).to_owned());
        }
        lists
    }
}

const FORMATS: &[&str] = &[
    "-L -n",
    "-L -n --stats",
    "-L -n --rate",
    "-L -n --thresholds",
    "-L -n --persistent-conn",
    "-L -n --tun-info",
    "-L -n --exact --stats",
    "-L -n --exact --rate",
    "-L -n --sort --tun-info",
    "-L --timeout",
    "-L --daemon",
    "-L -n -c",
    "-L -n -c --persistent-conn",
    "-L -n --nosort",
    "-L -n --nosort --stats --exact",
];

/// Returns the command with the long forms of its options.
fn long_options(command: &str) -> String {
    let long = |word: &str| {
        let known = [
            ("-A", "--add-service"),
            ("-E", "--edit-service"),
            ("-D", "--delete-service"),
            ("-C", "--clear"),
            ("-a", "--add-server"),
            ("-e", "--edit-server"),
            ("-d", "--delete-server"),
            ("-Z", "--zero"),
            ("-t", "--tcp-service"),
            ("-u", "--udp-service"),
            ("-f", "--fwmark-service"),
            ("-6", "--ipv6"),
            ("-r", "--real-server"),
            ("-s", "--scheduler"),
            ("-b", "--sched-flags"),
            ("-p", "--persistent"),
            ("-M", "--netmask"),
            ("-o", "--ops"),
            ("-g", "--gatewaying"),
            ("-i", "--ipip"),
            ("-m", "--masquerading"),
            ("-w", "--weight"),
            ("-x", "--u-threshold"),
            ("-y", "--l-threshold"),
        ];
        let found = known.iter().find(|(short, _)| *short == word);
        found.map_or(word, |(_, long)| *long).to_owned()
    };
    command.split(' ').map(long).collect::<Vec<_>>().join(" ")
}

/// Success and output of a command.
type Outcome = (bool, String);

/// Runs these lines one after another by ipvsadm in the reference namespace.
fn run_reference(guest: &Guest, lines: &[String]) -> Vec<Outcome> {
    let command = |line: &String| format!("ipvsadm {line} 2>/dev/null; echo \"== $?\"");
    let script = lines.iter().map(command).collect::<Vec<_>>().join("\n");
    let inside = [
        "exec",
        guest.id(),
        "--",
        "ip",
        "netns",
        "exec",
        REFERENCE_NETNS,
    ];
    let words = [&inside[..], &["sh", "-c", &script]].concat();
    let mut outcomes = Vec::new();
    let mut printed = String::new();
    for line in guest.sandbox(&words).ok().lines() {
        if let Some(status) = line.strip_prefix("== ") {
            outcomes.push((status == "0", std::mem::take(&mut printed)));
        } else {
            printed.push_str(line);
            printed.push('\n');
        }
    }
    outcomes
}

fn run_patchbay(guest: &Guest, line: &str) -> Outcome {
    let done = guest.ipvsadm(line);
    (done.status == 0, done.out)
}

/// The order of `--nosort` is that of the kernel's hash table, whose hash includes the namespace: only
/// a list of the same namespace has the same order, in others the same lines.
fn assert_nosort(guest: &Guest, line: &str, outcome: &Outcome, place: &str) {
    let here = guest.exec(&format!("ipvsadm {line}")).ok();
    assert_eq!(outcome.1, here, "{place}: {line} in the same namespace");
}

fn sort_if_nosort(line: &str, outcome: Outcome) -> Outcome {
    if !line.contains("--nosort") {
        return outcome;
    }
    let mut lines: Vec<_> = outcome.1.lines().collect();
    lines.sort_unstable();
    (outcome.0, lines.join("\n"))
}

/// Runs random steps on empty tables; returns the number of successful ones.
fn walk(guest: &Guest, seed: u64) -> usize {
    let mut steps = Steps(seeded_rng(seed));
    let mut accepted = 0;
    let (mut lines, mut places, mut outcomes) = (Vec::new(), Vec::new(), Vec::new());
    for empty in ["--stop-daemon master", "--stop-daemon backup", "-C"] {
        guest.ipvsadm(empty);
        guest.reference_ipvsadm(&empty.split(' ').collect::<Vec<_>>());
    }
    for step in 1..=STEPS {
        let command = steps.command();
        let place = format!("seed {seed}, step {step}: {command}");
        let outcome = run_patchbay(guest, &command);
        accepted += usize::from(outcome.0);
        lines.push(command);
        outcomes.push(outcome);
        places.push(place.clone());
        for list in steps.lists(step) {
            let outcome = run_patchbay(guest, &list);
            if list.contains("--nosort") {
                assert_nosort(guest, &list, &outcome, &place);
            }
            lines.push(list);
            outcomes.push(outcome);
            places.push(place.clone());
        }
        if step.is_multiple_of(BLOCK) {
            let reference = run_reference(guest, &lines);
            assert_eq!(reference.len(), lines.len());
            let both = outcomes.drain(..).zip(reference);
            for ((line, place), (ours, theirs)) in lines.drain(..).zip(places.drain(..)).zip(both) {
                let (ours, theirs) = (sort_if_nosort(&line, ours), sort_if_nosort(&line, theirs));
                assert_eq!(ours, theirs, "{place}: {line}: patchbay, ipvsadm");
            }
        }
    }
    accepted
}

/// Restores random files on an occupied table, by patchbay and by ipvsadm, until enough were tried and
/// enough accepted. What patchbay refuses leaves the table as it was.
fn restore_files(guest: &Guest, seed: u64) {
    const FILES: Cases = Cases {
        sample: 25,
        full: 120,
    };
    const ACCEPTED: usize = 6;
    let state = "-S -n; ipvsadm -L --timeout; ipvsadm -L --daemon";
    let here = |command: &str| guest.shell(command).ok();
    let reference = format!("ip netns exec {REFERENCE_NETNS} sh");
    let mut steps = Steps(seeded_rng(seed));
    let wanted = FILES.count();
    let (mut files, mut accepted) = (0, 0);
    while files < wanted || accepted < ACCEPTED {
        files += 1;
        assert!(files <= 20 * wanted, "{accepted} accepted");
        let mut file = String::from("-C\n");
        for _ in 0..steps.0.usize(1..7) {
            file += &steps.command();
            file.push('\n');
        }
        let empty = "ipvsadm --stop-daemon master; ipvsadm --stop-daemon backup; \
                     ipvsadm --set 900 120 300; ipvsadm -C; ipvsadm -A -t 10.9.9.9:9 -p 7; ";
        let before = here(&format!("({empty}) 2>/dev/null; ipvsadm {state}"));
        let done = guest.restore(&[], &file);
        let after = here(&format!("ipvsadm {state}"));
        if done.status != 0 {
            assert_eq!(after, before, "{file}{done}");
            continue;
        }
        accepted += 1;
        guest.write_file("/tmp/file", &file);
        let script = format!("({empty} ipvsadm -R </tmp/file) 2>/dev/null; ipvsadm {state}");
        guest.write_file("/tmp/script", &script);
        assert_eq!(after, here(&format!("{reference} /tmp/script")), "{file}");
    }
    println!("{accepted} of {files} accepted");
}

#[test]
fn random_files_match_ipvsadm() {
    let guest = Guest::start(Machine::Q35);
    guest.create_reference_netns();
    restore_files(&guest, seeds(1)[0]);
}

#[test]
fn random_commands_match_ipvsadm() {
    let guest = Guest::start(Machine::Q35);
    guest.create_reference_netns();
    for seed in seeds(SEEDS.count()) {
        let accepted = walk(&guest, seed);
        println!("{accepted} of {STEPS} accepted by both");
        assert!(accepted > STEPS / 10, "{accepted}");
    }
}
