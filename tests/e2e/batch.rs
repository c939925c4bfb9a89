//! A thousand random routes, added by patchbay from the host and by `ip -batch` in the guest.

use std::collections::HashSet;
use std::fmt::Write;
use std::process::Command;

use fastrand::Rng;
use patchbay_tests::{Card, Guest, Machine, bin, rng, run};
use serde_json::{Value, json};

/// Returns a random route as the incumbent's JSON.
fn a_route(rng: &mut Rng) -> Value {
    let card = *rng.choice(&[1, 2]).unwrap();
    let (dest, router) = if rng.u64(..2) == 0 {
        let net = u32::from_be_bytes([20, 0, 0, 0]) + rng.u32(..1 << 24);
        let bits = 9 + rng.u64(..24);
        let net = u64::from(net) >> (32 - bits) << (32 - bits);
        let net = std::net::Ipv4Addr::from(u32::try_from(net).unwrap());
        (
            format!("{net}/{bits}"),
            format!("172.16.{card}.{}", 10 + rng.u64(..200)),
        )
    } else {
        let groups = [rng.u64(..65536), rng.u64(..65536)];
        let dest = format!(
            "2001:{:x}:{:x}::/{}",
            groups[0],
            groups[1],
            48 + rng.u64(..81)
        );
        (dest, format!("fd0{card}::{:x}", 16 + rng.u64(..60000)))
    };
    let mut route = json!({"dest": dest, "device": format!("c{card}")});
    if rng.u64(..3) > 0 {
        route["gateway"] = json!(router);
    }
    if rng.u64(..3) == 0 {
        route["metric"] = json!(1 + rng.u64(..9));
    }
    route
}

/// Returns the same route as a line of `ip -batch`.
fn batch_line(route: &Value) -> String {
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
fn add_route_batch_matches_ip_batch() {
    let mut rng = rng();
    let guest = Guest::start(Machine::Q35);
    for card in [1, 2] {
        let card = Card::named(&format!("c{card}"))
            .mac(&format!("02:42:20:6f:a3:0{card}"))
            .address(&format!("172.16.{card}.3/24"))
            .address(&format!("fd0{card}::3/64"));
        guest.plug(&card).ok();
    }
    let mut seen = HashSet::new();
    let mut routes = Vec::new();
    while routes.len() < 1000 {
        let route = a_route(&mut rng);
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

    let lines: String = routes.iter().map(batch_line).collect();
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
