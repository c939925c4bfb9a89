//! Round trips: a saved line parses to the rule that it was saved from.
use std::net::IpAddr;
use std::num::{NonZeroU16, NonZeroU32};

use patchbay_grammar::ipvsadm::{
    Grammar, RuleFileError, SaveFormat, numeric, parse, read_rules, server_line, service_line,
};
use patchbay_types::ipvs::{
    Change, Checksum, Family, Forward, Netmask, NonNegativeInt, Persistence, Protocol, SchedFlags,
    Scheduler, Scheduling, Server, ServerId, Service, ServiceId, Tunnel,
};
use proptest::option;
use proptest::prelude::*;

fn read(line: &str) -> Result<Change, RuleFileError> {
    let lines = read_rules(&Grammar::NUMERIC, line)?;
    Ok(lines[0].change.clone())
}

fn service_id() -> impl Strategy<Value = ServiceId> {
    let protocol = prop_oneof![
        Just(Protocol::Tcp),
        Just(Protocol::Udp),
        Just(Protocol::Sctp)
    ];
    let address = (protocol, any::<IpAddr>(), any::<u16>());
    let family = prop_oneof![Just(Family::V4), Just(Family::V6)];
    prop_oneof![
        address.prop_map(|(protocol, address, port)| ServiceId::Address {
            protocol,
            address,
            port
        }),
        (any::<NonZeroU32>(), family).prop_map(|(mark, family)| ServiceId::Mark { mark, family }),
    ]
}

fn forward() -> impl Strategy<Value = Forward> {
    let checksum = prop_oneof![
        Just(Checksum::No),
        Just(Checksum::Full),
        Just(Checksum::Remote)
    ];
    let gue = (any::<NonZeroU16>(), checksum);
    prop_oneof![
        Just(Forward::Masquerade),
        Just(Forward::Route),
        Just(Forward::Tunnel(Tunnel::Ipip)),
        gue.prop_map(|(port, checksum)| Forward::Tunnel(Tunnel::Gue { port, checksum })),
        any::<bool>().prop_map(|full| Forward::Tunnel(Tunnel::Gre {
            checksum: if full { Checksum::Full } else { Checksum::No },
        })),
    ]
}

prop_compose! {
    fn service()(
        id in service_id(),
        scheduler in "[a-z]{1,15}|sh|mh",
        persistence in option::of(1..=Persistence::MAX),
        (mask, bits) in (any::<u32>(), 1..=128u32),
        flags in 0..8u8,
        ops: bool,
        engine in option::of("[a-z]{1,16}"),
    ) -> Option<Service> {
        let mask = match id.family() {
            Family::V4 => Netmask::V4(mask),
            Family::V6 => Netmask::prefix(bits).unwrap(),
        };
        Service {
            id,
            scheduler: scheduler.parse::<Scheduler>().unwrap(),
            persistence: persistence.map(|seconds| Persistence::try_from(seconds).unwrap()),
            netmask: mask,
            scheduling: if ops { Scheduling::Packets } else { Scheduling::Connections },
            flags: SchedFlags::from_bits(flags),
            engine: engine.map(|engine| engine.parse().unwrap()),
        }.checked().ok()
    }
}

proptest! {
    #[test]
    fn service_line_parses_back(service in service()) {
        let Some(service) = service else { return Ok(()) };
        let line = service_line(&service, &numeric, SaveFormat::Whole);
        prop_assert_eq!(read(&line), Ok(Change::AddService(service)));
    }

    #[test]
    fn server_line_parses_back(
        of in service_id(),
        address: IpAddr,
        port: u16,
        forward in forward(),
        numbers in prop::array::uniform3(0..=0x7fff_ffffu32),
    ) {
        let [weight, upper, lower] = numbers.map(|n| NonNegativeInt::try_from(n).unwrap());
        let id = ServerId { address, port };
        let Ok(server) = (Server { id, forward, weight, upper, lower }).of(of) else {
            return Ok(());
        };
        let line = server_line(of, &server, &numeric, SaveFormat::Whole);
        prop_assert_eq!(read(&line), Ok(Change::AddServer(of, server)));
    }

    #[test]
    fn parse_any_words_ends(words in prop::collection::vec("-[A-Za-z=]{0,3}|[0-9.:]{0,12}|--[a-z-]{0,12}|.{0,6}", 0..8)) {
        let _ = parse(&Grammar::NUMERIC, &words);
    }
}
