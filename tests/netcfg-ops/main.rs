//! Carries out an operation of the agent in its network namespace, for tests in which a system call of it
//! fails. The arguments are the operation and the folder of a sysfs.

#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use patchbay_netcfg::device::Sysfs;
use patchbay_netcfg::ethtool::EthtoolBackend;
use patchbay_netcfg::modules::Loader;
use patchbay_netcfg::ops::Netcfg;
use patchbay_types::failure::Failure;
use patchbay_types::{
    AddressDetail, AdminState, Arp, Destination, InterfaceAddress, LinkChange, LinkFields,
    LinkFlags, LinkSpec, Mtu, Neighbor, PciAddress, PciPath, Promisc, RoutePattern, RouteRequest,
    RouteSpec,
};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, operation, sysfs] = &arguments[..] else {
        panic!("expected an operation and a folder");
    };
    drop(File::open("/proc/self/marks/begin"));
    let done = carry_out(operation, Path::new(sysfs));
    drop(File::open("/proc/self/marks/end"));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("patchbay: {}", failure.line());
            ExitCode::from(failure.kind().exit_code())
        }
    }
}

fn carry_out(operation: &str, sysfs: &Path) -> Result<(), Failure> {
    let opened = Netcfg::open(
        Sysfs::at(sysfs),
        EthtoolBackend::Auto,
        None,
        Loader::default(),
    );
    let netcfg =
        opened.map_err(|error| Failure::of(patchbay_types::failure::Kind::Other, &error))?;
    match operation {
        "add-routes" => netcfg.add_routes(&routes(30))?,
        "replace-routes" => netcfg.replace_routes(&routes(31))?,
        "delete-routes" => netcfg.delete_routes(&[pattern(20), pattern(21)])?,
        "add-neighbors" => netcfg.add_neighbors(&[neighbor(8), neighbor(9)])?,
        "update" => drop(netcfg.update(&change(), AddressDetail::Omitted)?),
        "set-flags" => drop(netcfg.update(&flags(), AddressDetail::Omitted)?),
        "configure" => {
            let path = [8, 0].map(PciAddress::from_devfn).to_vec();
            let deadline = Instant::now() + Duration::from_secs(1);
            drop(netcfg.configure(&PciPath::new(path).unwrap(), &card(), &[], deadline)?);
        }
        other => panic!("no operation {other}"),
    }
    Ok(())
}

fn routes(net: u8) -> Vec<RouteSpec> {
    let route = |dest: String, gateway: &str| RouteRequest {
        gateway: gateway.parse().ok(),
        ..RouteRequest::open(dest.parse().unwrap(), "eth1".parse().unwrap())
    };
    let requests = [
        route(format!("{net}.1.0.0/16"), ""),
        route(format!("{net}.2.0.0/16"), "172.16.0.1"),
        route(format!("{net}.3.0.0/16"), "172.16.0.2"),
    ];
    requests
        .map(|request| RouteSpec::new(request).unwrap())
        .into()
}

fn pattern(net: u8) -> RoutePattern {
    let dest = format!("{net}.2.0.0/16").parse().unwrap();
    RoutePattern::open(Destination::Net(dest), None)
}

fn neighbor(last: u8) -> Neighbor {
    let ip: std::net::IpAddr = [172, 16, 0, last].into();
    Neighbor {
        ip: ip.try_into().unwrap(),
        lladdr: [2, 0, 0, 0, 0, last].into(),
        device: "eth1".parse().unwrap(),
    }
}

fn address(ip: &str, prefix: u8) -> InterfaceAddress {
    InterfaceAddress::new(ip.parse().unwrap(), prefix).unwrap()
}

/// Removes the address that a route prefers, and that of another prefix length.
fn change() -> LinkChange {
    let addresses = vec![address("172.16.0.4", 16), address("fd00::3", 48)];
    let mtu = Mtu::try_from(1400).ok();
    LinkChange::new("eth1".parse().unwrap(), Some(addresses), mtu, "addresses").unwrap()
}

/// Renames the link, and sets it down, which costs it routes, IPv6 addresses and neighbors.
fn flags() -> LinkChange {
    let change = LinkChange::new("eth1".parse().unwrap(), None, None, "addresses").unwrap();
    let change = change.with_rename("wan0".parse().ok());
    change.with_flags(LinkFlags {
        state: Some(AdminState::Down),
        arp: Some(Arp::Off),
        promisc: Some(Promisc::On),
    })
}

fn card() -> LinkSpec {
    let fields = LinkFields {
        name: "eth-test".parse().unwrap(),
        mac: "02:42:20:6f:a3:69".parse().unwrap(),
        mtu: Mtu::try_from(1400).unwrap(),
        addresses: vec![address("172.17.0.3", 16), address("fd01::3", 64)],
        queues: None,
        arp: Arp::Off,
    };
    LinkSpec::new(fields, "addresses").unwrap()
}
