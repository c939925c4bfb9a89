//! A namespace of a test's own, with the service in it and iproute2 to judge it.

use std::io::Write;
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, unshare};
use patchbay_netcfg::device::Sysfs;
use patchbay_netcfg::ethtool::EthtoolBackend;
use patchbay_netcfg::ops::Netcfg;
use patchbay_types::InterfaceAddress;
use serde_json::Value;

/// A namespace with two veths that are up, `eth1` and `eth2`, and the service in it.
pub(crate) fn services() -> Netcfg {
    unshare(CloneFlags::CLONE_NEWNET).expect("these tests run as root");
    ip("link set lo up");
    for name in ["eth1", "eth2"] {
        ip(&format!("link add {name} type veth peer name {name}p"));
        ip(&format!("link set {name} up"));
        ip(&format!("link set {name}p up"));
    }
    Netcfg::open(Sysfs::at("/sys"), EthtoolBackend::Auto, None).unwrap()
}

/// `ip` with these words.
pub(crate) fn ip(words: &str) -> String {
    batch(words.split_whitespace(), "")
}

/// `ip` with these words and standard input.
pub(crate) fn batch<'a>(words: impl Iterator<Item = &'a str>, input: &str) -> String {
    let words: Vec<&str> = words.collect();
    let mut child = Command::new("ip")
        .args(&words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let done = child.wait_with_output().unwrap();
    let err = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "ip {words:?}: {err}");
    String::from_utf8(done.stdout).unwrap()
}

/// The same, as JSON.
pub(crate) fn json(words: &str) -> Value {
    serde_json::from_str(&ip(&format!("-j {words}"))).unwrap()
}

/// Every route of the main table, in iproute2's words.
pub(crate) fn table() -> String {
    let shown = ip("-4 route show") + &ip("-6 route show");
    // The kernel's own link-local routes come and go in its own time.
    let lines = shown
        .split_inclusive('\n')
        .filter(|line| !line.starts_with("fe80:"));
    lines.collect()
}

/// `10.0.0.1/8`.
pub(crate) fn address(text: &str) -> InterfaceAddress {
    let (ip, prefix) = text.split_once('/').unwrap();
    InterfaceAddress::new(ip.parse().unwrap(), prefix.parse().unwrap()).unwrap()
}

/// Numbers that look random and are the same for the same seed: xorshift64.
pub(crate) struct Dice(u64);

impl Dice {
    /// The seed is `PATCHBAY_SEED`, or the clock's; it is printed.
    pub(crate) fn new() -> Self {
        let given = std::env::var("PATCHBAY_SEED").ok();
        let seed = given.map_or_else(
            || {
                let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
                u64::from(now.subsec_nanos()) | 1
            },
            |text| text.parse().unwrap(),
        );
        eprintln!("PATCHBAY_SEED={seed}");
        Self(seed)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    /// One of these.
    pub(crate) fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[usize::try_from(self.below(of.len() as u64)).unwrap()]
    }
}
