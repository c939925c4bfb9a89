//! The native commands on a live guest: flags in, tables or JSON out.

use patchbay_tests::{Done, Guest, Machine, patchbay, run};
use serde_json::json;

use super::traffic;

/// Runs `patchbay`; `ID` is replaced by the sandbox ID.
pub(crate) fn native(guest: &Guest, words: &str) -> Done {
    let words = words.split_whitespace();
    let words: Vec<&str> = words
        .map(|word| if word == "ID" { guest.id() } else { word })
        .collect();
    run(&mut patchbay(guest.run_dir(), &words), "")
}

/// The same on a terminal of this width, by util-linux's `script`.
pub(crate) fn on_a_terminal(guest: &Guest, columns: u16, words: &str) -> String {
    let program = patchbay_tests::bin("patchbay");
    let line = format!(
        "stty cols {columns} rows 24 && {} {words}",
        program.display()
    );
    let line = line.replace(" ID", &format!(" {}", guest.id()));
    let mut script = std::process::Command::new("script");
    script
        .env("PATCHBAY_RUN_DIR", guest.run_dir())
        .args(["-qec", &line, "/dev/null"]);
    run(&mut script, "").ok().replace('\r', "")
}

#[test]
fn native_commands_work_on_live_guest() {
    let guest = Guest::start(Machine::Q35);
    nic_add_and_list(&guest);
    crate::completion::assert_words_of_host(&guest);
    traffic::assert_traffic_of_eth1(&guest);
    route_add_and_list(&guest);
    nic_set_and_deletions(&guest);
    ipvs_list_is_table_on_terminal_only(&guest);
    failure_prints_one_line(&guest);
}

fn nic_add_and_list(guest: &Guest) {
    let mac = "02:42:20:6f:a3:69";
    let add = format!(
        "nic add ID --name eth1 --tap tap1 --mac {mac} --ip 172.16.0.3/16 --ip fd00::3/64 --queues 2"
    );
    let added = native(guest, &add).json();
    assert_eq!(
        (&added["name"], &added["mtu"], &added["queues"]),
        (&json!("eth1"), &json!(1500), &json!(2))
    );
    assert_eq!(native(guest, &add).json(), added);

    let cards = native(guest, "nic list ID").json();
    let addresses = json!([
        {"Family": 2, "Address": "172.16.0.3", "Mask": "16"},
        {"Family": 10, "Address": "fd00::3", "Mask": "64"},
    ]);
    assert_eq!(cards[0]["IPAddresses"], addresses);
    assert_eq!(
        (&cards[0]["hwAddr"], &cards[0]["up"]),
        (&json!(mac), &json!(true))
    );
    let table = on_a_terminal(guest, 200, "nic list ID");
    let lines: Vec<&str> = table.lines().collect();
    assert!(
        lines[0].starts_with("NAME  HWADDR             MTU   UP   IPADDRESSES"),
        "{table}"
    );
    assert!(
        lines[1].starts_with("eth1  02:42:20:6f:a3:69  1500  yes  172.16.0.3/16 fd00::3/64"),
        "{table}"
    );
}

fn route_add_and_list(guest: &Guest) {
    let routed = native(
        guest,
        "route add ID --dest 10.0.0.0/8 --via 172.16.0.1 --dev eth1 --metric 5",
    )
    .json();
    let route = json!([{"dest":"10.0.0.0/8","gateway":"172.16.0.1","device":"eth1","metric":5}]);
    assert_eq!(routed, route);
    native(
        guest,
        "route add ID --dest default --via fd00::1 --dev eth1",
    )
    .ok();
    let whole = json!({"dest":"10.0.0.0/8","gateway":"172.16.0.1","device":"eth1","scope":0,"metric":5,"protocol":3});
    let listed = native(guest, "route list ID").json();
    assert!(listed.as_array().unwrap().contains(&whole), "{listed}");
    let table = on_a_terminal(guest, 200, "route list ID");
    assert!(
        table.contains("\n10.0.0.0/8     172.16.0.1  eth1"),
        "{table}"
    );
    let fields = "--table 99 --mtu 1300 --protocol 4 --onlink";
    let words = format!("route add ID --dest 10.1.0.0/16 --via 192.0.2.1 --dev eth1 {fields}");
    native(guest, &words).ok();
    assert_eq!(
        guest.exec("ip route show table 99").ok(),
        "10.1.0.0/16 via 192.0.2.1 dev eth1 proto static onlink mtu 1300 \n"
    );
    native(guest, "route del ID --dest 10.1.0.0/16 --table 99").ok();
    assert_eq!(guest.exec("ip route show table 99").ok(), "");
    route_table_has_names_and_fixed_columns(guest);
}

fn route_table_has_names_and_fixed_columns(guest: &Guest) {
    let words = "route add ID --dest 10.2.0.0/16 --dev eth1 --scope link --protocol static";
    native(guest, words).ok();
    assert_eq!(
        guest.exec("ip route show 10.2.0.0/16").ok(),
        "10.2.0.0/16 dev eth1 proto static scope link \n"
    );
    let refused = native(
        guest,
        "route add ID --dest 10.3.0.0/16 --dev eth1 --scope lonk",
    );
    assert_eq!(refused.status, 2, "{refused}");
    // In a pipe, too.
    let table = native(guest, "route list ID --format table").ok();
    let rows: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    let header = "DEST GATEWAY DEVICE SOURCE SCOPE METRIC TABLE MTU PROTOCOL ONLINK";
    assert_eq!(rows[0].join(" "), header);
    let row = rows.iter().find(|row| row[0] == "10.2.0.0/16").unwrap();
    assert_eq!(row.join(" "), "10.2.0.0/16 - eth1 - link 0 - - static -");
    native(guest, "route del ID --dest 10.2.0.0/16").ok();
}

fn nic_set_and_deletions(guest: &Guest) {
    native(
        guest,
        "nic set ID --name eth1 --ip 172.16.0.4/16 --mtu 1400",
    )
    .ok();
    let cards = native(guest, "nic list ID --json").json();
    assert_eq!(cards[0]["mtu"], 1400);
    assert_eq!(
        native(guest, "route del ID --dest 10.0.0.0/8").json()[0]["dest"],
        "10.0.0.0/8"
    );
    let cleared = native(guest, "nic set ID --name eth1 --no-ip --format table").ok();
    let rows: Vec<Vec<&str>> = cleared
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    let header = "NAME IPADDRESSES MTU UP ARP PROMISC GUESTNAME";
    assert_eq!(rows[0].join(" "), header);
    assert_eq!(rows[1].join(" "), "eth1 - - - - - -");
    assert_eq!(
        native(guest, "nic list ID").json()[0]["IPAddresses"],
        json!([])
    );
    assert_eq!(native(guest, "nic del ID --name eth1").ok(), "");
    assert_eq!(native(guest, "nic list ID").ok(), "[]\n");
    let header = "NAME  HWADDR  MTU  UP  IPADDRESSES  PCIADDR  QUEUES  GUESTNAME  STATE\n";
    assert_eq!(on_a_terminal(guest, 200, "nic list ID"), header);
    let settings = native(guest, "sysctl list ID --format table").ok();
    let setting = "\ndrop_entry = 0\n    random drop of half-open connections: 0 never, 1 and 2 short of memory, 3\n    \
                   always (0 to 3)\n";
    assert!(settings.contains(setting), "{settings}");
    assert!(settings.lines().all(|line| line.len() <= 80), "{settings}");
}

fn ipvs_list_is_table_on_terminal_only(guest: &Guest) {
    guest.ipvsadm("-A -t 10.0.0.1:80 -s rr").ok();
    guest
        .ipvsadm("-a -t 10.0.0.1:80 -r 10.0.0.20:8080 -w 7")
        .ok();
    let table = "SERVICE           SCHEDULER  FORWARD  WEIGHT  ACTIVE  INACTIVE\n\
                 TCP  10.0.0.1:80  rr\n\
                 \x20 10.0.0.20:8080             nat      7       0       0\n";
    for words in ["ipvs ID -L -n", "ipvs ID -ln"] {
        assert_eq!(on_a_terminal(guest, 200, words), table, "{words}");
    }
    // With names of hosts and services.
    let named = on_a_terminal(guest, 200, "ipvs ID");
    assert!(named.starts_with("SERVICE  "), "{named}");
    let expected = guest.exec("ipvsadm -L -n").ok();
    assert_eq!(native(guest, "ipvs ID -L -n").ok(), expected);
    assert_eq!(
        on_a_terminal(guest, 200, "ipvs ID -S -n"),
        guest.exec("ipvsadm -Sn").ok()
    );
    let json = native(guest, "ipvs --json ID").json();
    assert_eq!(json[0]["servers"][0]["weight"], 7);
    assert!(
        on_a_terminal(guest, 200, "sysctl list ID").contains("\nconntrack "),
        "settings"
    );
    assert!(
        on_a_terminal(guest, 200, "ipvs --json ID").starts_with("[{"),
        "json"
    );
}

fn failure_prints_one_line(guest: &Guest) {
    for (words, status, sentence) in [
        (
            "route add ID --dest 10.0.0.0/8 --dev nosuch",
            3,
            "Could not find link from device nosuch",
        ),
        (
            "route add ID --dest default --dev lo",
            2,
            "gateway must be specified",
        ),
        (
            "route add ID --dest 10.0.0.0/8",
            2,
            "device and destination must be specified",
        ),
        (
            "route del ID --dest 10.0.0.0/8",
            3,
            "no route in the guest matches",
        ),
        (
            "nic set ID --name nope --mtu 1500",
            3,
            "can not find the network interface nope",
        ),
    ] {
        let done = native(guest, words);
        assert_eq!((done.status, done.out.as_str()), (status, ""), "{done}");
        assert!(
            done.err.contains(sentence) && done.err.lines().count() == 1,
            "{done}"
        );
    }
    for words in [
        "nic add ID --name 0eth --tap t --mac 02:00:00:00:00:01",
        "nic add ID --name eth1 --tap t --mac 01:00:00:00:00:01",
        "nic add ID --name eth1 --tap t --mac 02:00:00:00:00:01 --ip 10.0.0.1",
        "nic set ID --name eth1",
        "nic set ID --name eth1 --no-ip --ip 10.0.0.1/8",
        "route add ID --dest 10.0.0.0/33 --dev eth1",
        "route add ID --dest 10.0.0.0/8 --dev eth1 --scope 255",
    ] {
        let done = native(guest, words);
        assert_eq!((done.status, done.out.as_str()), (2, ""), "{words}: {done}");
    }
}
