//! vhost-user backends: DPDK's `testpmd`, which forwards between the socket and a veth, and a stub.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Netns;

/// The role of the backend on its socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The backend listens and QEMU connects.
    Server,
    /// QEMU listens and the backend connects.
    Client,
}

/// Serves a vhost-user backend that reports its number of queues and nothing else; DPDK 22.11 always
/// reports 128.
pub fn stub_backend(socket: &Path, queues: u64) {
    let listener = UnixListener::bind(socket).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            // The answers: VHOST_USER_F_PROTOCOL_FEATURES, VHOST_USER_PROTOCOL_F_MQ, the number.
            for answer in [1 << 30, 1, queues] {
                let mut message = [0; 12];
                if stream.read_exact(&mut message).is_err() {
                    break;
                }
                message[4] |= 4;
                message[8] = 8;
                stream.write_all(&message).unwrap();
                stream.write_all(&u64::to_ne_bytes(answer)).unwrap();
            }
        }
    });
}

/// A running `testpmd`, killed when it is dropped. The other end of its veth is `outN`.
#[derive(Debug)]
pub struct Testpmd(Child);

impl Testpmd {
    /// Starts number 0 in the namespace and, as a server, waits until it listens.
    pub fn start(netns: &Netns, socket: &Path, queues: u32, side: Side) -> Self {
        Self::numbered(0, netns, socket, queues, side)
    }

    /// The same with another number, for several in one namespace.
    pub fn numbered(number: u32, netns: &Netns, socket: &Path, queues: u32, side: Side) -> Self {
        let (out, inner) = (format!("out{number}"), format!("dpdk{number}"));
        if !netns.links().contains(&out) {
            netns
                .ip(&format!("link add {out} type veth peer name {inner}"))
                .ok();
            netns.ip(&format!("link set {inner} up")).ok();
            netns.ip(&format!("link set {out} up")).ok();
            // testpmd forwards packets unchanged, and a veth leaves checksums to the hardware.
            netns.exec(&format!("ethtool -K {out} tx off")).ok();
        }
        let _ = std::fs::remove_file(socket);
        let client = u32::from(side == Side::Client);
        let vhost = format!(
            "net_vhost0,iface={},queues={queues},client={client}",
            socket.display()
        );
        let packets = format!("net_af_packet0,iface={inner},qpairs={queues}");
        let prefix = format!("--file-prefix=pb{}-{number}", std::process::id());
        let child = Command::new("ip")
            .args(["netns", "exec", netns.name(), "dpdk-testpmd"])
            .args([
                "--no-huge",
                "-m",
                "256",
                "--no-pci",
                "--no-telemetry",
                &prefix,
                "-l",
                "0,1",
            ])
            .args(["--vdev", &vhost, "--vdev", &packets, "--"])
            .arg(format!("--rxq={queues}"))
            .arg(format!("--txq={queues}"))
            .args([
                "--nb-cores=1",
                "--forward-mode=io",
                "--auto-start",
                "--no-lsc-interrupt",
            ])
            .args(["--total-num-mbufs=8192"])
            // testpmd exits at the end of its standard input.
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while side == Side::Server && !socket.exists() {
            assert!(
                Instant::now() < deadline,
                "testpmd does not listen on {}",
                socket.display()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Self(child)
    }
}

impl Drop for Testpmd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
