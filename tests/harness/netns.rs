//! Network namespaces of one test.

use std::fs::File;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use nix::sched::{CloneFlags, setns};

use crate::{Done, run};

/// A named network namespace, deleted when it is dropped.
#[derive(Debug)]
pub struct Netns {
    name: String,
}

static COUNT: AtomicU32 = AtomicU32::new(0);

impl Netns {
    /// Creates a namespace with its loopback up.
    pub fn new() -> Self {
        Self::named("add", &[])
    }

    /// Names the namespace of a process.
    pub fn of_process(pid: u32) -> Self {
        Self::named("attach", &[&pid.to_string()])
    }

    fn named(command: &str, rest: &[&str]) -> Self {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("pb-test-{}-{count}", std::process::id());
        let netns = Self { name };
        let words = [&[command, &netns.name], rest].concat();
        run(Command::new("ip").arg("netns").args(words), "").ok();
        netns.ip("link set lo up").ok();
        netns
    }

    /// Returns the name for `ip netns`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `ip` in the namespace.
    pub fn ip(&self, words: &str) -> Done {
        let words = words.split_whitespace();
        run(Command::new("ip").args(["-n", &self.name]).args(words), "")
    }

    /// Runs a program in the namespace; arguments are separated by blanks.
    pub fn exec(&self, words: &str) -> Done {
        let words = words.split_whitespace();
        run(
            Command::new("ip")
                .args(["netns", "exec", &self.name])
                .args(words),
            "",
        )
    }

    /// Returns the names of the links except `lo`.
    pub fn links(&self) -> Vec<String> {
        let links = self.ip("-j link show").json();
        let names = links
            .as_array()
            .unwrap()
            .iter()
            .map(|link| link["ifname"].as_str().unwrap());
        names
            .filter(|name| *name != "lo")
            .map(str::to_owned)
            .collect()
    }

    /// Runs a closure on a thread in the namespace.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let path = PathBuf::from("/run/netns").join(&self.name);
        let enter = move || {
            setns(File::open(path).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
            work()
        };
        thread::scope(|scope| scope.spawn(enter).join().unwrap())
    }
}

impl Default for Netns {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        run(Command::new("ip").args(["netns", "del", &self.name]), "");
    }
}
