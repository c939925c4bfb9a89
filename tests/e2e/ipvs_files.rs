//! Rule files, names and our own saved rules, compared with ipvsadm.

use patchbay_tests::{AGENT_PID, Done, Guest, Machine, patchbay, run};
use patchbay_types::failure::Kind;
use serde_json::json;

fn saved(guest: &Guest) -> String {
    guest.exec("ipvsadm -Sn").ok()
}

fn daemons(guest: &Guest) -> String {
    guest.exec("ipvsadm -L --daemon").ok()
}

/// Runs `patchbay ipvs ID WORDS`.
fn native(guest: &Guest, words: &str, input: &str) -> Done {
    let words: Vec<&str> = words.split_whitespace().collect();
    let line = [&["ipvs", guest.id()], &words[..]].concat();
    run(&mut patchbay(guest.run_dir(), &line), input)
}

#[test]
fn rule_files_match_ipvsadm() {
    let guest = Guest::start(Machine::Q35);
    guest.exec("ip link set lo up").ok();
    names_match_ipvsadm(&guest);
    own_saved_rules_keep_every_option(&guest);
    file_that_clears_replaces_an_occupied_table(&guest);
    empty_file_clears_with_replace_only(&guest);
    daemons_of_a_file_are_part_of_it(&guest);
    backup_daemon_binds_privileged_port(&guest);
}

/// The guest gets the host's names, and no name server answers in either.
fn names_match_ipvsadm(guest: &Guest) {
    guest.shell("mkdir -p /etc").ok();
    for file in ["/etc/services", "/etc/hosts"] {
        guest.write_file(file, &std::fs::read_to_string(file).unwrap());
    }
    for rule in [
        "-A -t 127.0.0.1:80 -s rr",
        "-a -t 127.0.0.1:80 -r 127.0.0.1:443 -m",
        "-A -u 127.0.0.1:53 -s rr",
        "-a -u 127.0.0.1:53 -r 127.0.0.1:53 -m",
        "-A -f 7 -s rr",
        "-a -f 7 -r 127.0.0.1:80 -m",
        "-a -f 7 -r 127.0.0.1:443 -m",
    ] {
        guest.ipvsadm(rule).ok();
    }
    for list in ["-L", "-S", "-L -f 7", "-L --thresholds"] {
        let theirs = guest.exec(&format!("ipvsadm {list}")).ok();
        assert!(theirs.contains("localhost"), "{theirs}");
        assert_eq!(guest.ipvsadm(list).ok(), theirs, "{list}");
    }
    guest.ipvsadm("-C").ok();
}

/// Rules that ipvsadm's saved lines don't express; the first four are added by ipvsadm.
const BEYOND_IPVSADM: &str = "\
-A -t 10.0.0.1:80 -s sh -b sh-port,flag-3
-A -t 10.0.0.2:80 -s mh -b flag-3
-A -t 10.0.0.3:80 -s rr -M 255.255.0.0
-A -u [2001:db8::1]:53 -s rr -M 64
-a -t 10.0.0.1:80 -r 127.0.0.1:8080 -g -w 1 -x 9 -y 5 --keep-port
-a -t 10.0.0.2:80 -r 127.0.0.1:8081 -i -w 7 --tun-type ipip --keep-port
";

fn own_saved_rules_keep_every_option(guest: &Guest) {
    // The guest's ipvsadm can't load modules.
    for scheduler in ["sh", "mh", "rr", "wlc"] {
        native(guest, &format!("-A -t 10.9.9.9:80 -s {scheduler}"), "").ok();
        native(guest, "-C", "").ok();
    }
    for rule in BEYOND_IPVSADM.lines() {
        if rule.starts_with("-A") {
            guest.exec(&format!("ipvsadm {rule}")).ok();
        } else {
            native(guest, rule, "").ok();
        }
    }
    // ipvsadm sees the ports, though it can't save them.
    let listed = guest.exec("ipvsadm -Ln").ok();
    assert!(
        listed.contains("127.0.0.1:8080               Route"),
        "{listed}"
    );
    assert!(
        listed.contains("127.0.0.1:8081               Tunnel"),
        "{listed}"
    );
    let text = native(guest, "-S -n", "").ok();
    let mut lines: Vec<&str> = text.lines().collect();
    let mut expected: Vec<&str> = BEYOND_IPVSADM.lines().collect();
    lines.sort_unstable();
    expected.sort_unstable();
    assert_eq!(lines, expected);
    // ipvsadm's bytes stay.
    assert_eq!(guest.ipvsadm("-S -n").ok(), saved(guest));
    let flags = |guest: &Guest| -> Vec<_> {
        let table = native(guest, "-L --json", "").json();
        let services = table.as_array().unwrap().iter();
        services
            .map(|service| (service["flags"].clone(), service["netmask"].clone()))
            .collect()
    };
    let before = flags(guest);
    assert_eq!(before[0], (json!(["sh-port", "flag-3"]), json!(null)));
    assert_eq!(before[1], (json!(["flag-3"]), json!(null)));
    assert_eq!(before[2], (json!([]), json!("255.255.0.0")));
    assert_eq!(before[3], (json!([]), json!("64")));

    // The same file changes nothing, and restores what was deleted.
    native(guest, "-R --replace", &text).ok();
    assert_eq!(guest.exec("ipvsadm -Ln").ok(), listed);
    guest.exec("ipvsadm -C").ok();
    native(guest, "-R", &text).ok();
    assert_eq!(guest.exec("ipvsadm -Ln").ok(), listed);
    assert_eq!(
        (native(guest, "-S -n", "").ok(), flags(guest)),
        (text, before)
    );
}

fn file_that_clears_replaces_an_occupied_table(guest: &Guest) {
    let file = "\n# anew\n-C\n-A -t 10.0.0.9:80 -s rr\n-a -t 10.0.0.9:80 -r 127.0.0.1:80 -m\n";
    assert_ne!(saved(guest), "");
    guest.restore(&[], file).ok();
    let ours = saved(guest);
    guest.write_file("/tmp/rules", "-C\n-A -t 10.0.0.8:80\n");
    guest.shell("ipvsadm -R </tmp/rules").ok();
    guest.write_file("/tmp/rules", &file.replace("# anew", ""));
    guest.shell("ipvsadm -R </tmp/rules").ok();
    assert_eq!(ours, saved(guest));
    // All or nothing.
    let bad = guest.restore(&[], "-C\n-A -t 10.0.0.7:80 -s nosuch\n");
    bad.assert_error(Kind::Unsupported, "line 2: could not add the service");
    assert_eq!(saved(guest), ours);
    // After another rule, -C does not permit to replace the table.
    let late = guest.restore(&[], "-A -t 10.0.0.7:80\n-C\n");
    late.assert_error(Kind::Exists, "2 rules already");
}

fn empty_file_clears_with_replace_only(guest: &Guest) {
    for options in [&[][..], &["--merge"]] {
        let refused = guest.restore(options, "\n# nothing\n");
        refused.assert_error(Kind::Invalid, "the rule file has no effective rule");
    }
    assert_ne!(saved(guest), "");
    for file in ["", "# nothing\n"] {
        guest.restore(&["--replace"], file).ok();
        assert_eq!(saved(guest), "");
    }
}

fn daemons_of_a_file_are_part_of_it(guest: &Guest) {
    let rule = "-A -t 10.0.0.1:80 -s rr\n";
    let master = "--start-daemon master --mcast-interface lo --syncid 7\n";
    let backup = "--start-daemon backup --mcast-interface lo\n";
    guest.restore(&[], &format!("{master}{rule}{backup}")).ok();
    let running = daemons(guest);
    assert!(
        running.contains("master sync daemon (mcast=lo, syncid=7,"),
        "{running}"
    );
    assert!(
        running.contains("backup sync daemon (mcast=lo, syncid=0,"),
        "{running}"
    );
    let threads = |guest: &Guest| guest.shell("ps | grep -c '[i]pvs-[mb]:'; true").ok();
    let before = (saved(guest), running.clone(), threads(guest));

    // A daemon that runs as wanted is not restarted.
    let pids = |guest: &Guest| {
        guest
            .shell("ps | grep '[i]pvs-[mb]:' | awk '{ print $1 }'")
            .ok()
    };
    let first = pids(guest);
    assert_ne!(first, "");
    guest
        .restore(&["--replace"], &format!("{rule}{master}"))
        .ok();
    assert_eq!((daemons(guest), pids(guest)), (running, first));

    // The link of the second daemon doesn't exist: rules and daemons stay as they were.
    let other = "-A -t 10.0.0.2:80 -s rr\n--start-daemon master --mcast-interface lo --syncid 8\n\
                 --start-daemon backup --mcast-interface nosuch0\n";
    // Often: the undo stops a daemon whose thread may not have run yet.
    for mode in ["--replace", "--merge"].repeat(10) {
        let refused = guest.restore(&[mode], other);
        let message = "line 3: could not start the backup sync daemon: there is no link nosuch0";
        refused.assert_error(Kind::NotFound, message);
        assert_eq!(
            (saved(guest), daemons(guest), threads(guest)),
            before,
            "{mode}"
        );
    }
    let twice = guest.restore(&["--replace"], &format!("{master}{master}"));
    twice.assert_error(
        Kind::Exists,
        "line 2: the master sync daemon is started already",
    );

    let changed = "--stop-daemon backup\n--start-daemon master --mcast-interface lo --syncid 9\n";
    guest.restore(&["--merge"], changed).ok();
    let running = daemons(guest);
    assert_eq!(running.lines().count(), 1, "{running}");
    assert!(running.contains("syncid=9,"), "{running}");
    assert_eq!(saved(guest), before.0);
    guest.restore(&["--replace"], "--stop-daemon master\n").ok();
    assert_eq!(
        (saved(guest), daemons(guest)),
        (String::new(), String::new())
    );
}

fn backup_daemon_binds_privileged_port(guest: &Guest) {
    guest
        .ipvsadm("--start-daemon backup --mcast-interface lo --mcast-port 1023")
        .ok();
    let running = daemons(guest);
    assert!(running.contains("port=1023"), "{running}");
    // No thread of the agent has more than CAP_NET_ADMIN afterwards.
    let script = format!("grep -h CapEff /proc/{AGENT_PID}/task/*/status | sort -u");
    let effective = guest.shell(&script).ok();
    assert_eq!(effective, "CapEff:\t0000000000001000\n");
    guest.ipvsadm("--stop-daemon backup").ok();
}
