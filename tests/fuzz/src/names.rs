//! Names of hosts, services and labels for the grammars.

use std::net::Ipv4Addr;

use patchbay_grammar::Resolver;
use patchbay_grammar::ipvsadm::Grammar;
use patchbay_types::ipvs::{Checksum, Forward, Tunnel};

#[derive(Debug)]
pub(crate) struct Names;

impl Resolver for Names {
    fn host(&self, name: &str) -> Option<Ipv4Addr> {
        (name == "testhost").then_some(Ipv4Addr::new(10, 9, 8, 7))
    }

    fn service(&self, name: &str, protocol: &str) -> Option<u16> {
        match (name, protocol) {
            ("http", "tcp") => Some(80),
            ("domain", "udp") => Some(53),
            _ => None,
        }
    }

    fn label(&self, name: &str) -> Option<u8> {
        (name == "eth0-in").then_some(7)
    }
}

/// Returns the grammars of both commands, which differ in their defaults, and a third one.
pub(crate) fn grammars() -> [Grammar<'static>; 3] {
    let gre = Tunnel::Gre {
        checksum: Checksum::Full,
    };
    [Forward::Masquerade, Forward::Route, Forward::Tunnel(gre)].map(|forward| Grammar {
        names: &Names,
        forward,
    })
}
