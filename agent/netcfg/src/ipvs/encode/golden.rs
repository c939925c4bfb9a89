//! Comparison with the attributes that ipvsadm sends for the same arguments (recorded).

use std::collections::BTreeMap;

use patchbay_grammar::ipvsadm::{Grammar, read_rules};

use super::*;

/// Values by types of nest (0: top level) and attribute; their order has no meaning.
type Attributes = BTreeMap<(u16, u16), Vec<u8>>;

fn each(mut bytes: &[u8], mut found: impl FnMut(u16, &[u8])) {
    while !bytes.is_empty() {
        let half = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        let length = usize::from(half(0));
        found(half(2) & 0x3fff, &bytes[4..length]);
        bytes = &bytes[bytes.len().min(length.next_multiple_of(4))..];
    }
}

fn attributes(bytes: &[u8]) -> Attributes {
    let mut all = Attributes::new();
    let mut add = |nest, kind, value: &[u8]| {
        let twice = all.insert((nest, kind), value.to_vec());
        assert_eq!(twice, None, "{nest}/{kind}");
    };
    each(bytes, |kind, value| match kind {
        top::SERVICE | top::DEST | top::DAEMON => {
            each(value, |inner, value| add(kind, inner, value));
        }
        _ => add(0, kind, value),
    });
    all
}

/// Returns whether an attribute of ipvsadm has no effect: settings of a service that is only
/// identified, tunnel attributes of a server without a tunnel, settings of a server or daemon that is
/// deleted.
fn is_redundant(command: u8, (nest, kind): (u16, u16), value: &[u8]) -> bool {
    let only_identified = !matches!(command, CMD_NEW_SERVICE | CMD_SET_SERVICE);
    let service = [svc::SCHED_NAME, svc::FLAGS, svc::TIMEOUT, svc::NETMASK];
    let tunnel = [dest::TUN_TYPE, dest::TUN_PORT, dest::TUN_FLAGS];
    let server = [
        dest::FWD_METHOD,
        dest::WEIGHT,
        dest::U_THRESH,
        dest::L_THRESH,
    ];
    let daemon = [daemon::MCAST_IFN, daemon::SYNC_ID];
    match nest {
        top::SERVICE => only_identified && service.contains(&kind),
        top::DEST if tunnel.contains(&kind) => value.iter().all(|byte| *byte == 0),
        top::DEST => command == CMD_DEL_DEST && server.contains(&kind),
        top::DAEMON => command == CMD_DEL_DAEMON && daemon.contains(&kind),
        _ => false,
    }
}

#[test]
fn change_is_encoded_like_ipvsadm() {
    let lines = include_str!("ipvsadm.txt").lines();
    let mut compared = 0;
    for line in lines.filter(|line| !line.starts_with('#')) {
        let mut parts = line.splitn(3, ' ').map(str::trim);
        let (number, hex, words) = (
            hex::decode(parts.next().unwrap()).unwrap()[0],
            parts.next().unwrap(),
            parts.next().unwrap(),
        );
        let theirs = attributes(&hex::decode(hex.trim_matches('-')).unwrap());
        let what = read_rules(&Grammar::NUMERIC, words)
            .unwrap()
            .remove(0)
            .change;
        let mut batch = Batch::default();
        change(FamilyId::EXAMPLE, &mut batch, &what);
        assert_eq!(batch.bytes()[16], number, "{words}");
        let ours = attributes(&batch.bytes()[20..]);
        for (kind, value) in &ours {
            assert_eq!(Some(value), theirs.get(kind), "{words}: {kind:?}");
        }
        for (kind, value) in theirs.iter().filter(|(kind, _)| !ours.contains_key(kind)) {
            let redundant = is_redundant(number, *kind, value);
            assert!(redundant, "{words}: {kind:?} {value:02x?} is missing");
        }
        compared += 1;
    }
    assert_eq!(compared, 34);
}
