//! Commands during floods in the guest: thousands of links and routes that come and go, a full
//! connection table.

use patchbay_tests::{Card, Guest, Machine};
use serde_json::json;

fn card(number: usize) -> Card {
    let address = json!([{"Family": 2, "Address": format!("172.20.{number}.2"), "Mask": "24"}]);
    Card::numbered(number).set("IPAddresses", address)
}

fn lines(count: u32, line: impl Fn(u32) -> String) -> String {
    (0..count).map(line).collect::<Vec<_>>().concat()
}

/// Starts a loop of the guest's shell, which ends when its file is removed.
fn begin(guest: &Guest, work: &str) {
    guest.shell(&format!(
        "touch /tmp/on; (while [ -e /tmp/on ]; do {work}; done) >/dev/null 2>&1 </dev/null &"
    ));
}

fn end(guest: &Guest) {
    guest.shell("rm /tmp/on; sleep 1");
}

#[test]
fn floods_in_guest_leave_commands_exact() {
    let guest = Guest::start(Machine::Q35);
    plug_during_link_flood(&guest);
    list_routes_during_changes(&guest);
    cleanup_of_full_table(&guest);
}

fn plug_during_link_flood(guest: &Guest) {
    let batch = lines(50, |number| {
        format!("link add f{number} type bridge\nlink del f{number}\n")
    });
    guest.write_file("/tmp/batch", &batch);
    begin(guest, "ip -batch /tmp/batch; echo >>/tmp/rounds");
    for _ in 0..3 {
        for number in 1..=3 {
            guest.plug(&card(number)).ok();
        }
        let listed = guest.kata_network("list-ifaces", "").json();
        assert_eq!(listed.as_array().unwrap().len(), 3, "{listed}");
        for number in 1..=3 {
            guest.unplug(&card(number)).ok();
        }
    }
    end(guest);
    let rounds = guest.shell("wc -l </tmp/rounds");
    let rounds: u32 = rounds.out.trim().parse().unwrap();
    eprintln!("{} links came and went meanwhile", rounds * 50);
    assert!(rounds > 0);
}

fn list_routes_during_changes(guest: &Guest) {
    guest.plug(&card(1)).ok();
    let routes = |verb| {
        lines(250, |number| {
            format!("route {verb} 10.9.{number}.0/24 dev eth1\n")
        })
    };
    guest.write_file("/tmp/batch", &(routes("replace") + &routes("del")));
    begin(guest, "ip -batch /tmp/batch");
    let (mut right, mut typed) = (0, 0);
    for _ in 0..40 {
        let done = guest.kata_network("list-routes", "");
        match done.status {
            0 => {
                let listed: serde_json::Value = serde_json::from_str(&done.out).unwrap();
                let ours = listed.as_array().unwrap().iter();
                let own = ours.filter(|route| route["dest"] == "172.20.1.0/24");
                assert_eq!(own.count(), 1, "{listed}");
                right += 1;
            }
            1..=9 => {
                assert!(done.err.starts_with("patchbay: "), "{done}");
                typed += 1;
            }
            _ => panic!("{done}"),
        }
    }
    end(guest);
    eprintln!("{right} right answers, {typed} typed refusals");
    assert!(right > 0);
}

fn cleanup_of_full_table(guest: &Guest) {
    guest.cleanup("-d 9.9.9.9").ok();
    guest.shell("echo 300 > /proc/sys/net/netfilter/nf_conntrack_max");
    let flows = lines(400, |number| {
        format!(
            "-I -s 10.0.1.{} -d 10.0.0.{} -p udp --sport {} --dport 53 -t 600 -u SEEN_REPLY,ASSURED\n",
            number % 250 + 1,
            number % 2 + 1,
            1000 + number
        )
    });
    guest.write_file("/tmp/flows", &flows);
    guest.shell("conntrack -R /tmp/flows >/dev/null 2>&1; true");
    let count = |words: &str| -> usize {
        let listed = guest.exec(&format!("conntrack -L {words}")).out;
        listed
            .lines()
            .filter(|line| line.contains("src=10.0.1."))
            .count()
    };
    let (named, others) = (count("-d 10.0.0.1"), count("-d 10.0.0.2"));
    assert!(
        named > 0 && others > 0 && named + others <= 300,
        "{named} {others}"
    );
    let output = guest.cleanup("-d 10.0.0.1").ok();
    assert_eq!(output, format!("{named} flow entries have been deleted.\n"));
    assert_eq!((count("-d 10.0.0.1"), count("-d 10.0.0.2")), (0, others));
}
