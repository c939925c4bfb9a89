//! The route commands on a live guest, checked by the guest's iproute2.

use patchbay_tests::{Card, Done, Guest, Machine};
use serde_json::{Value, json};

/// Starts a guest with the cards of the guide's examples.
fn guest() -> Guest {
    let guest = Guest::start(Machine::Q35);
    for (device, name, address, last) in [
        ("tap-test", "eth-test", "172.16.0.3/16", 1),
        ("tap-np", "netport_test_1", "177.17.25.9/16", 2),
        ("tap-1", "eth1", "10.99.0.3/24", 3),
    ] {
        let card = Card::named(name)
            .device(device)
            .mac(&format!("02:42:20:6f:a3:0{last}"))
            .address(address);
        guest.plug(&card).ok();
    }
    guest
}

/// Returns the main table without link-local routes, which the kernel adds asynchronously.
fn table(guest: &Guest) -> String {
    let v6 = guest.exec("ip -6 route show").ok();
    let lines = v6.lines().filter(|line| !line.starts_with("fe80:"));
    let v6: Vec<&str> = lines.collect();
    guest.exec("ip route show").ok() + &v6.join("\n")
}

#[track_caller]
fn assert_refused(done: &Done, status: i32, sentence: &str) {
    assert_eq!(
        (done.status, done.out.as_str()),
        (status, "null\n"),
        "{done}"
    );
    assert!(done.err.contains(sentence), "{done}");
    assert_eq!(done.err.lines().count(), 1, "{done}");
}

/// The examples of steps 3 and 4 of the user guide, verbatim.
fn the_guides_examples(guest: &Guest) {
    let default = r#"{"dest":"default","gateway":"172.16.0.1","device":"eth-test"}"#;
    let added = guest.kata_network("add-route", default).ok();
    assert_eq!(added, format!("[{default}]\n"));
    let net = r#"{"dest":"177.17.0.0/24","gateway":"177.17.25.1","device":"netport_test_1"}"#;
    assert_eq!(
        guest.kata_network("add-route", net).ok(),
        format!("[{net}]\n")
    );
    let table = table(guest);
    assert!(
        table.contains("default via 172.16.0.1 dev eth-test \n"),
        "{table}"
    );
    assert!(
        table.contains("177.17.0.0/24 via 177.17.25.1 dev netport_test_1 \n"),
        "{table}"
    );
    assert_eq!(
        guest.kata_network("add-route", default).ok(),
        format!("[{default}]\n")
    );
    assert_eq!(
        guest.kata_network("del-route", net).ok(),
        format!("[{net}]\n")
    );
    assert_refused(
        &guest.kata_network("del-route", net),
        3,
        "no route in the guest matches",
    );
    assert_eq!(
        guest.kata_network("del-route", default).ok(),
        format!("[{default}]\n")
    );
    let lo = r#"{"dest":"10.66.0.0/24","device":"lo"}"#;
    assert_eq!(
        guest.kata_network("add-route", lo).ok(),
        format!("[{lo}]\n")
    );
    assert_eq!(
        guest.kata_network("del-route", lo).ok(),
        format!("[{lo}]\n")
    );
}

/// A document and its expected result.
struct Vector {
    input: &'static str,
    /// Standard output, or the exit code and a part of the error message.
    expect: Result<&'static str, (i32, &'static str)>,
}

const fn good(input: &'static str, out: &'static str) -> Vector {
    Vector {
        input,
        expect: Ok(out),
    }
}

const fn bad(input: &'static str, status: i32, sentence: &'static str) -> Vector {
    Vector {
        input,
        expect: Err((status, sentence)),
    }
}

#[track_caller]
fn check(guest: &Guest, command: &str, vectors: &[Vector]) {
    for vector in vectors {
        let before = table(guest);
        let done = guest.kata_network(command, vector.input);
        match vector.expect {
            Ok(out) => assert_eq!(done.ok(), out, "{}", vector.input),
            Err((status, sentence)) => {
                assert_refused(&done, status, sentence);
                assert_eq!(table(guest), before, "{}", vector.input);
            }
        }
    }
}

/// The incumbent's vectors of add-route.
fn vectors_of_add_route(guest: &Guest) {
    check(
        guest,
        "add-route",
        &[
            bad(
                r#"{"dest":"10.0.0.0/8","device":"nosuch"}"#,
                3,
                "Could not find link from device nosuch",
            ),
            bad(
                r#"{"dest":"10.0.0.0/8","device":"eeeeeeeeeeeeeeee"}"#,
                2,
                "1 to 15 bytes",
            ),
            bad(
                r#"{"gateway":"10.0.0.1","device":"eth1"}"#,
                2,
                "device and destination must be specified",
            ),
            bad(
                r#"{"dest":"10.0.0.0/8"}"#,
                2,
                "device and destination must be specified",
            ),
            bad(
                r#"{"dest":"default","device":"eth1"}"#,
                2,
                r#"gateway must be specified when destination is "default""#,
            ),
            bad(
                r#"{"dest":"10.0.0.0/8","gateway":"10.0.0","device":"eth1"}"#,
                2,
                "invalid IP",
            ),
            bad(
                r#"{"dest":"10.0.0.0/33","device":"eth1"}"#,
                2,
                "invalid input of IP",
            ),
        ],
    );
}

/// The incumbent's accepted vectors of add-route.
fn vectors_of_routes_added(guest: &Guest) {
    check(
        guest,
        "add-route",
        &[
            good(
                r#"{"dest":"0.0.0.0/0","device":"eth1"}"#,
                "[{\"dest\":\"0.0.0.0/0\",\"device\":\"eth1\"}]\n",
            ),
            good(
                r#"{"dest":"172.17.10.10/24","gateway":"","device":"eth1"}"#,
                "[{\"dest\":\"172.17.10.10/24\",\"device\":\"eth1\"}]\n",
            ),
            good(
                r#"{"dest":"10.1.2.3","device":"eth1"}"#,
                "[{\"dest\":\"10.1.2.3/32\",\"device\":\"eth1\"}]\n",
            ),
        ],
    );
    let table = table(guest);
    for line in [
        "172.17.10.0/24 dev eth1 scope link \n",
        "10.1.2.3 dev eth1 scope link \n",
        "default dev eth1 scope link \n",
    ] {
        assert!(table.contains(line), "{line}{table}");
    }
}

/// A route is never replaced silently, as the incumbent does.
fn decided_another_device_is_refused(guest: &Guest) {
    let through = |device| format!(r#"{{"dest":"10.50.0.0/16","device":"{device}"}}"#);
    guest.kata_network("add-route", &through("eth1")).ok();
    let before = table(guest);
    assert_refused(
        &guest.kata_network("add-route", &through("eth-test")),
        4,
        "there is 10.50.0.0/16 dev eth1",
    );
    assert_eq!(table(guest), before);
}

/// Source and scope are used, blanks are trimmed, an array is one request. The incumbent ignores the
/// first two, drops a gateway with blanks, and refuses arrays.
fn decided_what_is_given_is_used(guest: &Guest) {
    let routes = json!([
        {"dest": "10.60.0.0/16", "device": "eth1", "source": "10.99.0.3", "scope": 253},
        {"dest": "10.61.0.0/16", "gateway": " 10.99.0.1 ", "device": "eth1"},
        {"dest": "10.62.0.0/16", "gateway": "10.99.0.1", "device": "eth1", "metric": 7},
    ]);
    let out = guest.kata_network("add-route", &routes.to_string()).json();
    assert_eq!(out[1]["gateway"], "10.99.0.1");
    assert_eq!(
        (&out[0]["scope"], &out[2]["metric"]),
        (&json!(253), &json!(7))
    );
    let table = table(guest);
    for line in [
        "10.60.0.0/16 dev eth1 scope link src 10.99.0.3 \n",
        "10.61.0.0/16 via 10.99.0.1 dev eth1 \n",
        "10.62.0.0/16 via 10.99.0.1 dev eth1 metric 7 \n",
    ] {
        assert!(table.contains(line), "{line}{table}");
    }
    guest.kata_network("del-route", &out.to_string()).ok();
}

/// The incumbent's vectors of del-route; where guide and code differ, the guide's result.
fn vectors_of_del_route(guest: &Guest) {
    check(
        guest,
        "del-route",
        &[
            bad(
                r#"{"device":"eth1"}"#,
                2,
                "destination must be specified when remove route",
            ),
            good(
                r#"{"dest":"172.17.10.10/24"}"#,
                "[{\"dest\":\"172.17.10.10/24\"}]\n",
            ),
            good(
                r#"{"dest":"10.1.2.3","device":"eth1"}"#,
                "[{\"dest\":\"10.1.2.3/32\",\"device\":\"eth1\"}]\n",
            ),
            // Without a gateway, which the incumbent can't delete.
            good(
                r#"{"dest":"default","device":"eth1"}"#,
                "[{\"dest\":\"default\",\"device\":\"eth1\"}]\n",
            ),
            // A connected route, which the incumbent can't delete.
            good(
                r#"{"dest":"10.99.0.0/24"}"#,
                "[{\"dest\":\"10.99.0.0/24\"}]\n",
            ),
            bad(
                r#"{"dest":"10.99.0.0/24"}"#,
                3,
                "no route in the guest matches 10.99.0.0/24",
            ),
        ],
    );
    let table = table(guest);
    assert!(
        !table.contains("172.17.10.0") && !table.contains("default"),
        "{table}"
    );
}

/// The incumbent's vectors of update-routes and list-routes.
fn vectors_of_update_routes(guest: &Guest) {
    guest.exec("ip route add 10.70.0.0/16 dev eth1").ok();
    let before = table(guest);
    assert_eq!(guest.kata_network("update-routes", "null").ok(), "null\n");
    assert_eq!(table(guest), before);
    check(
        guest,
        "update-routes",
        &[
            bad(
                r#"[{"dest":"10.1.2.3","device":"eth1"}]"#,
                2,
                "Could not parse route destination",
            ),
            bad(
                r#"[{"dest":"default","gateway":"192.0.2.1","device":"eth1"}]"#,
                8,
                "invalid gateway",
            ),
            good(
                r#"[{"dest":"default","gateway":"172.16.0.1","device":"eth-test"}]"#,
                "[{\"dest\":\"default\",\"gateway\":\"172.16.0.1\",\"device\":\"eth-test\"}]\n",
            ),
        ],
    );
    assert!(!table(guest).contains("10.70.0.0"));
    let listed = guest.kata_network("list-routes", "").json();
    assert_eq!(
        listed[0],
        json!({"dest":"default","gateway":"172.16.0.1","device":"eth-test"})
    );
    let connected = json!({"dest":"172.16.0.0/16","device":"eth-test"});
    assert!(listed.as_array().unwrap().contains(&connected), "{listed}");
    assert_eq!(guest.kata_network("update-routes", "[]").ok(), "null\n");
    assert!(!table(guest).contains("default"));
}

#[test]
fn guide_examples_and_vectors_end_as_decided() {
    let guest = guest();
    the_guides_examples(&guest);
    vectors_of_add_route(&guest);
    vectors_of_routes_added(&guest);
    decided_another_device_is_refused(&guest);
    decided_what_is_given_is_used(&guest);
    vectors_of_del_route(&guest);
    vectors_of_update_routes(&guest);
}

/// The exact line of the list-routes vector, on a guest with only that card.
#[test]
fn list_routes_prints_incumbent_format() {
    let guest = Guest::start(Machine::Q35);
    assert_eq!(guest.kata_network("list-routes", "").ok(), "null\n");
    let card = Card::named("eth-test").address("172.16.0.3/16");
    guest.plug(&card).ok();
    let default = r#"{"dest":"default","gateway":"172.16.0.1","device":"eth-test"}"#;
    guest.kata_network("add-route", default).ok();
    assert_eq!(
        guest.kata_network("list-routes", "").ok(),
        "[{\"dest\":\"default\",\"gateway\":\"172.16.0.1\",\"device\":\"eth-test\"},{\"dest\":\"172.16.0.0/16\",\"device\":\"eth-test\"}]\n"
    );
    let v6 =
        r#"{"name":"eth-test","IPAddresses":[{"address":"2001:db8:1::242:ac11:2","mask":"64"}]}"#;
    guest.kata_network("update-iface", v6).ok();
    guest
        .kata_network(
            "add-route",
            r#"{"dest":"default","gateway":"2001:db8:1::1","device":"eth-test"}"#,
        )
        .ok();
    let listed = guest.kata_network("list-routes", "").json();
    let of_v6 = json!([
        {"dest": "2001:db8:1::/64", "device": "eth-test", "metric": 256},
        {"dest": "default", "gateway": "2001:db8:1::1", "device": "eth-test"},
    ]);
    assert_eq!(listed, of_v6);
}

/// Formats a route of iproute2's JSON.
fn format_route(route: &Value) -> String {
    format!(
        "{} via {} dev {} metric {}",
        route["dst"], route["gateway"], route["dev"], route["metric"]
    )
}

#[test]
fn add_route_10000_routes_in_one_request() {
    let guest = guest();
    let routes: Vec<Value> = (0..10_000)
        .map(|n| json!({"dest": format!("20.{}.{}.0/24", n / 256, n % 256), "gateway": "172.16.0.1", "device": "eth-test"}))
        .collect();
    let document = Value::from(routes).to_string();
    let begun = std::time::Instant::now();
    guest.kata_network("add-route", &document).ok();
    eprintln!("add-route of 10,000: {:?}", begun.elapsed());
    let begun = std::time::Instant::now();
    let listed = guest.kata_network("list-routes", "").json();
    eprintln!("list-routes of 10,003: {:?}", begun.elapsed());
    assert_eq!(listed.as_array().unwrap().len(), 10_003);
    let shown = guest.ip("route show root 20.0.0.0/8");
    assert_eq!(shown.as_array().unwrap().len(), 10_000);
    assert!(format_route(&shown[0]).contains("172.16.0.1"));
    let begun = std::time::Instant::now();
    guest.kata_network("del-route", &document).ok();
    eprintln!("del-route of 10,000: {:?}", begun.elapsed());
    let begun = std::time::Instant::now();
    guest.kata_network("update-routes", &document).ok();
    guest.kata_network("update-routes", "[]").ok();
    eprintln!("update-routes to 10,000 and back: {:?}", begun.elapsed());
    assert!(!table(&guest).contains("20."));
}
