//! Random filters, each used by patchbay and by conntrack in the guest: they list and delete the same
//! flows, or both refuse the words. docs/ipvs.md has the differences, which this test avoids.

use std::collections::BTreeSet;

use fastrand::Rng;
use patchbay_tests::{Cases, Guest, Machine, seeded_rng, seeds};

/// Filters of one run.
const LISTS: Cases = Cases {
    sample: 60,
    full: 300,
};
const DELETIONS: Cases = Cases {
    sample: 8,
    full: 50,
};

/// The flows, as arguments of `conntrack -I`.
const FIXTURE: &str = "\
-p icmp -s 10.0.0.9 -d 10.0.0.1 --icmp-type 8 --icmp-code 0 --icmp-id 7 -t 600 -u SEEN_REPLY
-p icmp -s 10.0.0.9 -d 10.0.0.2 --icmp-type 13 --icmp-code 0 --icmp-id 8 -t 600 -u SEEN_REPLY
-p icmpv6 -s 2001:db8::9 -d 2001:db8::1 --icmpv6-type 128 --icmpv6-code 0 --icmpv6-id 7 -t 600 -u SEEN_REPLY
-p icmpv6 -s 2001:db8::9 -d 2001:db8::2 --icmpv6-type 128 --icmpv6-code 0 --icmpv6-id 9 -t 600 -u SEEN_REPLY
-p gre -s 10.0.0.9 -d 10.0.0.1 --srckey 1 --dstkey 2 -t 600 -u SEEN_REPLY
-p sctp -s 10.0.0.9 -d 10.0.0.1 --sport 1 --dport 2 --state ESTABLISHED --orig-vtag 1 --reply-vtag 2 -t 600 -u SEEN_REPLY,ASSURED
-p sctp -s 10.0.0.9 -d 10.0.0.1 --sport 3 --dport 2 --state COOKIE_WAIT --orig-vtag 1 --reply-vtag 2 -t 600 -u SEEN_REPLY
-p udplite -s 10.0.0.9 -d 10.0.0.1 --sport 1 --dport 2 -t 600 -u SEEN_REPLY
-p udp -s 10.0.0.9 -d 10.0.0.1 --sport 1 --dport 2 -w 5 -t 600 -u SEEN_REPLY
-p udp -s 10.0.0.9 -d 10.0.0.1 --sport 1 --dport 3 --orig-zone 6 -t 600 -u SEEN_REPLY
-p udp -s 10.0.0.9 -d 10.0.0.1 --sport 1 --dport 4 --reply-zone 7 -t 600 -u SEEN_REPLY
-p udp -s 10.0.0.9 -d 10.0.0.1 --sport 1 --dport 5 -u SEEN_REPLY -t 600 -m 5
-p udp -s 10.1.2.9 -d 10.1.3.1 --sport 10 --dport 5 -t 600 -u SEEN_REPLY,ASSURED
-p udp -s 2001:db8:1::9 -d 2001:db8:2::1 --sport 10 --dport 5 -t 600 -u SEEN_REPLY,ASSURED
-p tcp -s 10.0.0.9 -d 10.0.0.1 --sport 1000 --dport 80 --state ESTABLISHED -t 600 -u SEEN_REPLY,ASSURED
-p tcp -s 10.0.0.9 -d 10.0.0.1 --sport 1001 --dport 80 --state TIME_WAIT -t 600 -u SEEN_REPLY,ASSURED
-p tcp -s 2001:db8::9 -d 2001:db8::1 --sport 1000 --dport 80 --state ESTABLISHED -t 600 -u SEEN_REPLY
-p tcp -s 2001:db8::9 -d 2001:db8::1 --sport 1001 --dport 443 --state CLOSE_WAIT -t 600 -u SEEN_REPLY -m 21
-p 50 -s 10.0.0.9 -d 10.0.0.1 -t 600 -u SEEN_REPLY
";

/// Words of a filter. The first of each line are the most useful ones.
#[rustfmt::skip]
const WORDS: &[&str] = &[
    "-s 10.0.0.9", "--src 10.0.0.9", "--orig-sr 10.0.0.9", "-s 10.0.0.0/8", "-s 10.0.0.9/32",
    "-d 10.0.0.1", "--ds 10.0.0.1", "--orig-d 10.0.0.2", "-d 10.0.0.0/24", "-d 10.0.0.2",
    "-s 2001:db8::/32", "-d 2001:db8::1", "-d 2001:db8::9/0", "--orig-dst 2001:db8::2",
    "--mask-src 255.0.0.0", "--mask-dst 255.255.0.0", "--mask-dst 255.0.255.0",
    "--mask-d 255.255.255.255", "--mask-src ffff:ff00::", "--mask-dst ffff:ffff::ffff",
    "-r 10.0.0.1", "--reply-s 10.0.0.2", "-q 10.0.0.9", "--reply-dst 2001:db8::9",
    "-f ipv4", "-f ipv6", "--fam ipv4",
    "-p tcp", "-p udp", "-p icmp", "-p icmpv6", "-p sctp", "-p gre", "-p UDPLITE", "-p 0x11",
    "-p 017", "-p 50", "--proto tcp",
    "--sport 1000", "--sp 1", "--dport 80", "--orig-port-d 80", "--dp 5", "--reply-port-src 80",
    "--reply-port-d 1",
    "--state ESTABLISHED", "--state COOKIE_WAIT", "--state NONE",
    "--icmp-type 8", "--icmp-t 13", "--icmp-code 0", "--icmp-id 8", "--icmpv6-type 128",
    "--icmpv6-id 9",
    "-m 5", "--mark 0x15", "-m 025", "-m 1/1", "-m 0/0xf0",
    "-w 5", "--zone 0x5", "-w 0", "--orig-zone 6", "--orig-z 0", "--reply-zone 7",
    "-n", "--dst-nat", "--s 1", "--de 1", "--orig 1", "--state", "-x",
];

/// Words about statuses, of which conntrack takes a single one correctly. By those after the first
/// two it deletes everything.
const STATUSES: &[&str] = &[
    "-u ASSURED",
    "--status assured",
    "-u !ASSURED",
    "-u UNREPLIED",
    "-u SEEN_REPLY",
    "--statu !seen_reply",
];

/// Returns a random filter with at most one of these statuses. With `-m` conntrack compares the mark
/// with the status.
fn filter(rng: &mut Rng, statuses: &[&'static str]) -> String {
    let mut words: Vec<&str> = Vec::new();
    for _ in 0..=rng.usize(..4) {
        let word = rng.choice(WORDS).unwrap();
        let is_protocol = |word: &str| word.starts_with("-p") || word.starts_with("--pr");
        // conntrack mixes the words of two protocols.
        if !is_protocol(word) || !words.iter().any(|word| is_protocol(word)) {
            words.push(word);
        }
    }
    let marks = words
        .iter()
        .any(|word| word.starts_with("-m") || word.starts_with("--mark"));
    if !marks && rng.u8(..4) == 0 {
        words.push(rng.choice(statuses).unwrap());
    }
    words.join(" ")
}

/// Ids that a list has, `None` if the words were refused.
type Listed = Option<BTreeSet<u64>>;

fn run_patchbay(guest: &Guest, filter: &str) -> Listed {
    let words = filter.split(' ').collect::<Vec<_>>();
    let done = guest.patchbay(&[&["conntrack", "list", guest.id()], &words[..]].concat());
    if done.status == 2 {
        return None;
    }
    let rows = done.json();
    let rows = rows.as_array().unwrap().iter();
    Some(rows.map(|row| row["id"].as_u64().unwrap()).collect())
}

fn run_conntrack(guest: &Guest, filters: &[String]) -> Vec<Listed> {
    let line = |filter: &String| {
        format!(
            "conntrack -L -o id {filter} >/tmp/out 2>/dev/null; status=$?; \
             sed 's/.* id=//' /tmp/out; echo \"== $status\""
        )
    };
    let script: Vec<_> = filters.iter().map(line).collect();
    guest.write_file("/tmp/filters", &script.join("\n"));
    let mut listed = vec![];
    let mut ids = BTreeSet::new();
    for row in guest.shell("sh /tmp/filters").ok().lines() {
        match row.strip_prefix("== ") {
            Some("0") => listed.push(Some(std::mem::take(&mut ids))),
            Some(_) => listed.push(None),
            None => drop(ids.insert(row.parse().unwrap())),
        }
    }
    listed
}

/// Lists all flows without their timeouts.
const LEFT: &str = "for f in ipv4 ipv6; do conntrack -L -f $f 2>/dev/null; done | \
                    awk '{ $3 = \"\"; print }' | sort";

fn deletions_match(guest: &Guest, rng: &mut Rng) {
    for _ in 0..DELETIONS.count() {
        let filter = filter(rng, &STATUSES[..2]);
        guest.shell("sh /tmp/fill").ok();
        let ours = guest.cleanup(&filter);
        let left = guest.shell(LEFT).ok();
        let script =
            format!("sh /tmp/fill; conntrack -D {filter} >/dev/null 2>&1; echo $?; {LEFT}");
        let judged = guest.shell(&script).ok();
        let (status, expected) = judged.split_once('\n').unwrap();
        assert_eq!(ours.status == 2, status == "2", "{filter}: {ours}");
        assert_eq!(left, expected, "{filter}: {ours}");
    }
}

#[test]
fn random_filters_match_conntrack() {
    let guest = Guest::start(Machine::Q35);
    // Loads the modules of conntrack, which the guest can't load on demand.
    guest.cleanup("-d 10.0.0.1").ok();
    let create = |flow| format!("conntrack -I {flow} >/dev/null || exit 1");
    let fill: Vec<_> = FIXTURE.lines().map(create).collect();
    guest.write_file("/tmp/fill", &format!("conntrack -F\n{}", fill.join("\n")));
    guest.shell("sh /tmp/fill").ok();
    let mut rng = seeded_rng(seeds(1)[0]);
    let lists = LISTS.count();
    let filters: Vec<_> = (0..lists).map(|_| filter(&mut rng, STATUSES)).collect();
    let judged = run_conntrack(&guest, &filters);
    assert_eq!(judged.len(), filters.len());
    let accepted = judged.iter().flatten().count();
    assert!(accepted > lists / 6, "{accepted}");
    for (filter, expected) in filters.iter().zip(judged) {
        assert_eq!(run_patchbay(&guest, filter), expected, "{filter}");
    }
    deletions_match(&guest, &mut rng);
}
