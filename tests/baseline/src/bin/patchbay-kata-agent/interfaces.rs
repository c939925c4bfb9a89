//! `UpdateInterface` and `ListInterfaces`.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use patchbay_wire::proto::kata as wire;
use serde_json::Value;

use super::Updates;
use super::iproute::{rows, run, text};

/// Kata's `hotplug_timeout`.
const HOTPLUG_TIMEOUT: Duration = Duration::from_secs(3);

/// Waits for the interface of the card at a path such as `03.0/00`.
pub(super) fn wait_for(path: &str) -> Result<(), String> {
    let deadline = Instant::now() + HOTPLUG_TIMEOUT;
    while !is_present(path) {
        if Instant::now() > deadline {
            return Err(format!(
                "Timeout after {HOTPLUG_TIMEOUT:?} waiting for uevent of {path}"
            ));
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

fn is_present(path: &str) -> bool {
    let mut folder = PathBuf::from("/sys/devices/pci0000:00");
    for step in path.split('/') {
        let function = if step.contains('.') { "" } else { ".0" };
        let end = format!(":{step}{function}");
        let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
        let mut devices = entries.map(|entry| entry.path());
        let is_at = |device: &PathBuf| device.to_string_lossy().ends_with(&end);
        match devices.find(is_at) {
            Some(device) => folder = device,
            None => return false,
        }
    }
    let drivers = fs::read_dir(&folder).into_iter().flatten().flatten();
    drivers
        .map(|entry| entry.path().join("net"))
        .any(|net| fs::read_dir(net).is_ok_and(|mut names| names.next().is_some()))
}

fn links() -> Result<Vec<Value>, String> {
    rows("addr show")
}

/// Changes the interface with the MAC address of the request.
pub(super) fn update(wanted: &wire::Interface, updates: Updates) -> Result<(), String> {
    let links = links()?;
    let has_mac = |link: &&Value| text(link, "address") == wanted.hwAddr;
    let link = links.iter().find(has_mac);
    let link = link.ok_or_else(|| format!("Link not found (Address: {})", wanted.hwAddr))?;
    let (name, new) = (text(link, "ifname"), &wanted.name);
    // An interface that is up loses its routes and its IPv6 addresses.
    run(&format!("link set dev {name} down"))?;
    if updates == Updates::Replace {
        run(&format!("addr flush dev {name}"))?;
    }
    for address in &wanted.IPAddresses {
        let (ip, mask) = (&address.address, &address.mask);
        run(&format!("addr replace {ip}/{mask} dev {name}"))?;
    }
    let other = links.iter().find(|link| text(link, "ifname") == *new);
    let other = other
        .filter(|_| name != *new)
        .map(|_| format!("{new}_temp"));
    if let Some(temporary) = &other {
        run(&format!("link set dev {new} down"))?;
        run(&format!("link set dev {new} name {temporary}"))?;
    }
    let arp = if wanted.raw_flags & 0x80 == 0 {
        "on"
    } else {
        "off"
    };
    run(&format!("link set dev {name} name {new}"))?;
    run(&format!(
        "link set dev {new} mtu {} arp {arp} up",
        wanted.mtu
    ))?;
    if let Some(temporary) = &other {
        run(&format!("link set dev {temporary} name {name}"))?;
        run(&format!("link set dev {name} up"))?;
    }
    Ok(())
}

/// Lists the interfaces, with the families of addresses the wrong way round, as Kata does.
pub(super) fn list() -> Result<wire::Interfaces, String> {
    let address = |info: &Value| wire::IPAddress {
        family: match text(info, "family").as_str() {
            "inet6" => wire::IPFamily::v4,
            _ => wire::IPFamily::v6,
        }
        .into(),
        address: text(info, "local"),
        mask: info["prefixlen"].to_string(),
        ..wire::IPAddress::default()
    };
    let interface = |link: &Value| wire::Interface {
        name: text(link, "ifname"),
        hwAddr: text(link, "address"),
        mtu: link["mtu"].as_u64().unwrap_or_default(),
        IPAddresses: link["addr_info"]
            .as_array()
            .into_iter()
            .flatten()
            .map(address)
            .collect(),
        ..wire::Interface::default()
    };
    Ok(wire::Interfaces {
        Interfaces: links()?.iter().map(interface).collect(),
        ..wire::Interfaces::default()
    })
}
