use proptest::prelude::*;
use protobuf::Message;

use super::*;
use crate::ipvs::{Change, Command, Grammar, Line, Resolver, parse, split};

struct NoNames;

impl Resolver for NoNames {
    fn host(&self, _: &str) -> Option<std::net::Ipv4Addr> {
        None
    }

    fn service(&self, _: &str, _: &str) -> Option<u16> {
        None
    }
}

fn change(line: &str) -> Change {
    let grammar = Grammar {
        names: &NoNames,
        forward: Forward::Route,
    };
    let words = split(line).unwrap();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    match parse(&grammar, &words) {
        Ok(Command::Change(change)) => change,
        other => panic!("{line}: {other:?}"),
    }
}

const LINES: [&str; 17] = [
    "-A -t 10.0.0.1:80 -s rr -p 300 -M 255.255.0.0",
    "-A -u [2001:db8::1]:5060 -s sh -p 60 -M 64 --pe sip -o -b sh-port",
    "-E -f 4294967295 -6 -s wlc",
    "-D --sctp-service 10.0.0.1:2905",
    "-C",
    "-a -t 10.0.0.1:80 -r 10.0.0.2:8080 -m -w 65536 -x 100 -y 50",
    "-a -f 1 -r [2001:db8::2]:0 -i --tun-type gue --tun-port 6080 --tun-remcsum",
    "-e -f 1 -r 10.0.0.2:80 -i --tun-type gre --tun-csum",
    "-e -f 1 -r 10.0.0.2:80 -i",
    "-e -f 1 -r 10.0.0.2:80 -g -w 0",
    "-d -t 10.0.0.1:80 -r 10.0.0.2:80",
    "-Z",
    "-Z -f 7",
    "--set 1 0 2678400",
    "--start-daemon master --mcast-interface eth1 --syncid 7 --sync-maxlen 1400 --mcast-group ff02::99 --mcast-port 9000 --mcast-ttl 5",
    "--start-daemon backup",
    "--stop-daemon backup",
];

#[test]
fn every_change_survives_the_wire() {
    for text in LINES {
        let line = Line {
            number: 4711,
            change: change(text),
        };
        let bytes = wire::Rule::from(&line).write_to_bytes().unwrap();
        let read = wire::Rule::parse_from_bytes(&bytes).unwrap();
        assert_eq!(Line::try_from(&read).unwrap(), line, "{text}");
    }
}

#[test]
fn each_bad_field_is_named() {
    type Break = fn(&mut wire::Change);
    let cases: [(&str, &str, Break); 9] = [
        (LINES[0], "service.protocol", |c| {
            c.mut_add_service().id.as_mut().unwrap().protocol = 1;
        }),
        (LINES[0], "service.address", |c| {
            c.mut_add_service().id.as_mut().unwrap().address.pop();
        }),
        (LINES[0], "service.port", |c| {
            c.mut_add_service().id.as_mut().unwrap().port = 65536;
        }),
        (LINES[0], "persistence", |c| {
            c.mut_add_service().persistence = 2_678_401;
        }),
        (LINES[0], "service", |c| {
            c.mut_add_service().one_packet = true;
        }),
        (LINES[1], "netmask", |c| c.mut_add_service().netmask = 129),
        (LINES[5], "weight", |c| {
            c.mut_add_server().server.as_mut().unwrap().weight = 1 << 31;
        }),
        (LINES[5], "forward", |c| {
            c.mut_add_server().server.as_mut().unwrap().forward = 4;
        }),
        (LINES[5], "server", |c| {
            c.mut_add_server().server.as_mut().unwrap().lower = 101;
        }),
    ];
    for (line, field, break_it) in cases {
        let mut wire = wire::Change::from(&change(line));
        break_it(&mut wire);
        let error = Change::try_from(&wire).unwrap_err();
        assert_eq!(error.field(), field, "{line}: {error}");
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
        if let Ok(rule) = wire::Rule::parse_from_bytes(&bytes) {
            let _ = Line::try_from(&rule);
        }
        if let Ok(item) = wire::TableItem::parse_from_bytes(&bytes) {
            let _ = table_item(&item);
        }
        if let Ok(chunk) = wire::ConnectionsChunk::parse_from_bytes(&bytes) {
            let _ = connections(&chunk);
        }
    }
}
