//! A command against a compromised agent and its expected result.

use std::iter;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use patchbay_tests::raw_agent::{RawReply, RawRequest, serve_raw};
use patchbay_tests::{Done, FakeQmp, empty_machine, patchbay, run, temp_dir};
use patchbay_types::failure::Kind;
use patchbay_types::text::is_terminal_control;
use serde_json::{Value, json};

/// Text with terminal control sequences and a line that imitates a shell prompt.
pub(crate) const CONTROLS: &str = "\x1b[2J\x1b]0;owned\x07\r\nroot# \u{9b}31m\u{202e}";

/// Memory limit of a command.
pub(crate) const MAX_MEMORY_BYTES: i64 = 320 << 20;

/// Reaction of the agent to a request; `None` is a valid handshake or silence.
pub(crate) type Respond = fn(&RawRequest) -> Option<RawReply>;

/// A command against a compromised agent and its expected result.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) words: &'static [&'static str],
    pub(crate) input: String,
    pub(crate) respond: Respond,
    pub(crate) kind: Result<(), Kind>,
    pub(crate) output: &'static str,
    pub(crate) time_limit: Duration,
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
        respond: Respond,
        kind: Kind,
        output: &'static str,
    ) -> Self {
        Self {
            name,
            words,
            input: String::new(),
            respond,
            kind: Err(kind),
            output,
            time_limit: Duration::from_secs(14),
        }
    }

    pub(crate) fn run(&self) {
        let dir = temp_dir();
        let socket = dir.path().join("agent.sock");
        serve_raw(&socket, self.respond);
        let qmp = dir.path().join("qmp.sock");
        let _monitor = FakeQmp::serve(&qmp, |request| Some(machine(request)));
        let agent = format!("unix://{}", socket.display());
        let mut command = patchbay(dir.path(), &["--agent", &agent, "--qmp"]);
        let begun = Instant::now();
        let done = run(command.arg(&qmp).args(self.words), &self.input);
        let taken = begun.elapsed();
        eprintln!("{}: {taken:?}, {}", self.name, done.err.trim_end());
        self.assert_result(&done, taken);
    }

    fn assert_result(&self, done: &Done, taken: Duration) {
        let name = self.name;
        let status = self
            .kind
            .map_or_else(|kind| i32::from(kind.exit_code()), |()| 0);
        assert_eq!(done.status, status, "{name}: {}", done.err);
        assert!(taken < self.time_limit, "{name}: {taken:?}");
        let output = if self.kind.is_ok() {
            &done.out
        } else {
            &done.err
        };
        assert!(output.contains(self.output), "{name}: {output}");
        assert!(output.chars().count() < 5000, "{name}: {}", output.len());
        for text in [&done.out, &done.err] {
            let control = text.chars().find(|c| is_terminal_control(*c) && *c != '\n');
            assert_eq!(control, None, "{name}: {text:?}");
        }
        assert_eq!(
            done.err.lines().count(),
            usize::from(self.kind.is_err()),
            "{name}: {}",
            done.err
        );
    }
}

/// Runs the cases, four at a time, and checks the largest command's memory.
pub(crate) fn run_all(cases: &[Case]) {
    for some in cases.chunks(4) {
        thread::scope(|scope| {
            for case in some {
                scope.spawn(|| case.run());
            }
        });
    }
    let largest = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap().max_rss() * 1024;
    eprintln!("largest: {} MiB", largest >> 20);
    assert!(largest < MAX_MEMORY_BYTES, "{largest}");
}

pub(crate) fn once(bytes: Vec<u8>) -> RawReply {
    Box::new(iter::once(bytes))
}

/// Sends these bytes, then nothing for longer than any command waits.
pub(crate) fn then_silence(bytes: Vec<u8>) -> RawReply {
    let silence = iter::from_fn(|| {
        thread::sleep(Duration::from_secs(600));
        None
    });
    Box::new(iter::once(bytes).chain(silence))
}

/// Sends these bytes, one every 100 ms.
pub(crate) fn dripping(bytes: Vec<u8>) -> RawReply {
    Box::new(bytes.into_iter().map(|byte| {
        thread::sleep(Duration::from_millis(100));
        vec![byte]
    }))
}

pub(crate) fn endless(bytes: Vec<u8>) -> RawReply {
    Box::new(iter::repeat(bytes))
}

/// Returns the reply if the request is of this method.
pub(crate) fn to(
    request: &RawRequest,
    method: &str,
    reply: impl FnOnce() -> RawReply,
) -> Option<RawReply> {
    (request.method == method).then(reply)
}

/// Replies like [`empty_machine`], with what `doctor` needs.
fn machine(request: &Value) -> Value {
    let execute = request["execute"].as_str().unwrap();
    json!({"return": match execute {
        "query-version" => json!({"qemu": {"major": 10, "minor": 0, "micro": 2}}),
        "query-memdev" => json!([{"share": true}]),
        _ => return empty_machine(request),
    }})
}
