//! vhost-user cards with a DPDK backend, and backends that would block the guest.

use std::net::SocketAddr;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use patchbay_tests::{
    Card, Guest, Machine, Side, Testpmd, guide_vhost_user_card, stub_backend, traffic,
};
use patchbay_types::failure::Kind;

fn pings(guest: &Guest) {
    guest.netns().exec("ping -c 3 -i 0.2 -W 5 172.16.0.3").ok();
}

#[test]
fn guide_vhost_user_example_works() {
    let guest = Guest::start(Machine::Q35);
    let snapshot = guest.snapshot();
    let socket = guest.file("vhost-user1");
    let backend = Testpmd::start(guest.netns(), &socket, 5, Side::Server);
    let links = guest.netns().links();
    let added = guest
        .kata_network("add-iface", &guide_vhost_user_card(&socket))
        .json();
    assert_eq!(added["vhostUserSocket"], socket.to_str().unwrap());
    assert_eq!(added["queues"], 5);
    // The output is valid input for the same card.
    assert_eq!(
        guest.kata_network("add-iface", &added.to_string()).json(),
        added
    );
    let shown = guest.exec("ethtool -l eth-test").ok();
    assert_eq!(shown.matches("Combined:\t5").count(), 2, "{shown}");
    guest.netns().ip("addr add 172.16.0.1/16 dev out0").ok();
    pings(&guest);
    guest.exec("ping -c 3 -i 0.2 -W 5 172.16.0.1").ok();
    guest.exec("ethtool -K eth-test tx off").ok();
    let echo: SocketAddr = "172.16.0.3:7".parse().unwrap();
    let (sent, received) = traffic::echo(guest.netns(), echo, 4 << 20);
    assert_eq!(sent, received);
    assert_eq!(
        guest
            .kata_network("del-iface", &guide_vhost_user_card(&socket))
            .ok(),
        "null\n"
    );
    assert_eq!(guest.netns().links(), links);
    drop(backend);
    guest.netns().ip("link del out0").ok();
    let _ = std::fs::remove_file(&socket);
    assert_eq!(guest.snapshot(), snapshot);
}

#[test]
fn backend_restart_restores_traffic() {
    let guest = Guest::start(Machine::Q35);
    let socket = guest.file("vhost-user1");
    let document = guide_vhost_user_card(&socket).replace("\"queues\":5", "\"queues\":1");
    let backend = Testpmd::start(guest.netns(), &socket, 1, Side::Server);
    guest.netns().ip("addr add 172.16.0.1/16 dev out0").ok();
    guest.kata_network("add-iface", &document).ok();
    pings(&guest);
    drop(backend);
    let _backend = Testpmd::start(guest.netns(), &socket, 1, Side::Server);
    // QEMU reconnects every second.
    guest.netns().exec("ping -c 1 -w 15 172.16.0.3").ok();
    assert_eq!(guest.kata_network("del-iface", &document).ok(), "null\n");
}

#[test]
fn server_mode_accepts_backend() {
    let guest = Guest::start(Machine::Q35);
    let socket = guest.file("vhost-user1");
    let document = guide_vhost_user_card(&socket)
        .replace("\"queues\":5", "\"queues\":2,\"vhostUserMode\":\"server\"");
    let _backend = Testpmd::start(guest.netns(), &socket, 2, Side::Client);
    // The stale socket of a process that died while it waited for the backend.
    drop(UnixListener::bind(&socket).unwrap());
    guest.netns().ip("addr add 172.16.0.1/16 dev out0").ok();
    guest.kata_network("add-iface", &document).ok();
    pings(&guest);
    let snapshot = guest.snapshot();
    // A second card in the same sandbox, to which no backend connects.
    let other = document
        .replace("eth-test", "eth-two")
        .replace("a3:69", "a3:70")
        .replace("vhost-user1", "vhost-user2");
    let words = [
        "kata-network",
        "add-iface",
        guest.id(),
        "-",
        "--timeout",
        "1",
    ];
    let done = patchbay_tests::run(
        &mut patchbay_tests::patchbay(guest.run_dir(), &words),
        &other,
    );
    done.assert_null_error(Kind::Timeout, "no backend connected to the socket");
    assert_eq!(guest.snapshot(), snapshot);
    assert!(!guest.file("vhost-user2").exists());
    assert_eq!(guest.kata_network("del-iface", &document).ok(), "null\n");
}

#[test]
fn two_ports_are_independent() {
    let guest = Guest::start(Machine::Q35);
    let card = |number: u32| {
        let socket = guest.file(&format!("vhost-user{number}"));
        let backend = Testpmd::numbered(number, guest.netns(), &socket, 1, Side::Server);
        guest
            .netns()
            .ip(&format!("addr add 172.{number}.0.1/16 dev out{number}"))
            .ok();
        let card = Card::numbered(usize::try_from(number).unwrap())
            .device(&format!("port{number}"))
            .address(&format!("172.{number}.0.3/16"))
            .vhost_user(&socket);
        guest.plug(&card).ok();
        (backend, card)
    };
    let (first, second) = (card(16), card(17));
    guest.netns().exec("ping -c 2 -i 0.2 -w 10 172.16.0.3").ok();
    guest.netns().exec("ping -c 2 -i 0.2 -w 10 172.17.0.3").ok();
    guest.unplug(&first.1).assert_null();
    guest.netns().exec("ping -c 2 -i 0.2 -w 10 172.17.0.3").ok();
    guest.unplug(&second.1).assert_null();
}

#[test]
fn unusable_backend_is_refused() {
    let guest = Guest::start(Machine::Q35);
    let socket = guest.file("vhost-user1");
    let snapshot = guest.snapshot();
    let done = guest.kata_network("add-iface", &guide_vhost_user_card(&socket));
    done.assert_null_error(Kind::NotFound, "nobody listens on the socket");

    let listener = UnixListener::bind(&socket).unwrap();
    let begun = Instant::now();
    let done = guest.kata_network("add-iface", &guide_vhost_user_card(&socket));
    done.assert_null_error(Kind::Timeout, "does not answer");
    assert!(
        begun.elapsed() < Duration::from_secs(6),
        "{:?}",
        begun.elapsed()
    );
    drop(listener);
    let done = guest.kata_network("add-iface", &guide_vhost_user_card(&socket));
    done.assert_null_error(Kind::NotFound, "nobody listens on the socket");
    assert_eq!(guest.snapshot(), snapshot);

    std::fs::remove_file(&socket).unwrap();
    stub_backend(&socket, 2);
    let done = guest.kata_network("add-iface", &guide_vhost_user_card(&socket));
    done.assert_null_error(Kind::Invalid, "queues '5' is not allowed: the backend at");
    assert!(done.err.contains("offers 2"), "{done}");
    assert_eq!(guest.snapshot(), snapshot);
}

#[test]
fn private_memory_is_refused() {
    let words = [
        "--extra-qemu-arg=-object",
        "--extra-qemu-arg=memory-backend-ram,id=own,size=1M",
    ];
    let guest = Guest::start_with(Machine::Q35, &words);
    let snapshot = guest.snapshot();
    let done = guest.kata_network(
        "add-iface",
        &guide_vhost_user_card(&guest.file("vhost-user1")),
    );
    done.assert_null_error(Kind::Unsupported, "memory is not shared");
    assert_eq!(guest.snapshot(), snapshot);
}
