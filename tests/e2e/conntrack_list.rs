//! `conntrack list` and its NAT filters, compared with the conntrack tool, which also creates the flows.

use std::collections::BTreeMap;

use patchbay_tests::{Guest, Machine};
use serde_json::{Value, json};

#[test]
fn flows_and_nat_filters_match_conntrack() {
    let guest = Guest::start(Machine::Q35);
    // Loads the modules of conntrack, which the guest can't load on demand.
    guest.cleanup("-d 10.0.0.1").ok();
    list_matches_conntrack(&guest);
    guest.exec("conntrack -F");
    list_of_many_flows_is_complete(&guest);
    guest.exec("conntrack -F");
    nat_filters_match_conntrack(&guest);
}

fn create_flow(guest: &Guest, words: &str) {
    guest.exec(&format!("conntrack -I {words}")).ok();
}

/// Converts a line of `conntrack -L -o id` to patchbay's JSON, without the timeout, which runs.
fn parse_conntrack_line(line: &str) -> Value {
    let mut words = line.split_whitespace().skip(3).peekable();
    let mut row = serde_json::Map::new();
    let state = words.next_if(|word| !word.contains('='));
    let mut status = Vec::new();
    for word in words {
        let Some((key, value)) = word.split_once('=') else {
            status.push(word.trim_matches(['[', ']']).to_owned());
            continue;
        };
        // Keys of GRE are hexadecimal.
        let hexadecimal = value
            .strip_prefix("0x")
            .map(|hex| u32::from_str_radix(hex, 16));
        let value = match hexadecimal.unwrap_or_else(|| value.parse()) {
            Ok(number) if ["src", "dst"].contains(&key) => json!(number.to_string()),
            Ok(number) => json!(number),
            Err(_) => json!(value),
        };
        let has = |key: &str| row.contains_key(key);
        let key = match key {
            "src" if has("src") => "replySrc",
            "dst" if has("dst") => "replyDst",
            "sport" if has("sport") => "replySport",
            "dport" if has("dport") => "replyDport",
            "srckey" if has("srcKey") => "replySrcKey",
            "srckey" => "srcKey",
            "dstkey" if has("dstKey") => "replyDstKey",
            "dstkey" => "dstKey",
            "zone-orig" => "origZone",
            "zone-reply" => "replyZone",
            // The reply has the type of the answer.
            "type" | "code" if has("icmpId") => continue,
            "type" => "icmpType",
            "code" => "icmpCode",
            "id" if has("icmpType") && !has("icmpId") => "icmpId",
            // The last one is that of the flow.
            key => key,
        };
        row.insert(key.to_owned(), value);
    }
    row.remove("use");
    row.insert(
        "assured".to_owned(),
        json!(status.contains(&"ASSURED".to_owned())),
    );
    row.insert("protocol".to_owned(), json!(line.split(' ').next()));
    row.extend(state.map(|state| ("state".to_owned(), json!(state))));
    row.entry("zone").or_insert(json!(0));
    Value::Object(row)
}

/// Lists the flows of both families by conntrack, keyed by ID.
fn conntrack_flows(guest: &Guest, words: &str) -> BTreeMap<u64, Value> {
    let both = ["-f ipv4", "-f ipv6"];
    let families = if words.contains("-f ") {
        &[""]
    } else {
        &both[..]
    };
    let listed = families.iter().flat_map(|family| {
        let shown = guest
            .exec(&format!("conntrack -L -o id {family} {words}"))
            .out;
        let rows: Vec<Value> = shown.lines().map(parse_conntrack_line).collect();
        rows
    });
    listed
        .map(|row| (row["id"].as_u64().unwrap(), row))
        .collect()
}

/// Lists the flows by patchbay, keyed by ID.
fn patchbay_flows(guest: &Guest, words: &str) -> BTreeMap<u64, Value> {
    let words: Vec<&str> = words.split_whitespace().collect();
    let line = [&["conntrack", "list", guest.id()], words.as_slice()].concat();
    let rows = guest.patchbay(&line).json();
    let rows = rows.as_array().unwrap().iter().map(|row| {
        let mut row = row.clone();
        let fields = row.as_object_mut().unwrap();
        assert!(fields.remove("timeout").unwrap().as_u64().unwrap() <= 600);
        let status = fields.remove("status").unwrap();
        let assured = status.as_array().unwrap().contains(&json!("ASSURED"));
        fields.insert("assured".to_owned(), json!(assured));
        (row["id"].as_u64().unwrap(), row)
    });
    rows.collect()
}

fn list_matches_conntrack(guest: &Guest) {
    assert_eq!(patchbay_flows(guest, ""), BTreeMap::new());
    for flow in [
        "-p tcp -s 10.0.0.9 -d 10.0.0.1 --sport 1000 --dport 80 --state ESTABLISHED -u SEEN_REPLY,ASSURED -t 600",
        "-p tcp -s 10.0.0.9 -d 10.0.0.2 --sport 1001 --dport 80 --state TIME_WAIT -u SEEN_REPLY -t 600 -m 255",
        "-p udp -s 10.0.0.9 -d 10.0.0.1 --sport 1002 --dport 53 -u SEEN_REPLY,ASSURED -t 600 -w 7",
        "-p udp -s 2001:db8::9 -d 2001:db8::1 --sport 1003 --dport 53 -u SEEN_REPLY -t 600",
        "-p tcp -s 2001:db8::9 -d 2001:db8::1 --sport 1004 --dport 80 --state CLOSE_WAIT -u SEEN_REPLY,ASSURED -t 600 -m 4294967295",
        "-p gre -s 10.0.0.9 -d 10.0.0.1 --srckey 1 --dstkey 2 -u SEEN_REPLY -t 600",
        "-p icmp -s 10.0.0.9 -d 10.0.0.1 --icmp-type 8 --icmp-code 0 --icmp-id 77 -u SEEN_REPLY -t 600",
        "-p icmpv6 -s 2001:db8::9 -d 2001:db8::1 --icmpv6-type 128 --icmpv6-code 0 --icmpv6-id 78 -u SEEN_REPLY -t 600",
        "-p sctp -s 10.0.0.9 -d 10.0.0.1 --sport 1 --dport 2 --state COOKIE_WAIT --orig-vtag 1 --reply-vtag 2 -u SEEN_REPLY -t 600",
        "-p udp -s 10.0.0.9 -d 10.0.0.1 --sport 1005 --dport 53 -u SEEN_REPLY -t 600 --orig-zone 8",
        "-p udp -s 10.0.0.9 -d 10.0.0.1 --sport 1006 --dport 53 -u SEEN_REPLY -t 600 --reply-zone 9",
    ] {
        create_flow(guest, flow);
    }
    let all = conntrack_flows(guest, "");
    assert_eq!(all.len(), 11, "{all:?}");
    for words in [
        "",
        "-p tcp",
        "-p tcp --state TIME_WAIT",
        "-d 10.0.0.1",
        "-d 10.0.0.1 -p tcp --dport 80",
        "-s 10.0.0.0/24",
        "-d 2001:db8::1",
        "-m 255",
        "-w 7",
        "-d 10.9.9.9",
    ] {
        assert_eq!(
            patchbay_flows(guest, words),
            conntrack_flows(guest, words),
            "{words}"
        );
    }
    let id = all.keys().next().unwrap();
    assert_eq!(
        patchbay_flows(guest, &format!("--id {id}"))
            .keys()
            .collect::<Vec<_>>(),
        [id]
    );
    let wrong = guest.patchbay(&["conntrack", "list", guest.id(), "--dport", "80"]);
    assert_eq!((wrong.status, wrong.out.as_str()), (2, ""), "{wrong}");
    assert!(wrong.err.contains("--dport must follow"), "{wrong}");
}

fn list_of_many_flows_is_complete(guest: &Guest) {
    let count = 5000;
    let script = format!(
        "sysctl -w net.netfilter.nf_conntrack_max=10000 >/dev/null; for i in $(seq 1 {count}); do echo -I -p udp -s 10.0.0.9 -d 10.1.0.1 --sport $i --dport 53 \
         -t 600 -u SEEN_REPLY; done > /tmp/flows; conntrack -R /tmp/flows >/dev/null"
    );
    guest
        .sandbox(&["exec", guest.id(), "--", "sh", "-c", &script])
        .ok();
    let ports: std::collections::BTreeSet<u64> = patchbay_flows(guest, "")
        .values()
        .map(|row| row["sport"].as_u64().unwrap())
        .collect();
    assert!(ports.into_iter().eq(1..=count));
    assert_eq!(patchbay_flows(guest, "-p udp --sport 77").len(), 1);
}

const TRANSLATED: [&str; 5] = [
    "--dst-nat 10.9.0.2:8080 --sport 1",
    "--dst-nat 10.9.0.2 --sport 2",
    "--src-nat 10.9.0.3 --sport 3",
    "--src-nat 10.9.0.3:99 --sport 5",
    "--sport 4",
];

const NAT_WORDS: &[&str] = &[
    "--dst-nat",
    "--src-nat",
    "--any-nat",
    "--dst-nat 10.9.0.2",
    "--dst-nat 10.9.0.2:8080",
    "--dst-nat 10.9.0.2:81",
    "--src-nat 10.9.0.3",
    "--src-nat 10.9.0.3:99",
    "--src-nat 10.9.0.2",
    "--any-nat 10.9.0.3",
    "--any-nat 10.9.0.2",
    "--any-nat 10.9.0.2:8080",
];

fn nat_filters_match_conntrack(guest: &Guest) {
    guest
        .sandbox(&[
            "exec",
            guest.id(),
            "--",
            "sh",
            "-c",
            "insmod $(find /lib/modules -name nf_nat.ko)",
        ])
        .ok();
    for words in NAT_WORDS {
        let fill = || {
            for nat in TRANSLATED {
                let flow = "-p tcp -s 10.0.0.9 -d 10.0.0.1 --dport 80 --state ESTABLISHED";
                create_flow(guest, &format!("{flow} -t 600 -u SEEN_REPLY,ASSURED {nat}"));
            }
        };
        let left = || {
            let left = conntrack_flows(guest, "-f ipv4");
            let ports: Vec<Value> = left.values().map(|row| row["sport"].clone()).collect();
            guest.exec("conntrack -F");
            let mut ports: Vec<u64> = ports.iter().map(|port| port.as_u64().unwrap()).collect();
            ports.sort_unstable();
            ports
        };
        fill();
        let meant = conntrack_flows(guest, &format!("-f ipv4 {words}"));
        assert_eq!(patchbay_flows(guest, words), meant, "{words}");
        guest.cleanup(words).ok();
        let ours = left();
        // conntrack lists by --any-nat, and refuses to delete by it.
        let theirs = if words.starts_with("--any-nat") {
            let meant = |port: &u64| meant.values().any(|row| row["sport"] == *port);
            (1..=5).filter(|port| !meant(port)).collect()
        } else {
            fill();
            guest.exec(&format!("conntrack -D {words}"));
            left()
        };
        assert_eq!(ours, theirs, "{words}");
    }

    // An extension of patchbay: conntrack requires an address.
    create_flow(
        guest,
        "-p tcp -s 10.0.0.9 -d 10.0.0.1 --dport 80 --state ESTABLISHED -t 600 \
         -u SEEN_REPLY,ASSURED --dst-nat 10.9.0.2:8080 --sport 1",
    );
    let refused = guest.exec("conntrack -L --dst-nat :8080");
    assert_ne!(refused.status, 0, "{refused}");
    assert_eq!(patchbay_flows(guest, "--dst-nat :8080").len(), 1);
    assert_eq!(patchbay_flows(guest, "--dst-nat :80").len(), 0);
}
