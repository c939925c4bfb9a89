//! IPVS and conntrack in a guest, compared with ipvsadm and conntrack.

use std::fmt::Write as _;

use patchbay_grammar::split;
use patchbay_tests::{Guest, Machine, REFERENCE_NETNS};
use serde_json::Value;

fn vectors(file: &str) -> Value {
    let path = format!("{}/fixtures/{file}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn texts(value: &Value) -> Vec<&str> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|text| text.as_str().unwrap())
        .collect()
}

/// Adds `-m` to commands without a forwarding method, for which ipvsadm's default is direct routing
/// and the user guide's is NAT.
fn with_nat(args: &str) -> String {
    let words = split(args).unwrap_or_default();
    let command = words
        .iter()
        .any(|word| ["-a", "-e", "--add-server", "--edit-server"].contains(&word.as_str()));
    let given = words.iter().any(|word| {
        let long = ["--gatewaying", "--ipip", "--masquerading"].contains(&word.as_str());
        long || ["-g", "-i", "-m"].contains(&word.as_str())
    });
    if command && !given {
        format!("{args} -m")
    } else {
        args.to_owned()
    }
}

/// Returns whether a command needs names or an interface of the machine that recorded it, which the
/// guest lacks. The grammar's unit tests cover these.
fn needs_recording_machine(args: &str) -> bool {
    let needs = ["testhost", ":http", ":domain", "eth0", "daemon"];
    needs.iter().any(|need| args.contains(need))
}

fn unsigned(save: &str) -> String {
    let fix = |line: &str| {
        let mut words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let at = words.iter().position(|word| word == "-f");
        let mark = at.and_then(|at| Some((at + 1, words[at + 1].parse::<i32>().ok()?)));
        if let Some((at, mark)) = mark {
            words[at] = mark.cast_unsigned().to_string();
        }
        words.join(" ")
    };
    save.lines().map(|line| fix(line) + "\n").collect()
}

/// Runs commands of ipvsadm on empty tables of the reference namespace, in one process of the guest since
/// each costs more than its work. Returns the exit status of the last one, the rules of the reference
/// namespace and those of the first one.
fn run_reference(guest: &Guest, lines: &[String]) -> [String; 3] {
    let command = |line: &String| {
        let words = split(line).unwrap();
        let quoted = words
            .iter()
            .map(|word| format!("'{}'", word.replace('\'', r"'\''")));
        format!("ipvsadm {}", quoted.collect::<Vec<_>>().join(" "))
    };
    let (last, setup) = lines.split_last().unwrap();
    let setup: Vec<_> = setup
        .iter()
        .map(|line| command(line) + " || exit")
        .collect();
    let script = format!(
        "ip netns exec {REFERENCE_NETNS} sh <<'END' || exit\nipvsadm -C || exit\n{}\n\
         {} >/dev/null 2>&1\necho $?; echo ==; ipvsadm -Sn\nEND\necho ==; ipvsadm -Sn",
        setup.join("\n"),
        command(last),
    );
    let out = guest.shell(&script).ok();
    let parts = out.splitn(3, "==\n").map(str::to_owned);
    parts.collect::<Vec<_>>().try_into().unwrap()
}

#[test]
fn recorded_commands_match_ipvsadm() {
    let guest = Guest::start(Machine::Q35);
    guest.create_reference_netns();
    let file = vectors("ipvs.json");
    let mut wrong = String::new();
    let mut tried = 0;
    for vector in file["vectors"].as_array().unwrap() {
        let args = vector["args"].as_str().unwrap();
        // Parse errors are covered by the grammar's unit tests.
        if vector["stage"] == "parse"
            || needs_recording_machine(args)
            || args.contains("help")
            || args == "-h x"
        {
            continue;
        }
        guest.ipvsadm("-C").ok();
        let mut lines: Vec<_> = texts(&vector["setup"]).into_iter().map(with_nat).collect();
        for setup in &lines {
            guest.ipvsadm(setup).ok();
        }
        let ours = guest.ipvsadm(args);
        lines.push(with_nat(args));
        let [status, expected, judged] = run_reference(&guest, &lines);
        tried += 1;
        if (ours.status == 0) != (status == "0\n") {
            writeln!(wrong, "{args}: {ours}\njudge: {status}").unwrap();
        }
        if judged != expected {
            writeln!(wrong, "{args}: {judged}\njudge: {expected}").unwrap();
        }
        if guest.ipvsadm("-S -n").ok() != unsigned(&judged) {
            writeln!(wrong, "{args}: our -Sn differs").unwrap();
        }
    }
    assert!(tried > 150, "{tried}");
    assert!(wrong.is_empty(), "{wrong}");
}

/// Rules for the comparison of lists, added by ipvsadm.
const STATE: &str = "-A -t 10.0.0.1:80 -s rr -p 100 -M 255.255.0.0\n\
    -a -t 10.0.0.1:80 -r 10.0.0.2:80 -m -w 7 -x 100 -y 50\n\
    -a -t 10.0.0.1:80 -r 10.0.0.12:8080 -m -w 70000\n\
    -A -t 9.255.0.1:443 -s wlc\n\
    -a -t 9.255.0.1:443 -r 10.0.0.3:443 -i --tun-type gre --tun-csum\n\
    -a -t 9.255.0.1:443 -r [2001:db8::9]:443 -i\n\
    -A -u [2001:db8::1]:5060 -s sh -p 300 -M 64 -o --pe sip -b sh-port,flag-3\n\
    -a -u [2001:db8::1]:5060 -r [2001:db8::2]:53 -m -w 3\n\
    -A --sctp-service 10.0.0.1:2905 -s mh -b mh-fallback\n\
    -A -f 12 -s wrr -b flag-1,flag-3\n\
    -a -f 12 -r 10.0.0.8:0 -i --tun-type gue --tun-port 6080 --tun-remcsum -w 4\n\
    -A -f 12 -6 -s nq\n";

const LISTS: &[&str] = &[
    "-L -n",
    "-L -n --stats",
    "-L -n --rate",
    "-L -n --thresholds",
    "-L -n --persistent-conn",
    "-L -n --tun-info",
    "-L -n --exact --stats",
    "-L -n --nosort",
    "-L -n -t 10.0.0.1:80",
    "-L -n -f 12 -6",
    "-L --timeout",
    "-L --daemon",
    "-L -n -c",
    "-L -c -n --persistent-conn",
    "-S -n",
    "-L -n -u [2001:db8::1]:5060 --stats",
    "-Ln --sort --rate --exact",
    "-ln",
];

#[test]
fn lists_match_ipvsadm() {
    let guest = Guest::start(Machine::Q35);
    guest.create_reference_netns();
    for line in STATE.lines() {
        guest.exec(&format!("ipvsadm {}", line.trim())).ok();
    }
    guest.exec("ipvsadm --set 100 20 30").ok();
    guest.exec("ipvsadm --start-daemon backup --mcast-interface lo --syncid 7");
    for list in LISTS {
        assert_eq!(
            guest.ipvsadm(list).ok(),
            guest.exec(&format!("ipvsadm {list}")).ok(),
            "{list}"
        );
    }
    let unknown = guest.ipvsadm("-L -n -t 10.9.9.9:1");
    assert_eq!((unknown.status, unknown.out.as_str()), (3, ""), "{unknown}");
    // Saved rules can be restored.
    let saved = guest.ipvsadm("-S -n").ok();
    guest.restore(&["--replace"], &saved).ok();
    assert_eq!(guest.exec("ipvsadm -Sn").ok(), saved);
}

/// Returns rules of services with three servers each; `count` includes the services.
fn rules(count: usize) -> String {
    let mut text = String::new();
    for service in 0..count / 4 {
        let vip = format!("10.{}.{}.1:80", 100 + service / 250, service % 250);
        writeln!(text, "-A -t {vip} -s rr").unwrap();
        for server in 1..=3 {
            let (net, port) = (service % 200, 8000 + service / 200);
            writeln!(text, "-a -t {vip} -r 172.16.{net}.{server}:{port} -m").unwrap();
        }
    }
    text
}

/// A bad line at the beginning, in the middle or at the end of a file with many changes.
fn bad_lines_change_nothing(guest: &Guest, file: &str) {
    let other = file.replace("172.16.7.2:", "172.16.7.9:");
    let lines: Vec<&str> = other.lines().collect();
    for (at, mode) in [
        (1, "--replace"),
        (10_001, "--replace"),
        (20_000, "--merge"),
        (20_000, "--replace"),
    ] {
        let mut refused = lines.clone();
        let service = lines[at - 1].split(' ').nth(2).unwrap();
        // Only the kernel refuses an unknown scheduler and a multicast server.
        let (index, bad) = match at {
            1 => (0, "-A -t 10.99.0.1:80 -s nosuch".to_owned()),
            _ => (at, format!("-a -t {service} -r 224.0.0.1:80 -m")),
        };
        refused.insert(index, &bad);
        let done = guest.restore(&[mode, "--max-rules", "30000"], &refused.join("\n"));
        let line = format!("line {}: ", index + 1);
        assert_ne!(done.status, 0, "{at} {mode}");
        assert!(done.err.contains(&line), "{at} {mode}: {done}");
        let mut wrong = lines.clone();
        wrong[at - 1] = "-A -t nonsense";
        let done = guest.restore(&[mode], &wrong.join("\n"));
        let line = format!("line {at}: -t/--tcp-service 'nonsense'");
        assert!(done.err.contains(&line), "{at} {mode}: {done}");
    }
}

#[test]
fn restore_20000_rules_bad_line_changes_nothing() {
    let guest = Guest::start(Machine::Q35);
    let file = rules(20_000);
    guest.restore(&[], &file).ok();
    let saved = guest.exec("ipvsadm -Sn").ok();
    assert_eq!(saved.lines().count(), 20_000);
    assert_eq!(guest.ipvsadm("-S -n").ok(), saved);
    let listed = guest.exec("ipvsadm -L -n").ok();
    assert_eq!(guest.ipvsadm("-L -n").ok(), listed);
    let again = guest.restore(&[], &file);
    assert_eq!((again.status, again.out.as_str()), (4, ""), "{again}");
    assert!(again.err.contains("20000 rules already"), "{again}");
    let more = guest.ipvsadm("-A -t 10.0.0.1:80");
    assert!(
        more.err.contains("20001 rules exceed the limit of 20000"),
        "{more}"
    );

    bad_lines_change_nothing(&guest, &file);
    assert_eq!(guest.exec("ipvsadm -Sn").ok(), saved);

    let other = file.replace("172.16.7.2:", "172.16.7.9:");
    guest.restore(&["--replace"], &other).ok();
    assert_eq!(
        guest
            .exec("ipvsadm -Sn")
            .ok()
            .matches("172.16.7.9:")
            .count(),
        25
    );
    guest.ipvsadm("-C").ok();
    assert_eq!(guest.exec("ipvsadm -Sn").ok(), "");
}

/// Recorded rule files with another result than ipvsadm's; the grammar's tests have parse errors.
const RESTORED_OTHERWISE: &[(&str, &str)] = &[
    (
        "kernel error continues, last line ok -> rc 0",
        "all or nothing",
    ),
    ("kernel error on the last line -> rc 255", "all or nothing"),
    (
        "parse error stops the restore (later lines lost)",
        "all or nothing",
    ),
    ("matrix error stops", "all or nothing"),
    ("no command stops (tryhelp)", "all or nothing"),
    (
        "popt error (unknown option) does not stop",
        "all or nothing",
    ),
    ("popt missing argument does not stop", "all or nothing"),
    ("single quotes literal", "all or nothing"),
    ("comment first line", "comments are allowed"),
    ("comment middle", "comments are allowed"),
];

#[test]
fn restore_recorded_files_matches_ipvsadm() {
    let guest = Guest::start(Machine::Q35);
    for vector in vectors("restore.json").as_array().unwrap() {
        let name = vector["name"].as_str().unwrap();
        guest.ipvsadm("-C").ok();
        let done = guest.restore(&[], vector["stdin"].as_str().unwrap());
        let table = guest.exec("ipvsadm -Sn").ok();
        match RESTORED_OTHERWISE.iter().find(|(other, _)| *other == name) {
            Some((_, "all or nothing")) => {
                assert_ne!(done.status, 0, "{name}: {done}");
                assert_eq!(table, "", "{name}");
            }
            Some(_) => assert_eq!(done.status, 0, "{name}: {done}"),
            None => {
                assert_eq!(done.status == 0, vector["rc"] == 0, "{name}: {done}");
                assert_eq!(table, vector["save"].as_str().unwrap(), "{name}");
            }
        }
    }
}

/// Protocol, source and destination of the flows that `conntrack -I` creates.
const FLOWS: [(&str, &str, &str); 6] = [
    ("tcp", "10.0.0.9", "10.0.0.1"),
    ("tcp", "10.0.0.8", "10.0.0.2"),
    ("udp", "10.0.0.9", "10.0.0.1"),
    ("tcp", "2001:db8::9", "2001:db8::1"),
    ("udp", "2001:db8::9", "2001:db8::1"),
    ("tcp", "2001:db8::9", "2001:db8::2"),
];

#[test]
fn cleanup_deletes_only_matching_flows() {
    let guest = Guest::start(Machine::Q35);
    // Loads the modules of conntrack, which the guest can't load on demand.
    assert_eq!(
        guest.cleanup("--orig-dst 10.0.0.1 --protonum tcp").ok(),
        "0 flow entries have been deleted.\n"
    );
    for (words, left) in [
        ("--orig-dst 10.0.0.1 --protonum tcp", 5),
        ("--orig-dst 10.0.0.1", 4),
        ("-d 2001:db8::1 -p udp", 5),
        ("-d 2001:db8::/32", 3),
        ("-p tcp --dport 80", 2),
        ("-d 10.0.0.1 -p tcp --dport 80", 5),
        ("-d 10.0.0.1 -p tcp --sport 101", 6),
        ("--dst-nat", 6),
        ("-s 10.0.0.8 -d 10.0.0.2", 5),
        ("-f ipv6", 3),
        ("-d 10.0.0.3", 6),
    ] {
        for (at, (protocol, src, dst)) in FLOWS.iter().enumerate() {
            let state = if *protocol == "tcp" {
                "--state ESTABLISHED"
            } else {
                ""
            };
            guest
                .exec(&format!(
                    "conntrack -I -p {protocol} -s {src} -d {dst} --sport 100{at} --dport 80 -t 600 -u SEEN_REPLY,ASSURED {state}"
                ))
                .ok();
        }
        let output = guest.cleanup(words).ok();
        assert_eq!(
            output,
            format!("{} flow entries have been deleted.\n", 6 - left),
            "{words}"
        );
        let count = guest.exec("conntrack -C").ok();
        assert_eq!(count.trim(), left.to_string(), "{words}");
        guest.exec("conntrack -F");
    }
    let everything = guest.cleanup("");
    assert_eq!(
        (everything.status, everything.out.as_str()),
        (2, ""),
        "{everything}"
    );
}
