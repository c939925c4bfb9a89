//! Every recorded `conntrack -D`, run by patchbay. The conntrack tool creates the flows, lists the rest
//! and repeats the deletion for comparison.

use std::fmt::Write as _;

use patchbay_tests::{Guest, Machine};
use serde_json::Value;

/// Result of a filter where patchbay differs from conntrack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ours {
    /// An error; nothing is deleted.
    Refused,
    /// Success; nothing matches.
    Nothing,
}

/// Filters with another result than conntrack's, and the reason.
const DECIDED: &[(&str, Ours, &str)] = &[
    (
        "--timeout 5",
        Ours::Refused,
        "says nothing of a flow; conntrack ignores it and deletes everything",
    ),
    ("--timeout abc", Ours::Refused, "the same"),
    (
        "--protonum tcp --dport abc",
        Ours::Refused,
        "no port; conntrack reads port 0",
    ),
    (
        "--id 1",
        Ours::Nothing,
        "a filter; conntrack crashes on its own option",
    ),
    (
        "--status UNREPLIED",
        Ours::Nothing,
        "only what had no answer; conntrack deletes everything",
    ),
];

/// Returns the filter of a deletion, `None` for other commands.
fn filter(args: &str) -> Option<&str> {
    args.strip_prefix("-D ")
        .or_else(|| args.strip_prefix("--delete "))
        .or_else(|| args.strip_suffix(" -D"))
}

fn texts(value: &Value) -> Vec<String> {
    let items = value.as_array().unwrap().iter();
    items
        .map(|text| text.as_str().unwrap().to_owned())
        .collect()
}

/// Returns a file for `conntrack -R` with the fixture's flows, `src>dst/protocol:sport>dport` each.
fn load_file(fixture: &[String]) -> String {
    let mut file = String::new();
    for flow in fixture {
        let (addresses, rest) = flow.split_once('/').unwrap();
        let (src, dst) = addresses.split_once('>').unwrap();
        let (protocol, ports) = rest.split_once(':').unwrap();
        let (sport, dport) = ports.split_once('>').unwrap();
        let state = match protocol {
            "6" => "--state ESTABLISHED",
            "132" => "--state ESTABLISHED --orig-vtag 1 --reply-vtag 2",
            _ => "",
        };
        writeln!(
            file,
            "-I -p {protocol} -s {src} -d {dst} --sport {sport} --dport {dport} -t 300 \
             -u SEEN_REPLY,ASSURED {state}"
        )
        .unwrap();
    }
    file
}

/// Converts listed flows to the fixture's notation and order.
fn flows(listed: &str) -> Vec<String> {
    let lines = listed.lines().filter(|line| line.contains("src="));
    let flow = |line: &str| {
        let part = |name: &str| {
            let mut words = line.split_whitespace();
            words
                .find_map(|word| word.strip_prefix(name))
                .unwrap()
                .to_owned()
        };
        let protocol = line.split_whitespace().nth(1).unwrap();
        let [src, dst, sport, dport] = ["src=", "dst=", "sport=", "dport="].map(part);
        format!("{src}>{dst}/{protocol}:{sport}>{dport}")
    };
    let mut flows: Vec<_> = lines.map(flow).collect();
    flows.sort();
    flows
}

/// Runs a shell script in the guest.
fn shell(guest: &Guest, script: &str) -> String {
    guest
        .sandbox(&["exec", guest.id(), "--", "sh", "-c", script])
        .ok()
}

/// Restores the fixture.
const REFILL: &str = "conntrack -F && conntrack -R /tmp/fixture";
const LIST: &str = "conntrack -L -f ipv4 2>/dev/null; conntrack -L -f ipv6 2>/dev/null";

#[test]
fn cleanup_recorded_filters_match_conntrack() {
    let path = format!("{}/fixtures/conntrack.json", env!("CARGO_MANIFEST_DIR"));
    let file: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let fixture = texts(&file["fixture"]);
    let guest = Guest::start(Machine::Q35);
    // Loads the modules of conntrack, which the guest can't load on demand.
    guest.cleanup("-d 10.0.0.1").ok();
    let load = load_file(&fixture);
    shell(
        &guest,
        &format!("cat > /tmp/fixture <<'END'\n{load}END\n{REFILL} >/dev/null"),
    );
    assert_eq!(flows(&shell(&guest, LIST)), fixture);

    let (mut deletions, mut decided) = (0, 0);
    for vector in file["vectors"].as_array().unwrap() {
        let args = vector["args"].as_str().unwrap();
        let Some(words) = filter(args) else {
            continue;
        };
        deletions += 1;
        let done = guest.cleanup(words);
        // One round trip: list the rest, restore the fixture, delete by conntrack, list the rest.
        let script = format!(
            "{LIST}; echo ====; ({REFILL}; conntrack {args}) >/dev/null 2>&1; {LIST}; echo ====; \
             ({REFILL}) >/dev/null"
        );
        let shown = shell(&guest, &script);
        let (ours, theirs) = shown.split_once("====").unwrap();
        let (ours, theirs) = (flows(ours), flows(theirs));
        let place = format!("{args}: {done}");
        let ruled = DECIDED.iter().find(|(line, _, _)| *line == words);
        decided += usize::from(ruled.is_some());
        let refused = match ruled {
            Some((_, ours, _)) => *ours == Ours::Refused,
            None => vector["rc"] == 2,
        };
        if refused || ruled.is_some() {
            assert_eq!(done.status, if refused { 2 } else { 0 }, "{place}");
            assert_eq!(ours, fixture, "{place}");
            continue;
        }
        assert_eq!(theirs, texts(&vector["left"]), "{args}: the judge itself");
        assert_eq!(ours, theirs, "{place}");
        let gone = fixture.len() - theirs.len();
        let expected = format!("{gone} flow entries have been deleted.\n");
        assert_eq!((done.status, done.out), (0, expected), "{args}");
    }
    println!("{deletions} deletions, {decided} decided otherwise");
    assert_eq!((deletions, decided), (74, DECIDED.len()));
}
