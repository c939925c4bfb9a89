//! A guest with Debian, where udevd and a network manager handle each card, too.

use std::time::{Duration, Instant};

use patchbay_tests::{BOOT_CARD, Card, Guest};
use serde_json::Value;

/// DHCP on every Ethernet link, as in images of clouds.
const DHCP_EVERYWHERE: &str = "[Match]\nType=ether\n\n[Network]\nDHCP=yes\n";

/// Removes udev's rule of the overlay.
const WITHOUT_RULE: &str = "rm /usr/lib/udev/rules.d/70-patchbay.rules && udevadm control --reload";

fn card(number: usize) -> Card {
    Card::numbered(number).address(&format!("172.16.{number}.3/24"))
}

/// Returns the IPv4 addresses of a link.
fn addresses(guest: &Guest, link: &str) -> Vec<String> {
    let shown = guest.ip(&format!("-4 addr show dev {link}"));
    let listed = shown[0]["addr_info"].as_array().into_iter().flatten();
    listed
        .map(|address| address["local"].as_str().unwrap().to_owned())
        .collect()
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(40);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
    }
}

fn doctor(guest: &Guest) -> Value {
    guest.patchbay(&["doctor", guest.id(), "--json"]).json()
}

fn missing(report: &Value) -> Vec<&str> {
    let missing = report["missing"].as_array().unwrap().iter();
    missing
        .map(|entry| entry["part"].as_str().unwrap())
        .collect()
}

#[test]
fn plug_beside_udevd_and_networkd_keeps_configuration() {
    let guest = Guest::start_debian(&[]);
    let card = Card::named("eth-test").address("172.16.0.3/16").queues(2);
    guest.plug(&card).ok();
    assert_eq!(guest.networkd_state("eth-test"), "unmanaged");
    let link = &guest.ip("link show dev eth-test")[0];
    assert!(link["flags"].as_array().unwrap().contains(&"UP".into()));
    assert_eq!(addresses(&guest, "eth-test"), ["172.16.0.3"]);
    guest.netns().ip("addr add 172.16.0.1/16 dev tap-test").ok();
    guest.netns().exec("ping -c 1 -W 5 172.16.0.3").ok();
    guest.unplug(&card).assert_null();
    assert_eq!(guest.netns().links(), Vec::<String>::new());
}

#[test]
fn networkd_with_dhcp_everywhere_excludes_cards_only() {
    let guest = Guest::start_debian(&BOOT_CARD);
    guest.write_file("/etc/systemd/network/80-dhcp.network", DHCP_EVERYWHERE);
    guest.exec("networkctl reload").ok();
    wait_until("the card of the boot gets an address", || {
        addresses(&guest, "enp0s28") == ["10.0.2.15"]
    });
    guest.plug(&card(1)).ok();
    assert_eq!(guest.networkd_state("eth1"), "unmanaged");
    let properties = guest
        .exec("udevadm info -q property /sys/class/net/eth1")
        .ok();
    for property in [
        "PATCHBAY_CARD=1",
        "NM_UNMANAGED=1",
        "ID_NET_LINK_FILE=/usr/lib/systemd/network/00-0-patchbay.link",
    ] {
        assert!(properties.contains(property), "{property}: {properties}");
    }
    let again =
        "systemctl restart systemd-networkd && udevadm trigger --settle --subsystem-match=net";
    guest.shell(again).ok();
    assert_eq!(guest.networkd_state("eth1"), "unmanaged");
    assert_eq!(addresses(&guest, "eth1"), ["172.16.1.3"]);
    wait_until("the card of the boot is configured again", || {
        guest.networkd_state("enp0s28") == "configured"
    });
    assert_eq!(addresses(&guest, "enp0s28"), ["10.0.2.15"]);

    let report = doctor(&guest);
    let managers = &report["agent"]["managers"];
    assert_eq!(managers.as_array().unwrap().len(), 1, "{managers}");
    assert_eq!(managers[0]["name"], "systemd-networkd");
    assert_eq!(managers[0]["excludesCards"], true);
    assert!(!missing(&report).contains(&"excluded cards"), "{report}");

    guest.shell(WITHOUT_RULE).ok();
    guest.plug(&card(2)).ok();
    wait_until("networkd removes a foreign address", || {
        addresses(&guest, "eth2").is_empty()
    });
    let report = doctor(&guest);
    assert_eq!(report["agent"]["managers"][0]["excludesCards"], false);
    assert!(missing(&report).contains(&"excluded cards"), "{report}");
}

#[test]
fn network_manager_excludes_cards_only() {
    let guest = Guest::start_debian(&BOOT_CARD);
    let script = "systemctl stop systemd-networkd.socket systemd-networkd && \
                  systemctl start NetworkManager && nm-online -s -q -t 60";
    guest.shell(script).ok();
    let state = |link: &str| {
        let words = format!("nmcli -g GENERAL.STATE device show {link}");
        guest.exec(&words).out.trim_end().to_owned()
    };
    wait_until("the card of the boot is connected", || {
        state("enp0s28") == "100 (connected)"
    });
    guest.plug(&card(1)).ok();
    guest.exec("udevadm settle").ok();
    assert_eq!(state("eth1"), "10 (unmanaged)");
    assert_eq!(addresses(&guest, "eth1"), ["172.16.1.3"]);

    guest.shell(WITHOUT_RULE).ok();
    guest.plug(&card(2)).ok();
    wait_until("NetworkManager manages a card without a mark", || {
        state("eth2") != "10 (unmanaged)"
    });
    assert_eq!(state("eth1"), "10 (unmanaged)");
}

/// Its configuration has only names of links, so the agent can't know that it excludes the cards.
#[test]
fn doctor_warns_of_dhcp_client() {
    let guest = Guest::start_debian(&[]);
    assert!(!missing(&doctor(&guest)).contains(&"excluded cards"));
    guest.exec("dhcpcd -b").ok();
    let report = doctor(&guest);
    let managers = report["agent"]["managers"].as_array().unwrap();
    let dhcpcd = managers.iter().find(|one| one["name"] == "dhcpcd").unwrap();
    assert_eq!(dhcpcd["excludesCards"], false);
    assert!(missing(&report).contains(&"excluded cards"), "{report}");
    let text = guest.patchbay(&["doctor", guest.id()]).ok();
    let line = format!(
        "manager    dhcpcd (process {} of the guest): it can",
        dhcpcd["pid"]
    );
    assert!(text.contains(&line), "{text}");
    assert!(text.contains("docs/guests.md"), "{text}");
}
