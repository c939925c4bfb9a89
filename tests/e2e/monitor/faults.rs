//! Every command of plugging and of its undoing, with everything that may become of its answer.

use std::io::Write;
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use patchbay_tests::{Done, QmpReply, empty_machine, qmp_error};
use patchbay_types::failure::Kind;
use serde_json::{Value, json};

use super::Bench;

/// The commands of plugging; the agent refuses the card, and the others follow.
const DOING: [&str; 6] = [
    "qmp_capabilities",
    "qom-get",
    "qom-list",
    "getfd",
    "netdev_add",
    "device_add",
];
const UNDOING: [&str; 4] = ["device_del", "netdev_del", "chardev-remove", "closefd"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Refused,
    Late,
    Never,
    OldAnswersFirst,
    EventsFirst,
    Noise,
    HalfALine,
    SixtyFourMegabytes,
    Closed,
}

impl Fault {
    const ALL: [Fault; 9] = [
        Fault::Refused,
        Fault::Late,
        Fault::Never,
        Fault::OldAnswersFirst,
        Fault::EventsFirst,
        Fault::Noise,
        Fault::HalfALine,
        Fault::SixtyFourMegabytes,
        Fault::Closed,
    ];

    fn say(self, request: &Value) -> QmpReply {
        let answer = empty_machine(request);
        match self {
            Self::Refused => QmpReply::Reply(qmp_error("GenericError")),
            Self::Late => QmpReply::Late(Duration::from_secs(2), answer),
            Self::Never => QmpReply::Nothing,
            Self::OldAnswersFirst => {
                let old = json!({"return": "old", "id": 4711}).to_string() + "\n";
                QmpReply::BytesFirst(old.repeat(3).into(), answer)
            }
            Self::EventsFirst => {
                let event = json!({"event": "RTC_CHANGE", "data": {"offset": 1}}).to_string();
                QmpReply::BytesFirst((event + "\n").repeat(3000).into(), answer)
            }
            Self::Noise => QmpReply::Last(b"\x1b[2J\x07 no JSON\n".to_vec()),
            Self::HalfALine => QmpReply::Last(b"{\"return\": {\"".to_vec()),
            Self::SixtyFourMegabytes => QmpReply::Last(vec![b'x'; 64 << 20]),
            Self::Closed => QmpReply::Last(Vec::new()),
        }
    }

    /// How plugging ends when this becomes of the command, and one of the words that tell why.
    fn end(self, command: &str) -> (Kind, &'static str) {
        let (kind, why) = match self {
            // QEMU's older versions lack some properties.
            Self::Refused if command == "qom-get" => return (Kind::Kernel, "the agent says no"),
            Self::Refused => (Kind::Kernel, "as the script says"),
            Self::Late | Self::OldAnswersFirst | Self::EventsFirst => {
                return (Kind::Kernel, "the agent says no");
            }
            Self::Never => (Kind::Timeout, "within 10 s"),
            Self::Noise | Self::SixtyFourMegabytes => (Kind::Other, "malformed QMP message"),
            Self::HalfALine | Self::Closed => (Kind::Other, "QEMU closed the monitor"),
        };
        match (self, command) {
            // The same words as for a card that is being unplugged: it is looked for, and gone.
            (Self::Refused, "device_del") => (Kind::Kernel, "the agent says no"),
            // What began the undoing is told first.
            _ if UNDOING.contains(&command) => (Kind::Kernel, why),
            _ => (kind, why),
        }
    }
}

fn judge(done: &Done, command: &str, fault: Fault, taken: Duration) {
    let (kind, why) = fault.end(command);
    let case = format!("{fault:?} {command}: {done}");
    assert_eq!(done.status, i32::from(kind.exit_code()), "{case}");
    assert_eq!(done.out, "null\n", "{case}");
    assert!(done.err.contains(why), "{case}");
    let begun = UNDOING.contains(&command) && why != "the agent says no";
    let later = done
        .err
        .contains("cleanup is incomplete and will be retried by the next command");
    assert!(later || !begun, "{case}");
    assert!(!done.err.trim_end().contains(char::is_control), "{case}");
    assert!(taken < Duration::from_secs(15), "{case}: {taken:?}");
}

/// Plugs with this fault of this command, once; the next command finds nothing wrong.
fn meet(command: &'static str, fault: Fault) {
    let met = AtomicBool::new(false);
    let bench = Bench::saying(move |request| {
        if request["execute"] == command && !met.swap(true, Ordering::Relaxed) {
            return fault.say(request);
        }
        QmpReply::Reply(empty_machine(request))
    });
    let begun = Instant::now();
    let done = bench.command("add-iface");
    judge(&done, command, fault, begun.elapsed());
    assert_eq!(bench.netns.links(), Vec::<String>::new());
    assert_eq!(bench.command("del-iface").ok(), "null\n");
    assert!(bench.journal().is_empty(), "{fault:?} {command}");
}

#[test]
fn qmp_faults_leave_nothing() {
    let commands = DOING.into_iter().chain(UNDOING);
    let cases: Vec<_> = commands
        .flat_map(|command| Fault::ALL.map(|fault| (command, fault)))
        .collect();
    // Those that wait go together.
    let (waiting, others): (Vec<_>, Vec<_>) = cases
        .iter()
        .partition(|(_, fault)| matches!(fault, Fault::Never | Fault::Late));
    for some in [waiting.as_slice()].into_iter().chain(others.chunks(6)) {
        thread::scope(|scope| {
            for (command, fault) in some {
                scope.spawn(|| meet(command, *fault));
            }
        });
    }
    eprintln!("{} faults were met", cases.len());
}

/// A monitor that says these bytes without end, or once and then nothing.
fn greeted_by(bytes: &'static [u8], often: usize) -> (Done, Duration) {
    let bench = Bench::saying(|request| QmpReply::Reply(empty_machine(request)));
    let path = bench.dir.path().join("qmp.sock");
    std::fs::remove_file(&path).unwrap();
    let listener = UnixListener::bind(&path).unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        for _ in 0..often {
            if stream.write_all(bytes).is_err() {
                return;
            }
        }
        // Held open, for longer than any command waits.
        thread::sleep(Duration::from_secs(600));
    });
    let begun = Instant::now();
    let done = bench.command("add-iface");
    assert_eq!(bench.netns.links(), Vec::<String>::new());
    assert!(bench.journal().is_empty());
    (done, begun.elapsed())
}

#[test]
fn bad_qmp_greeting_fails_in_time() {
    let silent = "gave no greeting in 5 s";
    let event = b"{\"event\":\"RTC_CHANGE\"}\n";
    let cases: [(&'static [u8], usize, Kind, &str); 6] = [
        (b"", 1, Kind::Timeout, silent),
        (event, 1, Kind::Timeout, silent),
        (event, usize::MAX, Kind::Timeout, silent),
        (b"{\"QMP\":", 1, Kind::Timeout, silent),
        (b"\x1b[2J\n", 1, Kind::Other, "malformed QMP message"),
        (
            &[b'x'; 1 << 10],
            1 << 16,
            Kind::Other,
            "a line is longer than 4 MiB",
        ),
    ];
    thread::scope(|scope| {
        for (bytes, often, kind, why) in cases {
            scope.spawn(move || {
                let (done, taken) = greeted_by(bytes, often);
                assert_eq!(done.status, i32::from(kind.exit_code()), "{done}");
                assert!(done.err.contains(why), "{done}");
                assert!(taken < Duration::from_secs(7), "{taken:?}");
            });
        }
    });
}
