use proptest::prelude::*;

use super::*;
use patchbay_grammar::ipvsadm::{Grammar, read_rules};
use patchbay_types::ipvs::{Change, ListedServer, ListedService, RuleLine, ServiceId, Stats};

/// The change that a line of ipvsadm's words asks for.
fn change(line: &str) -> Change {
    read_rules(&Grammar::NUMERIC, line)
        .unwrap()
        .remove(0)
        .change
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
fn change_round_trips() {
    let mut file = Vec::new();
    let lines: Vec<RuleLine> = (1..)
        .zip(LINES)
        .map(|(number, text)| RuleLine {
            number,
            change: change(text),
        })
        .collect();
    for line in &lines {
        line.pack(&mut file);
    }
    let mut reader = Reader::new(&file);
    for line in lines {
        assert_eq!(RuleLine::unpack(&mut reader).unwrap(), line);
    }
    assert!(reader.is_empty());
}

/// The layout is what a peer of another build reads, so it is written down here.
#[test]
fn server_bytes_are_stable() {
    let bytes = pack(&change("-a -t 10.0.0.1:80 -r 10.0.0.2:8080 -m -w 300"));
    let expected = [
        5, 6, 4, 10, 0, 0, 1, 0, 80, 4, 10, 0, 0, 2, 31, 144, 0, 0xac, 2, 0, 0,
    ];
    assert_eq!(bytes, expected);
}

#[test]
fn layout_is_1_only_for_what_old_agents_misread() {
    for (line, in_change, in_file) in [
        (LINES[5], 0, 0),
        (LINES[9], 0, 0),
        ("-a -t 10.0.0.1:80 -r 10.0.0.2:80 -g --keep-port", 0, 0),
        ("-a -t 10.0.0.1:80 -r 10.0.0.2:8080 -g --keep-port", 1, 1),
        ("-e -t 10.0.0.1:80 -r 10.0.0.2:8080 -i --keep-port", 1, 1),
        ("-a -f 1 -r 10.0.0.2:8080 -g", 0, 0),
        (LINES[14], 0, 1),
        (LINES[16], 0, 1),
    ] {
        let change = change(line);
        assert_eq!(change.layout(), in_change, "{line}");
        let line = RuleLine { number: 1, change };
        assert_eq!(line.layout(), in_file, "{line:?}");
    }
}

#[test]
fn unpack_cut_or_surplus_bytes_is_refused() {
    for text in LINES {
        let bytes = pack(&change(text));
        for end in 0..bytes.len() {
            let error = unpack::<Change>(&bytes[..end]).unwrap_err();
            assert!(
                error.to_string().contains("ends within it"),
                "{text}: {error}"
            );
        }
        let error = unpack::<Change>(&[&bytes[..], &[0]].concat()).unwrap_err();
        assert_eq!(error.field(), "value", "{text}");
    }
}

/// A changed byte gives an error, or a value that is packed to bytes of the same value.
#[test]
fn unpack_any_changed_byte_is_refused_or_consistent() {
    for text in LINES {
        let bytes = pack(&change(text));
        for at in 0..bytes.len() {
            for byte in 0..=u8::MAX {
                let mut bytes = bytes.clone();
                bytes[at] = byte;
                if let Ok(read) = unpack::<Change>(&bytes) {
                    assert_eq!(unpack::<Change>(&pack(&read)).unwrap(), read, "{text}");
                }
            }
        }
    }
}

#[test]
fn unpack_every_short_message_ends() {
    let length = if cfg!(miri) { 1 } else { 2 };
    for number in 0..1_u32 << (8 * length) {
        let bytes = &number.to_le_bytes()[..length];
        let mut reader = Reader::new(bytes);
        let mut read = 0;
        while !reader.is_empty() && RuleLine::unpack(&mut reader).is_ok() {
            read += 1;
        }
        let mut reader = Reader::new(bytes);
        while !reader.is_empty() && TableRow::unpack(&mut reader).is_ok() {
            read += 1;
        }
        // A row has two bytes or more.
        assert!(read <= length);
    }
}

#[test]
fn unpack_invalid_field_is_named() {
    // Which byte of the line is made what.
    for (line, at, byte, field) in [
        (LINES[0], 0, 13, "change"),
        (LINES[0], 1, 7, "service.protocol"),
        (LINES[0], 2, 5, "service.address"),
        (LINES[12], 2, 0, "service.mark"),
        (LINES[0], 10, b' ', "scheduler"),
        (LINES[0], 19, 1, "service"),
        (LINES[0], 19, 2, "scheduling"),
        (LINES[0], 20, 8, "flags"),
        (LINES[5], 16, 4, "forward"),
        (LINES[5], 21, 101, "server"),
        (LINES[15], 1, 3, "role"),
    ] {
        let mut bytes = pack(&change(line));
        bytes[at] = byte;
        let error = unpack::<Change>(&bytes).unwrap_err();
        assert_eq!(error.field(), field, "{line}: {error}");
    }
}

fn a_row() -> impl Strategy<Value = TableRow> {
    let stats = any::<([u64; 5], [u64; 5])>();
    let stats = stats.prop_map(|(counters, rates)| Stats { counters, rates });
    let server =
        (stats.clone(), any::<[u32; 3]>()).prop_map(|(stats, [active, inactive, persistent])| {
            let Change::AddServer(_, server) = change(LINES[6]) else {
                unreachable!()
            };
            TableRow::Server(ListedServer {
                server,
                active,
                inactive,
                persistent,
                stats,
            })
        });
    let service = stats.prop_map(|stats| {
        let Change::AddService(service) = change(LINES[1]) else {
            unreachable!()
        };
        TableRow::Service(ListedService {
            service,
            stats,
            servers: Vec::new(),
        })
    });
    prop_oneof![server, service]
}

proptest! {
    #[test]
    fn row_round_trips(rows in prop::collection::vec(a_row(), 0..9)) {
        let mut bytes = Vec::new();
        for row in &rows {
            match row {
                TableRow::Service(listed) => TableRowRef::Service(&listed.service, &listed.stats),
                TableRow::Server(listed) => TableRowRef::Server(listed),
            }
            .pack(&mut bytes);
        }
        let mut reader = Reader::new(&bytes);
        for row in rows {
            prop_assert_eq!(TableRow::unpack(&mut reader).unwrap(), row);
        }
        prop_assert!(reader.is_empty());
    }

    #[test]
    fn unpack_arbitrary_bytes_never_panics(bytes: Vec<u8>) {
        let _ = unpack::<ServiceId>(&bytes);
        let mut reader = Reader::new(&bytes);
        while !reader.is_empty() && RuleLine::unpack(&mut reader).is_ok() {}
        let mut reader = Reader::new(&bytes);
        while !reader.is_empty() && TableRow::unpack(&mut reader).is_ok() {}
    }
}
