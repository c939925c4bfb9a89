//! Where our agent is, by what Kata says of its own: the same guest, another port.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use patchbay_types::InvalidValue;
use patchbay_types::endpoint::DEFAULT_PORT;
use patchbay_types::endpoint::Endpoint;
use patchbay_types::failure::{Failure, Kind};

use crate::sandbox::id::Id;

/// Most that is read of a command line, in bytes; Kata's have some kB.
const MAX_COMMAND_LINE: u64 = 1 << 20;

/// From the URL of Kata's agent. `None` where that is no vsock: Kata 1.x with a proxy has a Unix
/// socket there, behind which only its own agent is.
pub(super) fn from_kata(url: &str, file: &Path) -> Result<Option<Endpoint>, Failure> {
    if !url.starts_with("vsock://") && !url.starts_with("hvsock://") {
        return Ok(None);
    }
    let endpoint: Endpoint = url.parse().map_err(|bad: InvalidValue| {
        Failure::from(bad.in_field("AgentState.URL"))
            .context(format!("could not use {}", file.display()))
    })?;
    Ok(Some(endpoint.at_port(DEFAULT_PORT)))
}

/// Behind a Unix socket with the hybrid handshake.
pub(super) fn hybrid(path: PathBuf) -> Endpoint {
    Endpoint::Hybrid {
        path,
        port: DEFAULT_PORT,
    }
}

/// By the CID on QEMU's command line. The monitor would tell it too, but Kata's shim holds that,
/// and what needs only the agent shall not need the monitor.
pub(super) fn of_process(id: &Id, pid: Option<i64>, file: &Path) -> Result<Endpoint, Failure> {
    let pid = pid.and_then(|pid| u32::try_from(pid).ok());
    let line = pid.map(command_line).unwrap_or_default();
    qemu_cid(&line, id)
        .and_then(|cid| format!("vsock://{cid}:{DEFAULT_PORT}").parse().ok())
        .ok_or_else(|| {
            let sentence = format!(
                "could not tell the vsock address of sandbox {id}: neither {} nor its QEMU's \
                 command line says it",
                file.display()
            );
            Failure::new(Kind::NotFound, sentence)
                .with_cause("give --qmp and --agent, or register it in patchbay's run directory")
        })
}

/// Empty for a process that has ended.
fn command_line(pid: u32) -> Vec<u8> {
    let mut line = Vec::new();
    let read = File::open(format!("/proc/{pid}/cmdline"))
        .and_then(|file| file.take(MAX_COMMAND_LINE).read_to_end(&mut line));
    read.map(|_| line).unwrap_or_default()
}

/// The CID in `-device vhost-vsock-pci,…,guest-cid=N`, if this is the machine of the sandbox: the
/// process that had the number may have ended, and another have it now.
pub(crate) fn qemu_cid<'a>(line: &'a [u8], id: &Id) -> Option<&'a str> {
    let words = || line.split(|byte| *byte == 0);
    let options = |word: &'a [u8]| std::str::from_utf8(word).unwrap_or_default().split(',');
    let name = format!("sandbox-{id}");
    let is_its = words().any(|word| options(word).next() == Some(&name));
    let mut all = words().flat_map(options);
    all.find_map(|option| option.strip_prefix("guest-cid="))
        .filter(|_| is_its)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    const FILE: &str = "/run/vc/sbs/a/persist.json";

    #[test]
    fn katas_port_gives_way_to_ours() {
        let ours = |url| {
            from_kata(url, Path::new(FILE))
                .unwrap()
                .unwrap()
                .to_string()
        };
        assert_eq!(ours("vsock://1234567:1024"), "vsock://1234567:1061");
        assert_eq!(
            ours("hvsock:///run/vc/vm/a/clh.sock:1024"),
            "hvsock:///run/vc/vm/a/clh.sock:1061"
        );
    }

    #[test]
    fn a_proxy_is_not_taken_for_an_agent_and_nonsense_is_named() {
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
    fn a_running_machine_tells_its_cid_to_who_knows_its_name() {
        // A stand-in that waits for its input, with QEMU's words behind it.
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
        // Its command line is there a little later than the process.
        let mut up = [0; 3];
        let output = machine.stdout.as_mut().unwrap();
        output.read_exact(&mut up).unwrap();
        let pid = Some(i64::from(machine.id()));
        let of = |id: &str, pid| of_process(&Id::parse(id).unwrap(), pid, Path::new(FILE));
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
