//! Address of patchbay's agent, derived from that of Kata's agent: the same guest, another port. Images with
//! an agent of any release are in use, so it is the port that means both.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use patchbay_types::InvalidValue;
use patchbay_types::endpoint::{EARLIER_PORT, Endpoint};
use patchbay_types::failure::{Failure, Kind};

use crate::sandbox::SandboxId;

/// Maximum part of a command line that is read; Kata's have some kB.
const MAX_COMMAND_LINE_BYTES: u64 = 1 << 20;

/// Derives the address from the URL of Kata's agent. `None` if that is not a vsock: with a proxy,
/// Kata 1.x has a Unix socket that reaches only its own agent.
pub(super) fn from_kata(url: &str, file: &Path) -> Result<Option<Endpoint>, Failure> {
    if !url.starts_with("vsock://") && !url.starts_with("hvsock://") {
        return Ok(None);
    }
    let endpoint: Endpoint = url.parse().map_err(|invalid: InvalidValue| {
        Failure::from(invalid.in_field("AgentState.URL"))
            .context(format!("could not use {}", file.display()))
    })?;
    Ok(Some(endpoint.at_port(EARLIER_PORT)))
}

/// Takes the CID from QEMU's command line. The monitor knows it too, but Kata's shim holds the
/// monitor, and commands for the agent must work without it.
pub(super) fn of_process(
    id: &SandboxId,
    pid: Option<i64>,
    file: &Path,
) -> Result<Endpoint, Failure> {
    let pid = pid.and_then(|pid| u32::try_from(pid).ok());
    let line = pid.map(command_line).unwrap_or_default();
    qemu_cid(&line, id)
        .and_then(|cid| format!("vsock://{cid}:{EARLIER_PORT}").parse().ok())
        .ok_or_else(|| {
            let message = format!(
                "could not find the vsock address of sandbox {id} in {} or on the command line of \
                 its QEMU",
                file.display()
            );
            Failure::new(Kind::NotFound, message)
                .with_cause("give --qmp and --agent, or register it in patchbay's run directory")
        })
}

/// Reads the command line of a process; empty if it has ended.
fn command_line(pid: u32) -> Vec<u8> {
    let mut line = Vec::new();
    let read = File::open(format!("/proc/{pid}/cmdline"))
        .and_then(|file| file.take(MAX_COMMAND_LINE_BYTES).read_to_end(&mut line));
    read.map(|_| line).unwrap_or_default()
}

/// Returns the CID in `-device vhost-vsock-pci,…,guest-cid=N` if the command line is that of the
/// sandbox's QEMU: the process id can belong to another process by now.
pub(crate) fn qemu_cid<'a>(line: &'a [u8], id: &SandboxId) -> Option<&'a str> {
    let words = || line.split(|byte| *byte == 0);
    let options = |word: &'a [u8]| std::str::from_utf8(word).unwrap_or_default().split(',');
    let name = format!("sandbox-{id}");
    let is_qemu = words().any(|word| options(word).next() == Some(&name));
    let mut all = words().flat_map(options);
    all.find_map(|option| option.strip_prefix("guest-cid="))
        .filter(|_| is_qemu)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    const FILE: &str = "/run/vc/sbs/a/persist.json";

    #[test]
    fn from_kata_replaces_the_port() {
        let address = |url| {
            from_kata(url, Path::new(FILE))
                .unwrap()
                .unwrap()
                .to_string()
        };
        assert_eq!(address("vsock://1234567:1024"), "vsock://1234567:1061");
        assert_eq!(
            address("hvsock:///run/vc/vm/a/clh.sock:1024"),
            "hvsock:///run/vc/vm/a/clh.sock:1061"
        );
    }

    #[test]
    fn from_kata_skips_proxies_and_names_bad_urls() {
        let from = |url| from_kata(url, Path::new(FILE));
        assert_eq!(from("").unwrap(), None);
        assert_eq!(from("unix:///run/vc/sbs/a/proxy.sock").unwrap(), None);
        for url in ["vsock://2:1024", "hvsock://../../a:1024", "vsock://x"] {
            let failure = from(url).unwrap_err();
            assert_eq!(failure.field(), Some("AgentState.URL"), "{url}");
            assert!(failure.to_string().contains(FILE), "{failure}");
        }
    }

    #[test]
    fn of_process_reads_cid_of_the_named_machine() {
        // A process that waits for input, with QEMU's options on its command line.
        let mut machine = Command::new("sh")
            .args([
                "-c",
                "echo up; read x",
                "-name",
                "sandbox-6ec7,debug-threads=on",
            ])
            .args([
                "-device",
                "vhost-vsock-pci,disable-modern=false,guest-cid=77",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // The command line appears a little later than the process.
        let mut up = [0; 3];
        let output = machine.stdout.as_mut().unwrap();
        output.read_exact(&mut up).unwrap();
        let pid = Some(i64::from(machine.id()));
        let of = |id: &str, pid| of_process(&id.parse().unwrap(), pid, Path::new(FILE));
        assert_eq!(of("6ec7", pid).unwrap().to_string(), "vsock://77:1061");
        for (id, pid) in [("6ec", pid), ("6ec7", None), ("6ec7", Some(-1))] {
            let failure = of(id, pid).unwrap_err();
            assert_eq!(failure.kind(), Kind::NotFound);
            assert!(failure.to_string().contains(FILE), "{failure}");
        }
        drop(machine.stdin.take());
        machine.wait().unwrap();
        assert_eq!(of("6ec7", pid).unwrap_err().kind(), Kind::NotFound);
    }
}
