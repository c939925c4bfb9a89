//! A command against an agent that was taken over, and how it must end.

use std::iter;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use patchbay_tests::raw_agent::{RawReply, RawRequest, serve_raw};
use patchbay_tests::{Done, FakeQmp, empty_machine, patchbay, run, temp_dir};
use patchbay_types::failure::Kind;
use patchbay_types::text::is_terminal_control;
use serde_json::{Value, json};

/// What a terminal obeys: its own sequences, and a line that looks like another program's.
pub(crate) const OBEYED: &str = "\x1b[2J\x1b]0;owned\x07\r\nroot# \u{9b}31m\u{202e}";

/// Most memory that any command may take.
pub(crate) const MEMORY: i64 = 320 << 20;

/// What the agent does with each request: `None` is an honest greeting, or silence.
pub(crate) type Liar = fn(&RawRequest) -> Option<RawReply>;

/// A command against such an agent, and how it must end.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) words: &'static [&'static str],
    pub(crate) input: String,
    pub(crate) liar: Liar,
    pub(crate) kind: Result<(), Kind>,
    pub(crate) says: &'static str,
    pub(crate) within: Duration,
}

pub(crate) const LIST: &[&str] = &["kata-network", "list-ifaces", "x"];
pub(crate) const ROUTES: &[&str] = &["kata-network", "list-routes", "x"];
pub(crate) const TABLE: &[&str] = &["kata-ipvs", "ipvsadm", "--parameters", "-S -n", "x"];
pub(crate) const CONNECTIONS: &[&str] = &["kata-ipvs", "ipvsadm", "--parameters", "-L -n -c", "x"];
pub(crate) const FLOWS: &[&str] = &["conntrack", "list", "x"];

impl Case {
    pub(crate) fn refused(
        name: &'static str,
        words: &'static [&'static str],
        liar: Liar,
        kind: Kind,
        says: &'static str,
    ) -> Self {
        Self {
            name,
            words,
            input: String::new(),
            liar,
            kind: Err(kind),
            says,
            within: Duration::from_secs(14),
        }
    }

    pub(crate) fn run(&self) {
        let dir = temp_dir();
        let socket = dir.path().join("agent.sock");
        serve_raw(&socket, self.liar);
        let qmp = dir.path().join("qmp.sock");
        let _monitor = FakeQmp::serve(&qmp, |request| Some(machine(request)));
        let agent = format!("unix://{}", socket.display());
        let mut command = patchbay(dir.path(), &["--agent", &agent, "--qmp"]);
        let begun = Instant::now();
        let done = run(command.arg(&qmp).args(self.words), &self.input);
        let taken = begun.elapsed();
        eprintln!("{}: {taken:?}, {}", self.name, done.err.trim_end());
        self.judge(&done, taken);
    }

    fn judge(&self, done: &Done, taken: Duration) {
        let name = self.name;
        let status = self
            .kind
            .map_or_else(|kind| i32::from(kind.exit_code()), |()| 0);
        assert_eq!(done.status, status, "{name}: {}", done.err);
        assert!(taken < self.within, "{name}: {taken:?}");
        let said = if self.kind.is_ok() {
            &done.out
        } else {
            &done.err
        };
        assert!(said.contains(self.says), "{name}: {said}");
        assert!(said.chars().count() < 5000, "{name}: {}", said.len());
        for text in [&done.out, &done.err] {
            let obeyed = text.chars().find(|c| is_terminal_control(*c) && *c != '\n');
            assert_eq!(obeyed, None, "{name}: {text:?}");
        }
        assert_eq!(
            done.err.lines().count(),
            usize::from(self.kind.is_err()),
            "{name}: {}",
            done.err
        );
    }
}

/// Runs them all, some at a time; says what the largest of the commands took.
pub(crate) fn all(cases: &[Case]) {
    for some in cases.chunks(4) {
        thread::scope(|scope| {
            for case in some {
                scope.spawn(|| case.run());
            }
        });
    }
    let largest = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap().max_rss() * 1024;
    eprintln!("largest: {} MiB", largest >> 20);
    assert!(largest < MEMORY, "{largest}");
}

pub(crate) fn once(bytes: Vec<u8>) -> RawReply {
    Box::new(iter::once(bytes))
}

/// These bytes, then nothing for longer than any command waits.
pub(crate) fn then_silence(bytes: Vec<u8>) -> RawReply {
    let silence = iter::from_fn(|| {
        thread::sleep(Duration::from_secs(600));
        None
    });
    Box::new(iter::once(bytes).chain(silence))
}

/// These bytes, one in a tenth of a second.
pub(crate) fn dripping(bytes: Vec<u8>) -> RawReply {
    Box::new(bytes.into_iter().map(|byte| {
        thread::sleep(Duration::from_millis(100));
        vec![byte]
    }))
}

pub(crate) fn endless(bytes: Vec<u8>) -> RawReply {
    Box::new(iter::repeat(bytes))
}

/// RawReply about this method alone.
pub(crate) fn to(
    request: &RawRequest,
    method: &str,
    lie: impl FnOnce() -> RawReply,
) -> Option<RawReply> {
    (request.method == method).then(lie)
}

/// A machine of which the doctor can tell something.
fn machine(request: &Value) -> Value {
    let execute = request["execute"].as_str().unwrap();
    json!({"return": match execute {
        "query-version" => json!({"qemu": {"major": 10, "minor": 0, "micro": 2}}),
        "query-status" => json!({"status": "running", "running": true}),
        "query-memdev" => json!([{"share": true}]),
        _ => return empty_machine(request),
    }})
}
