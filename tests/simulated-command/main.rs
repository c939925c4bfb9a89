//! A command of the simulation (`tests/simulation`): one operation of the host library. The arguments are the
//! run directory and the words of the operation.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use patchbay_host::card::{Backend, CardRequest, Listener};
use patchbay_host::interrupt::Interrupt;
use patchbay_host::ops::{self, CardKey};
use patchbay_host::sandbox::{self, Lookup, Sandbox};
use patchbay_types::failure::Failure;
use patchbay_types::{Arp, InterfaceAddress, LinkChange, LinkFields, LinkSpec, Mtu};

/// Time for the guest to detect and configure a card.
const WAIT: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, run_dir, operation, words @ ..] = &arguments[..] else {
        panic!("expected a run directory and an operation");
    };
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let lookup = Lookup {
        run_dir: PathBuf::from(run_dir),
        kata_roots: vec![PathBuf::from(run_dir).join("none")],
        machine: None,
        named: BTreeMap::new(),
        interrupt: Interrupt::default(),
    };
    match carry_out(&lookup, operation, &words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{}", failure.line());
            ExitCode::from(failure.kind().exit_code())
        }
    }
}

fn carry_out(lookup: &Lookup, operation: &str, words: &[&str]) -> Result<(), Failure> {
    if operation == "gc" {
        return ops::gc(lookup);
    }
    let sandbox = sandbox::find(lookup, "sim")?;
    match (operation, words) {
        ("plug", card) => plug(&sandbox, &lookup.run_dir, card),
        ("unplug", [name]) => {
            ops::unplug(&sandbox, &CardKey::Name(name.parse().unwrap())).map(drop)
        }
        ("list", []) => ops::list(&sandbox).map(drop),
        ("update", [name, mtu, address]) => {
            let addresses = vec![self::address(address)];
            let name = name.parse().unwrap();
            let change = LinkChange::new(name, Some(addresses), Some(number(mtu)), "addresses")?;
            ops::update(&sandbox, &change)
        }
        other => panic!("no operation {other:?}"),
    }
}

fn address(text: &str) -> InterfaceAddress {
    InterfaceAddress::new(text.parse().unwrap(), 16).unwrap()
}

fn number(text: &str) -> Mtu {
    Mtu::try_from(text.parse::<u64>().unwrap()).unwrap()
}

fn plug(sandbox: &Sandbox, run_dir: &Path, card: &[&str]) -> Result<(), Failure> {
    let [name, device, mac, mtu, address] = card else {
        panic!("expected a card, not {card:?}");
    };
    let fields = LinkFields {
        name: name.parse().unwrap(),
        mac: mac.parse().unwrap(),
        mtu: number(mtu),
        addresses: vec![self::address(address)],
        queues: None,
        arp: Arp::On,
    };
    let backend = if device.starts_with("vhost-user") {
        let socket = run_dir.join(device).to_str().unwrap().parse();
        Backend::VhostUser(socket.unwrap(), Listener::Backend)
    } else {
        Backend::Tap
    };
    let request = CardRequest {
        device: device.parse().unwrap(),
        backend,
        link: LinkSpec::new(fields, "addresses")?,
    };
    ops::plug(sandbox, &request, WAIT).map(drop)
}
