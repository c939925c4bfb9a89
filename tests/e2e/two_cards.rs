//! A TAP and a vhost-user card in one guest: changes of one don't affect the other's traffic.

use std::net::SocketAddr;
use std::thread;

use patchbay_tests::{Card, Guest, Machine, Side, Testpmd, traffic};

/// Bytes of each transfer, which outlasts several plugs of the other card.
const BYTES: usize = 12 << 20;

#[test]
fn plug_keeps_traffic_of_other_card() {
    let guest = Guest::start(Machine::Q35);
    let netns = guest.netns();
    let socket = guest.file("vhost-user1");
    let _backend = Testpmd::start(netns, &socket, 1, Side::Server);
    let dpdk = Card::named("eth-dpdk")
        .mac("02:00:00:00:00:01")
        .address("172.16.0.3/16")
        .vhost_user(&socket);
    let tap = Card::named("eth-tap")
        .device("tap1")
        .mac("02:00:00:00:00:02")
        .address("172.17.0.3/16")
        .queues(2);
    let routes = |device: &str, net: u32| {
        format!(
            r#"[{{"dest":"10.{net}.0.0/16","gateway":"172.{net}.0.1","device":"{device}"}},
                {{"dest":"10.1{net}.0.0/16","gateway":"172.{net}.0.1","device":"{device}"}}]"#
        )
    };
    let plug = |card: &Card, device: &str, net: u32, outside: &str| {
        guest.plug(card).ok();
        let address = format!("172.{net}.0.1/16");
        if !netns
            .ip(&format!("addr show {outside}"))
            .out
            .contains(&address)
        {
            netns.ip(&format!("addr add {address} dev {outside}")).ok();
        }
        guest.kata_network("add-route", &routes(device, net)).ok();
    };
    plug(&dpdk, "eth-dpdk", 16, "out0");
    plug(&tap, "eth-tap", 17, "tap1");
    // testpmd forwards packets without computing offloaded checksums.
    guest.exec("ethtool -K eth-dpdk tx off").ok();

    let cards = [
        ("172.16.0.3:7", &tap, "eth-tap", 17, "tap1"),
        ("172.17.0.3:7", &dpdk, "eth-dpdk", 16, "out0"),
    ];
    for (busy, card, device, net, outside) in cards {
        let echo: SocketAddr = busy.parse().unwrap();
        thread::scope(|scope| {
            let transfer = scope.spawn(|| traffic::echo(netns, echo, BYTES));
            for _ in 0..3 {
                guest.unplug(card).assert_null();
                plug(card, device, net, outside);
            }
            let (sent, received) = transfer.join().unwrap();
            assert_eq!(sent, received, "{busy}");
        });
        if device == "eth-dpdk" {
            guest.exec("ethtool -K eth-dpdk tx off").ok();
        }
    }
    let listed = guest.kata_network("list-routes", "").json();
    let gateways = listed
        .as_array()
        .unwrap()
        .iter()
        .filter(|route| route["gateway"].is_string());
    assert_eq!(gateways.count(), 4, "{listed}");
}
