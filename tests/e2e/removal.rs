//! Being removed is a state of a card: it blocks no other card, and any command can finish it.

use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use patchbay_tests::{Card, Done, Guest, Machine, journal, patchbay};
use patchbay_types::failure::Kind;
use serde_json::Value;

/// Options of a machine without ACPI hot-plug.
pub(crate) const NATIVE: [&str; 4] = [
    "--extra-qemu-arg",
    "-global",
    "--extra-qemu-arg",
    "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off",
];

/// Returns the names of the cards in the journal that are being removed.
fn removing(guest: &Guest) -> Vec<String> {
    let files = journal(guest.run_dir()).into_iter();
    // A card can be gone by now.
    let texts = files.filter_map(|file| std::fs::read(file).ok());
    let cards = texts.filter_map(|text| serde_json::from_slice::<Value>(&text).ok());
    let removing = cards.filter(|card| card["phase"] == "removing");
    removing
        .map(|card| card["name"].as_str().unwrap().to_owned())
        .collect()
}

/// Waits until cards are being removed.
fn await_removing(guest: &Guest, names: &[&str]) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while removing(guest) != names {
        assert!(Instant::now() < deadline, "{:?}", removing(guest));
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn unplugs_overlap() {
    let guest = Guest::start_with(Machine::Q35, &NATIVE);
    let snapshot = guest.snapshot();
    let cards: Vec<Card> = (1..=8).map(Card::numbered).collect();
    for card in &cards {
        guest.plug(card).ok();
    }
    let begun = Instant::now();
    let most = thread::scope(|scope| {
        let guest = &guest;
        let unplug = |card| scope.spawn(move || guest.unplug(card).assert_null());
        let threads: Vec<_> = cards.iter().map(unplug).collect();
        let mut most = 0;
        while !threads.iter().all(thread::ScopedJoinHandle::is_finished) {
            most = most.max(removing(guest).len());
            thread::sleep(Duration::from_millis(10));
        }
        for thread in threads {
            thread.join().unwrap();
        }
        most
    });
    eprintln!("{most} cards at once, all in {:?}", begun.elapsed());
    assert!(most >= 4, "at most {most} cards were being removed at once");
    // One after another they take 50 s without the agent.
    assert!(begun.elapsed() < Duration::from_secs(25));
    assert_eq!(guest.snapshot(), snapshot);
}

/// Binds or unbinds the hot-plug driver of the first port, which a guest needs to release a card.
fn hot_plug_driver(guest: &Guest, action: &str) {
    let script = format!(
        "cd /sys/bus/pci_express/devices; \
         for port in 0000:00:01.0:*; do echo $port >/sys/bus/pci_express/drivers/pciehp/{action}; done; true"
    );
    guest.shell(&script).ok();
}

fn start_unplug(guest: &Guest, card: &Card) -> Child {
    let document = guest.file("card.json");
    std::fs::write(&document, card.json()).unwrap();
    let words = [
        "kata-network",
        "del-iface",
        guest.id(),
        document.to_str().unwrap(),
    ];
    let mut command = patchbay(guest.run_dir(), &words);
    command.stdout(Stdio::null()).spawn().unwrap()
}

fn assert_quick(done: Done, begun: Instant) -> Done {
    assert_eq!(done.status, 0, "{done}");
    assert!(begun.elapsed() < Duration::from_secs(12), "{done}");
    done
}

#[test]
fn stuck_card_blocks_no_other() {
    let guest = Guest::start_with(Machine::Q35, &NATIVE);
    let empty = guest.snapshot();
    let [stuck, other, third] = [1, 2, 3].map(Card::numbered);
    guest.plug(&stuck).ok();
    guest.plug(&other).ok();
    hot_plug_driver(&guest, "unbind");
    let mut unplug = start_unplug(&guest, &stuck);
    await_removing(&guest, &["eth1"]);
    let quick = |command: &str, card: &Card| {
        let begun = Instant::now();
        assert_quick(guest.kata_network(command, &card.json()), begun).err
    };
    let listed = guest.kata_network("list-ifaces", "").json();
    assert_eq!(
        (&listed[0]["name"], &listed[0]["state"]),
        (&"eth1".into(), &"being removed".into())
    );
    assert_eq!(listed[1]["state"], Value::Null);
    assert_eq!(quick("add-iface", &third), "");
    assert_eq!(quick("del-iface", &other), "");

    unplug.kill().unwrap();
    unplug.wait().unwrap();
    let warnings = quick("add-iface", &other);
    let left = "a command ended early while it unplugged the card eth1";
    assert!(warnings.contains(left), "{warnings}");
    assert!(
        warnings.contains("has not released the card eth1 yet"),
        "{warnings}"
    );
    assert_eq!(quick("del-iface", &other), "");

    // Only commands that need the card, or something that it has, wait for it and fail.
    let same_mac = Card::numbered(4).mac("02:00:00:00:00:01");
    thread::scope(|scope| {
        let waiting = [
            scope.spawn(|| guest.unplug(&stuck)),
            scope.spawn(|| guest.plug(&same_mac)),
        ];
        for thread in waiting {
            let done = thread.join().unwrap();
            done.assert_error(Kind::NotYet, "has not released the card eth1 yet");
        }
    });
    hot_plug_driver(&guest, "bind");
    guest.unplug(&stuck).assert_null();
    guest.unplug(&third).assert_null();
    std::fs::remove_file(guest.file("card.json")).unwrap();
    assert_eq!(guest.snapshot(), empty);
}
