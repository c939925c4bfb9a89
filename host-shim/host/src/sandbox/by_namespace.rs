//! Machines by the network namespace of a container.

use std::fs;

use patchbay_types::failure::{Failure, Kind};

use super::id::SandboxId;
use super::{Lookup, Sandbox, find};
use crate::netns::Netns;

/// Maximum number of processes that are examined.
const MAX_PROCESSES: usize = 1 << 18;
/// Maximum number of sandboxes that an error message lists.
const MAX_LISTED: usize = 8;

/// Machine in a network namespace.
#[derive(Debug)]
pub enum Resident {
    /// No machine.
    None,
    /// A machine that is known.
    Machine(Box<Sandbox>),
    /// A QEMU that is not known as a sandbox, for example one that is starting.
    Unreachable(Failure),
}

/// Finds the machine of a container: by the container's whole id, or by its network namespace.
///
/// # Errors
/// [`Kind::Unsupported`] if the sandbox with this id has another network namespace, or several
/// sandboxes have this one; [`Kind::Invalid`] for files that describe the sandbox badly.
pub fn of_container(lookup: &Lookup, id: &SandboxId, netns: &Netns) -> Result<Resident, Failure> {
    let found = find::find_whole(lookup, id);
    match found {
        Ok(Some(sandbox)) => return check_netns(sandbox, netns),
        Ok(None) => {}
        // Kata writes the files of a machine while it starts.
        Err(failure) => {
            let cause = failure.line();
            return qemu(netns)
                .map(|starting| Resident::Unreachable(starting.with_cause(cause)))
                .ok_or(failure);
        }
    }
    let mut sandboxes = find::all(lookup)?;
    sandboxes.retain(|sandbox| is_in(sandbox, netns).unwrap_or(false));
    match <[Sandbox; 1]>::try_from(sandboxes) {
        Ok([sandbox]) => Ok(Resident::Machine(Box::new(sandbox))),
        Err(none) if none.is_empty() => {
            Ok(qemu(netns).map_or(Resident::None, Resident::Unreachable))
        }
        Err(several) => {
            let ids = several
                .iter()
                .take(MAX_LISTED)
                .map(|sandbox| sandbox.id.as_str());
            let ids = ids.collect::<Vec<_>>().join(", ");
            let message = format!("several sandboxes are in the network namespace of {id}: {ids}");
            Err(Failure::new(Kind::Unsupported, message))
        }
    }
}

fn check_netns(sandbox: Sandbox, netns: &Netns) -> Result<Resident, Failure> {
    let message = format!(
        "sandbox {} has another network namespace than its container",
        sandbox.id
    );
    match is_in(&sandbox, netns) {
        Ok(true) => Ok(Resident::Machine(Box::new(sandbox))),
        Ok(false) => Err(Failure::new(Kind::Unsupported, message)),
        Err(failure) => Err(failure.context(message).with_kind(Kind::Unsupported)),
    }
}

fn is_in(sandbox: &Sandbox, netns: &Netns) -> Result<bool, Failure> {
    let own = Netns::open_or_current(sandbox.netns.as_deref())?;
    Ok(own.id() == netns.id())
}

/// Finds a process in the namespace whose program is QEMU. Returns the failure that reports it.
fn qemu(netns: &Netns) -> Option<Failure> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut processes = processes
        .take(MAX_PROCESSES)
        .map(|entry| entry.path())
        .filter(|process| netns.is_at(&process.join("ns/net")).unwrap_or(false));
    processes.find_map(|process| {
        let program = fs::read_link(process.join("exe")).ok()?;
        let name = program.file_name()?.to_str().filter(|name| is_qemu(name))?;
        let pid = process.file_name()?.to_str()?;
        let message = format!(
            "a machine runs in the network namespace that patchbay can't reach: process {pid} ({name})"
        );
        Some(Failure::new(Kind::NotFound, message))
    })
}

/// Returns whether the name of a program is that of a QEMU; one that was replaced ends with a remark.
fn is_qemu(name: &str) -> bool {
    name.starts_with("qemu-system-") || name.split(' ').next() == Some("qemu-kvm")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;
    use std::process::{Child, Command, Stdio};
    use std::thread;

    use nix::sched::{CloneFlags, unshare};

    use super::super::registry::SandboxFile;
    use super::*;
    use crate::interrupt::Interrupt;

    /// Namespace of the calling thread.
    const OWN: &str = "/proc/thread-self/ns/net";
    /// That of the main thread.
    const OTHER: &str = "/proc/self/ns/net";

    struct Host {
        dir: tempfile::TempDir,
        lookup: Lookup,
    }

    impl Host {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let lookup = Lookup {
                run_dir: dir.path().join("run"),
                kata_roots: vec![dir.path().join("none")],
                machine: None,
                named: BTreeMap::new(),
                interrupt: Interrupt::default(),
            };
            Self { dir, lookup }
        }

        fn register(&self, id: &str, netns: &str) {
            let folder = self.lookup.run_dir.join(id);
            fs::create_dir_all(&folder).unwrap();
            let text = format!(r#"{{"qmp":"/q/{id}","agent":"vsock://3:1061","netns":"{netns}"}}"#);
            fs::write(folder.join(SandboxFile::NAME), text).unwrap();
        }

        /// Returns the id of the machine, `-`, or the message of the failure.
        fn find(&self, id: &str) -> String {
            let netns = Netns::open(Path::new(OWN)).unwrap();
            match of_container(&self.lookup, &id.parse().unwrap(), &netns) {
                Ok(Resident::None) => "-".to_owned(),
                Ok(Resident::Machine(sandbox)) => sandbox.id.to_string(),
                Ok(Resident::Unreachable(failure)) => format!("unreachable: {}", failure.line()),
                Err(failure) => format!("{:?}: {}", failure.kind(), failure.line()),
            }
        }

        /// Starts a program with this name in the thread's namespace.
        fn program(&self, name: &str) -> Child {
            let program = self.dir.path().join(name);
            fs::copy("/bin/cat", &program).unwrap();
            let mut command = Command::new(program);
            command.stdin(Stdio::piped()).spawn().unwrap()
        }
    }

    fn in_netns(work: impl FnOnce(&Host) + Send) {
        let enter = || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            work(&Host::new());
        };
        thread::scope(|scope| scope.spawn(enter).join().unwrap());
    }

    #[test]
    fn container_gets_machine_by_whole_id_or_namespace() {
        in_netns(|host| {
            assert_eq!(host.find("6ec7"), "-");
            host.register("6ec7a98", OTHER);
            assert_eq!(host.find("6ec7"), "-");
            host.register("by-hand", OWN);
            assert_eq!(host.find("6ec7"), "by-hand");
            host.register("6ec7", OWN);
            assert_eq!(host.find("6ec7"), "6ec7");
            assert_eq!(
                host.find("other"),
                "Unsupported: several sandboxes are in the network namespace of other: 6ec7, by-hand"
            );
        });
    }

    #[test]
    fn container_in_another_namespace_than_its_sandbox_is_refused() {
        in_netns(|host| {
            let message =
                "Unsupported: sandbox 6ec7 has another network namespace than its container";
            host.register("6ec7", OTHER);
            assert_eq!(host.find("6ec7"), message);
            host.register("6ec7", "/run/netns/none");
            let found = host.find("6ec7");
            assert!(
                found.starts_with(&format!("{message}: could not")),
                "{found}"
            );
        });
    }

    #[test]
    fn unknown_qemu_in_namespace_is_reported() {
        in_netns(|host| {
            let mut other = host.program("qemu-img");
            assert_eq!(host.find("6ec7"), "-");
            let mut qemu = host.program("qemu-system-x86_64");
            let pid = qemu.id();
            let unreachable = format!(
                "unreachable: a machine runs in the network namespace that patchbay can't reach: \
                 process {pid} (qemu-system-x86_64)"
            );
            assert_eq!(host.find("6ec7"), unreachable);
            // Registered, but not readable yet.
            host.register("6ec7", OWN);
            let file = host.lookup.run_dir.join("6ec7").join(SandboxFile::NAME);
            fs::write(file, "").unwrap();
            let found = host.find("6ec7");
            assert!(
                found.starts_with(&format!("{unreachable}: could not read")),
                "{found}"
            );
            for process in [&mut qemu, &mut other] {
                process.kill().unwrap();
                process.wait().unwrap();
            }
            let found = host.find("6ec7");
            assert!(found.starts_with("Invalid: could not read"), "{found}");
            assert_eq!(host.find("other"), "-");
        });
    }
}
