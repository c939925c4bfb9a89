//! Rule files: one service per three servers.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use patchbay_tests::{bin, run};

/// 10.0.0.1
const FIRST_SERVICE: u32 = 0x0a00_0001;

/// A rule file on the host.
pub(crate) struct RuleFile {
    pub(crate) text: String,
    pub(crate) path: PathBuf,
    /// Bytes of the request, and of the reply that lists the same rules.
    pub(crate) packed: [usize; 2],
}

impl RuleFile {
    /// Writes the file into this folder.
    pub(crate) fn new(folder: &Path, name: &str, text: String) -> Self {
        let path = folder.join(name);
        std::fs::write(&path, &text).unwrap();
        let mut measure = Command::new(bin("patchbay-baseline"));
        let sizes = run(measure.arg("packed").arg(&path), "").ok();
        let sizes: Vec<usize> = sizes
            .split_whitespace()
            .map(|size| size.parse().unwrap())
            .collect();
        let packed = sizes.try_into().unwrap();
        Self { text, path, packed }
    }
}

/// Returns rules of services with consecutive addresses: the kernel's hash of a service takes the last
/// byte of its address and the port. Servers are in `172.NET.0.0/16`.
pub(crate) fn rules(count: u32, net: u8) -> String {
    let mut text = String::new();
    for service in 0..count / 4 {
        let vip = format!("{}:80", Ipv4Addr::from(FIRST_SERVICE + service));
        writeln!(text, "-A -t {vip} -s rr").unwrap();
        for server in 1..=3 {
            let (third, port) = (service % 200, 8000 + service / 200);
            writeln!(text, "-a -t {vip} -r 172.{net}.{third}.{server}:{port} -m").unwrap();
        }
    }
    text
}

/// Returns the same number of IPv6 rules.
pub(crate) fn rules6(count: u32) -> String {
    let mut text = String::new();
    for service in 0..count / 4 {
        let vip = format!("[fd00::{service:x}]:80");
        writeln!(text, "-A -t {vip} -s rr").unwrap();
        for server in 1..=3 {
            writeln!(
                text,
                "-a -t {vip} -r [fd00:1::{service:x}:{server}]:8000 -m"
            )
            .unwrap();
        }
    }
    text
}

/// Changes the server of every hundredth rule.
pub(crate) fn one_percent_changed(rules: &str) -> String {
    let change = |(number, line): (usize, &str)| match number % 100 {
        // The second line of each hundred is a server.
        1 => line.replace("-r 172.", "-r 173.") + "\n",
        _ => format!("{line}\n"),
    };
    rules.lines().enumerate().map(change).collect()
}

/// Returns one service with a hashing scheduler and its servers.
pub(crate) fn hashed(vip: &str, net: u8, servers: usize) -> String {
    let mut text = format!("-A -t {vip} -s mh\n");
    for server in 0..servers {
        let (third, fourth) = (server / 250, server % 250 + 1);
        writeln!(text, "-a -t {vip} -r 172.{net}.{third}.{fourth}:8000 -m").unwrap();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_rules_are_one_percent() {
        let before = rules(20_000, 16);
        let after = one_percent_changed(&before);
        assert_eq!(before.lines().count(), 20_000);
        let differ = before
            .lines()
            .zip(after.lines())
            .filter(|(before, after)| before != after);
        assert_eq!(differ.count(), 200);
    }

    #[test]
    fn rules_have_no_duplicates() {
        let text = rules(200_000, 16) + &hashed("10.255.0.1:80", 17, 500);
        let lines: std::collections::HashSet<&str> = text.lines().collect();
        assert_eq!(lines.len(), 200_501);
    }
}
