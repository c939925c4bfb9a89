//! A thousand random routes: from the host by patchbay, and in the guest by `ip -batch`.

#![allow(clippy::unwrap_used)]

use std::collections::HashSet;
use std::fmt::Write;
use std::process::Command;

use patchbay_tests::{Dice, Guest, Machine, bin, run};
use serde_json::{Value, json};

/// A random route in the incumbent's JSON.
fn a_route(dice: &mut Dice) -> Value {
    let card = *dice.one(&[1, 2]);
    let (dest, router) = if dice.below(2) == 0 {
        let net = u32::from_be_bytes([20, 0, 0, 0]) + u32::try_from(dice.below(1 << 24)).unwrap();
        let bits = 9 + dice.below(24);
        let net = u64::from(net) >> (32 - bits) << (32 - bits);
        let net = std::net::Ipv4Addr::from(u32::try_from(net).unwrap());
        (
            format!("{net}/{bits}"),
            format!("172.16.{card}.{}", 10 + dice.below(200)),
        )
    } else {
        let groups = [dice.below(65536), dice.below(65536)];
        let dest = format!(
            "2001:{:x}:{:x}::/{}",
            groups[0],
            groups[1],
            48 + dice.below(81)
        );
        (dest, format!("fd0{card}::{:x}", 16 + dice.below(60000)))
    };
    let mut route = json!({"dest": dest, "device": format!("c{card}")});
    if dice.below(3) > 0 {
        route["gateway"] = json!(router);
    }
    if dice.below(3) == 0 {
        route["metric"] = json!(1 + dice.below(9));
    }
    route
}

/// The same in iproute2's words.
fn words(route: &Value) -> String {
    let text = |key: &str| route[key].as_str().unwrap();
    let mut line = format!("route add {} dev {}", text("dest"), text("device"));
    if route["gateway"].is_string() {
        write!(line, " via {}", text("gateway")).unwrap();
    }
    if route["metric"].is_u64() {
        write!(line, " metric {}", route["metric"]).unwrap();
    }
    line + "\n"
}

fn table(guest: &Guest) -> Vec<String> {
    let shown = guest.exec("ip -d route show").ok() + &guest.exec("ip -d -6 route show").ok();
    let lines = shown.lines().filter(|line| !line.contains("fe80::"));
    let mut lines: Vec<String> = lines.map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn the_kernel_ends_in_the_same_state() {
    let mut dice = Dice::new();
    let guest = Guest::start(Machine::Q35);
    for card in [1, 2] {
        let document = json!({
            "device": format!("t{card}"), "name": format!("c{card}"), "mtu": 1500,
            "hwAddr": format!("02:42:20:6f:a3:0{card}"),
            "IPAddresses": [
                {"address": format!("172.16.{card}.3"), "mask": "24"},
                {"address": format!("fd0{card}::3"), "mask": "64"},
            ],
        });
        guest.kata_network("add-iface", &document.to_string()).ok();
    }
    let mut seen = HashSet::new();
    let mut routes = Vec::new();
    while routes.len() < 1000 {
        let route = a_route(&mut dice);
        if seen.insert((route["dest"].to_string(), route["metric"].to_string())) {
            routes.push(route);
        }
    }
    let before = table(&guest);
    guest
        .kata_network("add-route", &json!(routes).to_string())
        .ok();
    let ours = table(&guest);
    assert_eq!(ours.len(), before.len() + 1000);
    guest
        .kata_network("del-route", &json!(routes).to_string())
        .ok();
    assert_eq!(table(&guest), before);

    let lines: String = routes.iter().map(words).collect();
    let mut batch = Command::new(bin("patchbay-sandbox"));
    batch.env("PATCHBAY_RUN_DIR", guest.run_dir()).args([
        "exec",
        guest.id(),
        "--",
        "ip",
        "-batch",
        "-",
    ]);
    run(&mut batch, &lines).ok();
    assert_eq!(table(&guest), ours);
}
