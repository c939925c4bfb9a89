//! Every QMP command of plugging and undoing combined with every fault of its reply.

use std::io::Write;
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use patchbay_tests::{Done, QmpReply, empty_machine, qmp_error};
use patchbay_types::failure::Kind;
use serde_json::{Value, json};

use super::FakeMachine;

/// Commands of plugging, and of undoing after the agent refuses the card.
const DOING: [&str; 7] = [
    "qmp_capabilities",
    "query-status",
    "qom-get",
    "qom-list",
    "getfd",
    "netdev_add",
    "device_add",
];
/// Commands before anything is changed.
const FIRST: [&str; 2] = ["qmp_capabilities", "query-status"];
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

    fn react(self, request: &Value) -> QmpReply {
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

    /// Returns kind and message of the plug's error after this fault of this command.
    fn expected_error(self, command: &str) -> (Kind, &'static str) {
        let (kind, why) = match self {
            Self::Refused => (Kind::Kernel, "as the script says"),
            Self::Late | Self::OldAnswersFirst | Self::EventsFirst => {
                return (Kind::Kernel, "the agent says no");
            }
            Self::Never if FIRST.contains(&command) => (Kind::NotYet, "within 10 s"),
            Self::Never => (Kind::Timeout, "within 10 s"),
            Self::Noise | Self::SixtyFourMegabytes => (Kind::Other, "malformed QMP message"),
            Self::HalfALine | Self::Closed => (Kind::Other, "QEMU closed the monitor"),
        };
        match (self, command) {
            // The error is that of a card that is being unplugged: the device is absent already.
            (Self::Refused, "device_del") => (Kind::Kernel, "the agent says no"),
            // The cause of the undoing comes first.
            _ if UNDOING.contains(&command) => (Kind::Kernel, why),
            _ => (kind, why),
        }
    }
}

fn assert_fault_reported(done: &Done, command: &str, fault: Fault, taken: Duration) {
    let (kind, why) = fault.expected_error(command);
    let case = format!("{fault:?} {command}: {done}");
    assert_eq!(done.status, i32::from(kind.exit_code()), "{case}");
    assert_eq!(done.out, "null\n", "{case}");
    assert!(done.err.contains(why), "{case}");
    let undo_failed = UNDOING.contains(&command) && why != "the agent says no";
    let later = done
        .err
        .contains("cleanup is incomplete and will be retried by the next command");
    assert!(later || !undo_failed, "{case}");
    assert!(!done.err.trim_end().contains(char::is_control), "{case}");
    assert!(taken < Duration::from_secs(15), "{case}: {taken:?}");
}

/// Plugs with this fault of this command, once; asserts that the next command succeeds.
fn inject(command: &'static str, fault: Fault) {
    let met = AtomicBool::new(false);
    let machine = FakeMachine::serve(move |request| {
        if request["execute"] == command && !met.swap(true, Ordering::Relaxed) {
            return fault.react(request);
        }
        QmpReply::Reply(empty_machine(request))
    });
    let begun = Instant::now();
    let done = machine.command("add-iface");
    assert_fault_reported(&done, command, fault, begun.elapsed());
    assert_eq!(machine.netns.links(), Vec::<String>::new());
    assert_eq!(machine.command("del-iface").ok(), "null\n");
    assert!(machine.journal().is_empty(), "{fault:?} {command}");
}

#[test]
fn qmp_faults_leave_nothing() {
    let commands = DOING.into_iter().chain(UNDOING);
    let cases: Vec<_> = commands
        .flat_map(|command| Fault::ALL.map(|fault| (command, fault)))
        .collect();
    // The faults with a timeout run together.
    let (waiting, others): (Vec<_>, Vec<_>) = cases
        .iter()
        .partition(|(_, fault)| matches!(fault, Fault::Never | Fault::Late));
    for some in [waiting.as_slice()].into_iter().chain(others.chunks(6)) {
        thread::scope(|scope| {
            for (command, fault) in some {
                scope.spawn(|| inject(command, *fault));
            }
        });
    }
    eprintln!("{} faults injected", cases.len());
}

/// Plugs against a monitor that sends these bytes as its greeting, `often` times.
fn greeted_by(bytes: &'static [u8], often: usize) -> (Done, Duration) {
    let machine = FakeMachine::serve(|request| QmpReply::Reply(empty_machine(request)));
    let path = machine.dir.path().join("qmp.sock");
    std::fs::remove_file(&path).unwrap();
    let listener = UnixListener::bind(&path).unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        for _ in 0..often {
            if stream.write_all(bytes).is_err() {
                return;
            }
        }
        // Keeps the connection open for longer than any command waits.
        thread::sleep(Duration::from_secs(600));
    });
    let begun = Instant::now();
    let done = machine.command("add-iface");
    assert_eq!(machine.netns.links(), Vec::<String>::new());
    assert!(machine.journal().is_empty());
    (done, begun.elapsed())
}

#[test]
fn bad_qmp_greeting_fails_in_time() {
    let silent = "gave no greeting in 5 s";
    let event = b"{\"event\":\"RTC_CHANGE\"}\n";
    let cases: [(&'static [u8], usize, Kind, &str); 6] = [
        (b"", 1, Kind::NotYet, silent),
        (event, 1, Kind::NotYet, silent),
        (event, usize::MAX, Kind::NotYet, silent),
        (b"{\"QMP\":", 1, Kind::NotYet, silent),
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
