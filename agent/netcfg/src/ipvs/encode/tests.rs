//! Encoded requests, compared byte by byte with the layout of `linux/ip_vs.h`.

use std::fmt::Write as _;
use std::num::NonZeroU32;

use patchbay_types::ipvs::{
    Family, Forward, NonNegativeInt, Protocol, SchedFlags, ServerId, Tunnel,
};

use super::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// Returns the command, and the bytes after `nlmsghdr` and `genlmsghdr`.
fn encoded(what: &Change) -> (u8, String) {
    let mut batch = Batch::default();
    change(FamilyId::EXAMPLE, &mut batch, what);
    (batch.bytes()[16], hex(&batch.bytes()[20..]))
}

fn web() -> ServiceId {
    ServiceId::Address {
        protocol: Protocol::Tcp,
        address: [10, 0, 0, 1].into(),
        port: 80,
    }
}

/// Address family 2, protocol 6, 10.0.0.1 in a union of 16 bytes, port 80.
const WEB: &str = "0600010002000000\
    0600020006000000\
    140003000a000001000000000000000000000000\
    0600040000500000";

#[test]
fn encode_add_service_with_address() {
    let service = Service {
        id: web(),
        scheduler: "rr".parse().unwrap(),
        persistence: Some(Persistence::try_from(300).unwrap()),
        netmask: Netmask::V4(0xffff_0000),
        scheduling: Scheduling::Connections,
        flags: SchedFlags::from_bits(0b101),
        engine: Some("sip".parse().unwrap()),
    };
    let rest = "0700060072720000\
        08000b0073697000\
        0c00070029000000ffffffff\
        080008002c010000\
        08000900ffff0000";
    let (command, bytes) = encoded(&Change::AddService(service));
    assert_eq!(command, 1);
    assert_eq!(bytes, format!("5c000180{WEB}{rest}"));
}

#[test]
fn encode_delete_service_has_only_its_mark() {
    let id = ServiceId::Mark {
        mark: NonZeroU32::MAX,
        family: Family::V6,
    };
    let (command, bytes) = encoded(&Change::DeleteService(id));
    assert_eq!(command, 3);
    assert_eq!(bytes, "14000180060001000a00000008000500ffffffff");
}

#[test]
fn encode_add_server_with_tunnel() {
    let server = Server {
        id: ServerId {
            address: [10, 0, 0, 2].into(),
            port: 80,
        },
        forward: Forward::Tunnel(Tunnel::try_from((1, 6080, 2)).unwrap()),
        weight: NonNegativeInt::ONE,
        upper: NonNegativeInt::try_from(100).unwrap(),
        lower: NonNegativeInt::default(),
    };
    let dest = "06000b0002000000\
        140001000a000002000000000000000000000000\
        0600020000500000\
        0800030002000000\
        0800040001000000\
        05000d0001000000\
        06000e0017c00000\
        06000f0002000000\
        0800050064000000\
        0800060000000000";
    let (command, bytes) = encoded(&Change::AddServer(web(), server));
    assert_eq!(command, 5);
    assert_eq!(bytes, format!("30000180{WEB}60000280{dest}"));
}
