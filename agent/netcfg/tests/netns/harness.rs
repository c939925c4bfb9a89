//! Network namespaces, and iproute2 to set them up and to read the result.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;

use fastrand::Rng;
use nix::sched::{CloneFlags, unshare};
use patchbay_netcfg::device::Sysfs;
use patchbay_netcfg::ethtool::EthtoolBackend;
use patchbay_netcfg::modules::Loader;
use patchbay_netcfg::ops::Netcfg;
use patchbay_types::failure::Failure;
use patchbay_types::{AddressDetail, InterfaceAddress, LinkChange, Mtu};
use serde_json::Value;

/// Moves the calling thread to a new network namespace, and opens the operations there.
pub(crate) fn netcfg_in_new_netns(sysfs: &Path) -> Netcfg {
    unshare(CloneFlags::CLONE_NEWNET).expect("these tests run as root");
    ip("link set lo up");
    Netcfg::open(
        Sysfs::at(sysfs),
        EthtoolBackend::Auto,
        None,
        Loader::default(),
    )
    .unwrap()
}

/// Like [`netcfg_in_new_netns`], with the veths `eth1` and `eth2`, which are up. The kernel sets their
/// operational state in the background, which must not differ between two snapshots of a test.
pub(crate) fn netcfg_with_veths() -> Netcfg {
    let netcfg = netcfg_in_new_netns(Path::new("/sys"));
    for name in ["eth1", "eth2"] {
        ip(&format!("link add {name} type veth peer name {name}p"));
        ip(&format!("link set {name} up"));
        ip(&format!("link set {name}p up"));
    }
    let is_settled = |link: &Value| link["link_type"] == "loopback" || link["operstate"] == "UP";
    while !ip_json("link show")
        .as_array()
        .unwrap()
        .iter()
        .all(is_settled)
    {
        thread::yield_now();
    }
    netcfg
}

fn run_ip(args: &str, input: &str) -> Output {
    let mut child = Command::new("ip")
        .args(args.split_whitespace())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    child.wait_with_output().unwrap()
}

fn expect_success(args: &str, output: Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {args}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs `ip` and returns its output.
pub(crate) fn ip(args: &str) -> String {
    expect_success(args, run_ip(args, ""))
}

/// Runs `ip -batch` with these lines.
pub(crate) fn ip_batch(lines: &str) {
    expect_success("-batch -", run_ip("-batch -", lines));
}

/// Runs `ip -j`.
pub(crate) fn ip_json(args: &str) -> Value {
    serde_json::from_str(&ip(&format!("-j {args}"))).unwrap()
}

/// Runs `ip` with a command that the kernel refuses, and returns the kernel's error as patchbay words
/// it: the errno, and the extended ACK if this kernel sends one (Linux 6.1 sends fewer than later
/// versions).
pub(crate) fn refusal(args: &str, errno: &str) -> String {
    let output = run_ip(args, "");
    assert!(!output.status.success(), "ip {args} succeeds");
    let stderr = String::from_utf8(output.stderr).unwrap();
    if let Some(text) = stderr.strip_prefix("Error: ") {
        let text = text.lines().next().unwrap();
        return format!("{errno} ({})", text.strip_suffix('.').unwrap_or(text));
    }
    assert_eq!(stderr, format!("RTNETLINK answers: {errno}\n"));
    errno.to_owned()
}

/// Returns the routes of the main table in iproute2's format. Excludes link-local ones, which the
/// kernel adds and removes in the background.
pub(crate) fn main_table() -> String {
    routes_text("")
}

/// Like [`main_table`], of the tables that `selector` names.
pub(crate) fn routes_text(selector: &str) -> String {
    let shown =
        ip(&format!("-4 route show {selector}")) + &ip(&format!("-6 route show {selector}"));
    let is_link_local = |word: &str| word.starts_with("fe80:") || word == "ff00::/8";
    let lines = shown.split_inclusive('\n');
    // The first word can be the type.
    let other = lines.filter(|line| !line.split(' ').take(2).any(is_link_local));
    other.collect()
}

/// Returns the addresses in iproute2's format, one per line. Excludes link-local ones, which the kernel
/// adds and probes in the background.
pub(crate) fn addresses_text() -> String {
    let shown = ip("-o addr show");
    let lines = shown.split_inclusive('\n');
    lines.filter(|line| !line.contains(" fe80:")).collect()
}

/// Parses `10.0.0.1/8`.
pub(crate) fn address(text: &str) -> InterfaceAddress {
    let (ip, prefix) = text.split_once('/').unwrap();
    InterfaceAddress::new(ip.parse().unwrap(), prefix.parse().unwrap()).unwrap()
}

/// Returns the global addresses of a link as `ADDRESS/PREFIX`, in the kernel's order.
pub(crate) fn global_addresses(link: &str) -> Vec<String> {
    let listed = ip_json(&format!("addr show {link}"))[0]["addr_info"].take();
    let listed = listed.as_array().unwrap().iter();
    let global = listed.filter(|a| a["local"].is_string() && a["scope"] != "link");
    global
        .map(|a| format!("{}/{}", a["local"].as_str().unwrap(), a["prefixlen"]))
        .collect()
}

/// A request that replaces the addresses of an interface.
pub(crate) fn change(name: &str, addresses: &[&str], mtu: Option<u64>) -> LinkChange {
    let addresses = addresses.iter().map(|text| address(text)).collect();
    let mtu = mtu.map(|mtu| Mtu::try_from(mtu).unwrap());
    LinkChange::new(name.parse().unwrap(), Some(addresses), mtu, "addresses").unwrap()
}

/// Runs it.
pub(crate) fn update(netcfg: &Netcfg, change: &LinkChange) -> Result<(), Failure> {
    let updated = netcfg.update(change, AddressDetail::Listed).map(drop);
    updated.map_err(Failure::from)
}

/// Returns the global addresses of a link, sorted.
pub(crate) fn addresses_of(link: &str) -> Vec<String> {
    let mut addresses = global_addresses(link);
    addresses.sort();
    addresses
}

/// Seeds a generator with `PATCHBAY_SEED`, or at random; prints the seed.
pub(crate) fn seeded_rng() -> Rng {
    let given = std::env::var("PATCHBAY_SEED").ok();
    let seed = given.map_or_else(|| fastrand::u64(..), |text| text.parse().unwrap());
    eprintln!("PATCHBAY_SEED={seed}");
    Rng::with_seed(seed)
}

/// Picks an element.
pub(crate) fn pick<'a, T>(rng: &mut Rng, list: &'a [T]) -> &'a T {
    &list[rng.usize(..list.len())]
}
