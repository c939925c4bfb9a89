//! Values of one word: a parsed value prints as text that parses to the same value.

use std::fmt::{Debug, Display};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::str::FromStr;

use patchbay::fuzz;
use patchbay_grammar::inet_aton;
use patchbay_host::sandbox::SandboxId;
use patchbay_types::endpoint::Endpoint;
use patchbay_types::ipvs::{Engine, Scheduler};
use patchbay_types::{IfName, LinkLayerAddr, LinkName, MacAddr, SocketPath};

use crate::pick;

/// The first byte selects the type.
pub(crate) fn run(data: &[u8]) {
    let (kind, bytes) = pick(data);
    if kind == b'9' {
        return handshake(bytes);
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    match kind {
        b'0' => kept::<Endpoint>(text),
        b'1' => kept::<IfName>(text),
        b'2' => kept::<MacAddr>(text),
        b'3' => kept::<SocketPath>(text),
        b'4' => kept::<SandboxId>(text),
        b'5' => kept::<Scheduler>(text),
        b'6' => cut(text),
        b'7' => {
            if let Some(ip) = inet_aton(text) {
                assert_eq!(inet_aton(&ip.to_string()), Some(ip));
            }
        }
        b'a' => kept::<LinkName>(text),
        b'b' => kept::<LinkLayerAddr>(text),
        b'8' => {
            let (hosts, rest) = text.split_once('\0').unwrap_or((text, ""));
            let (services, wanted) = rest.split_once('\0').unwrap_or((rest, "localhost"));
            let (host, port) = fuzz::names(hosts, services, wanted);
            assert!(host.is_none() || !hosts.is_empty());
            assert!(port.is_none() || !services.is_empty());
        }
        _ => {}
    }
}

fn kept<T: FromStr + Display + PartialEq + Debug>(text: &str) {
    let Ok(value) = text.parse::<T>() else { return };
    let printed = value.to_string();
    assert!(
        printed.parse::<T>().is_ok_and(|read| read == value),
        "{printed:?}"
    );
}

fn cut(text: &str) {
    if let Ok(name) = Engine::cut(text) {
        assert!(text.starts_with(name.as_str()));
    }
}

/// Asserts that only the first line of a multiplexer's reply is consumed.
fn handshake(bytes: &[u8]) {
    let (mut ours, mut theirs) = UnixStream::pair().expect("a pair of sockets can be made");
    theirs.write_all(bytes).expect("a short text is taken");
    theirs
        .shutdown(Shutdown::Write)
        .expect("a socket can be shut down");
    let opened = patchbay_host::fuzz::handshake(&ours).is_ok();
    let mut rest = Vec::new();
    ours.read_to_end(&mut rest)
        .expect("what is there can be read");
    if opened {
        let taken = &bytes[..bytes.len() - rest.len()];
        assert_eq!(
            taken.iter().position(|byte| *byte == b'\n'),
            Some(taken.len() - 1)
        );
    }
}
