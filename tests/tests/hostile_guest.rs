//! An agent that was taken over: it lies, floods, stalls and hangs up. The command ends in time, with
//! a typed error, in bounded memory, and prints nothing that a terminal would obey.

#![allow(clippy::unwrap_used)]

use std::iter;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use patchbay_protocols::failure::{Failure, Kind};
use patchbay_protocols::wire::agent::{
    HelloReply, Interface, ListInterfacesReply, ListRoutesReply, Route,
};
use patchbay_protocols::wire::ipvs::{Connection, ConnectionsChunk, Peer, TableChunk};
use patchbay_tests::liar::{
    Asked, Lies, answer, answer_bytes, end, frame, message, refusal, serve_lies,
};
use patchbay_tests::{Done, Scripted, empty_machine, patchbay, run, temp_dir};
use serde_json::json;
use ttrpc::proto::{MESSAGE_TYPE_DATA, MESSAGE_TYPE_RESPONSE};

/// What a terminal obeys: its own sequences, and a line that looks like another program's.
const OBEYED: &str = "\x1b[2J\x1b]0;owned\x07\r\nroot# \u{9b}31m\u{202e}";

/// Most memory that any command may take.
const MEMORY: i64 = 320 << 20;

/// What the agent does with each request: `None` is an honest greeting, or silence.
type Liar = fn(&Asked) -> Option<Lies>;

/// A command against such an agent, and how it must end.
struct Case {
    name: &'static str,
    words: &'static [&'static str],
    input: String,
    liar: Liar,
    kind: Result<(), Kind>,
    says: &'static str,
    within: Duration,
}

const ROUTES: &[&str] = &["kata-network", "list-routes", "x"];
const TABLE: &[&str] = &["kata-ipvs", "ipvsadm", "--parameters", "-S -n", "x"];
const CONNECTIONS: &[&str] = &["kata-ipvs", "ipvsadm", "--parameters", "-L -n -c", "x"];

impl Case {
    fn refused(
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

    fn run(&self) {
        let dir = temp_dir();
        let socket = dir.path().join("agent.sock");
        serve_lies(&socket, self.liar);
        let qmp = dir.path().join("qmp.sock");
        let _monitor = Scripted::serve(&qmp, |request| Some(empty_machine(request)));
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
            let obeyed = text.chars().find(|c| c.is_control() && *c != '\n');
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
fn all(cases: &[Case]) {
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

fn once(bytes: Vec<u8>) -> Lies {
    Box::new(iter::once(bytes))
}

/// These bytes, then nothing for longer than any command waits.
fn then_silence(bytes: Vec<u8>) -> Lies {
    let silence = iter::from_fn(|| {
        thread::sleep(Duration::from_secs(600));
        None
    });
    Box::new(iter::once(bytes).chain(silence))
}

fn endless(bytes: Vec<u8>) -> Lies {
    Box::new(iter::repeat(bytes))
}

/// Lies about this method alone.
fn to(asked: &Asked, method: &str, lie: impl FnOnce() -> Lies) -> Option<Lies> {
    (asked.method == method).then(lie)
}

#[test]
fn an_agent_that_does_not_introduce_itself_is_left_in_time() {
    use Case as C;
    let silent = "gave no answer in 5 s";
    let absent = "the sandbox's agent does not answer at";
    let much = "the agent sends more than an answer may have";
    all(&[
        C::refused(
            "silence",
            ROUTES,
            |_| Some(then_silence(vec![])),
            Kind::Timeout,
            silent,
        ),
        C::refused(
            "the end",
            ROUTES,
            |_| Some(once(vec![])),
            Kind::NotFound,
            absent,
        ),
        C::refused(
            "half a header",
            ROUTES,
            |_| Some(then_silence(vec![0; 5])),
            Kind::Timeout,
            silent,
        ),
        C::refused(
            "half a header and the end",
            ROUTES,
            |_| Some(once(vec![0; 5])),
            Kind::NotFound,
            absent,
        ),
        C::refused(
            "half a reply",
            ROUTES,
            |asked| {
                Some(then_silence(
                    answer(asked, &HelloReply::default())[..11].to_vec(),
                ))
            },
            Kind::Timeout,
            silent,
        ),
        C::refused(
            "4 GiB claimed",
            ROUTES,
            |asked| {
                Some(then_silence(frame(
                    u32::MAX,
                    asked.stream,
                    MESSAGE_TYPE_RESPONSE,
                    &[],
                )))
            },
            Kind::Timeout,
            silent,
        ),
        C::refused(
            "4 GiB sent",
            ROUTES,
            |asked| {
                let begin = frame(u32::MAX, asked.stream, MESSAGE_TYPE_RESPONSE, &[]);
                Some(Box::new(iter::once(begin).chain(endless(vec![0; 1 << 16]))))
            },
            Kind::NotFound,
            much,
        ),
        C::refused(
            "64 MiB claimed",
            ROUTES,
            |asked| {
                let begin = frame(64 << 20, asked.stream, MESSAGE_TYPE_RESPONSE, &[]);
                Some(Box::new(
                    iter::once(begin).chain(endless(vec![b'x'; 1 << 16])),
                ))
            },
            Kind::NotFound,
            much,
        ),
        C::refused(
            "noise",
            ROUTES,
            |_| Some(endless(vec![0xa5; 1 << 16])),
            Kind::NotFound,
            much,
        ),
        C::refused(
            "messages for others",
            ROUTES,
            |_| Some(endless(frame(0, 4711, MESSAGE_TYPE_DATA, &[]))),
            Kind::NotFound,
            much,
        ),
        C::refused(
            "another type",
            ROUTES,
            |asked| Some(then_silence(answer_bytes(asked, vec![0xff; 100]))),
            Kind::NotFound,
            absent,
        ),
        C::refused(
            "another interface",
            ROUTES,
            |asked| {
                Some(once(answer(
                    asked,
                    &HelloReply {
                        api_version: 4711,
                        ..HelloReply::default()
                    },
                )))
            },
            Kind::Unsupported,
            "the agent speaks version 4711 of the interface",
        ),
        C::refused(
            "a refusal to be obeyed",
            ROUTES,
            |asked| {
                let failure = Failure::new(Kind::Denied, OBEYED).with_field(OBEYED);
                let failure = (0..4000).fold(failure, |failure, _| failure.with_cause(OBEYED));
                Some(then_silence(refusal(asked, failure.into())))
            },
            Kind::Denied,
            "root#",
        ),
    ]);
}

/// Many routes of nothing: two bytes each on their way, and much more here.
fn empty_routes(count: usize) -> Vec<u8> {
    [0x0a, 0x00].repeat(count)
}

#[test]
fn lies_about_routes_are_refused() {
    use Case as C;
    let broken = "the agent's answer breaks the interface";
    let much = "the agent sends more than an answer may have";
    let route = |device: &str| Route {
        dest: vec![10, 0, 0, 0],
        prefix: 8,
        device: device.to_owned(),
        scope: Some(253),
        metric: Some(0),
        ..Route::default()
    };
    // The names are the guest's own, and it may have such ones.
    let obeyed = json!(route(OBEYED).device).to_string();
    assert!(obeyed.contains("\\u001b"));
    all(&[
        C::refused(
            "silence",
            ROUTES,
            |_| None,
            Kind::Timeout,
            "gave no answer in 10 s",
        ),
        C::refused(
            "the end",
            ROUTES,
            |asked| to(asked, "ListRoutes", || once(vec![])),
            Kind::Other,
            "the connection to the agent broke",
        ),
        C::refused(
            "another type",
            ROUTES,
            |asked| {
                to(asked, "ListRoutes", || {
                    once(answer_bytes(asked, vec![0xff; 100]))
                })
            },
            Kind::Other,
            "the connection to the agent broke",
        ),
        C::refused(
            "too many",
            ROUTES,
            |asked| {
                to(asked, "ListRoutes", || {
                    once(answer_bytes(asked, empty_routes(40_000)))
                })
            },
            Kind::Other,
            "at most 32768 routes are taken",
        ),
        C::refused(
            "a million of nothing",
            ROUTES,
            |asked| {
                to(asked, "ListRoutes", || {
                    once(answer_bytes(asked, empty_routes(1 << 20)))
                })
            },
            Kind::Other,
            "at most 32768 routes are taken",
        ),
        C::refused(
            "two million of nothing",
            ROUTES,
            |asked| {
                to(asked, "ListRoutes", || {
                    once(answer_bytes(asked, empty_routes(2_000_000)))
                })
            },
            Kind::Other,
            much,
        ),
        C::refused(
            "answers without end",
            ROUTES,
            |asked| {
                to(asked, "ListRoutes", || {
                    endless(frame(
                        1 << 20,
                        asked.stream,
                        MESSAGE_TYPE_DATA,
                        &vec![0; 1 << 20],
                    ))
                })
            },
            Kind::Other,
            "the",
        ),
        C::refused(
            "no address",
            ROUTES,
            |asked| {
                to(asked, "ListRoutes", || {
                    once(answer(
                        asked,
                        &ListRoutesReply {
                            routes: vec![Route {
                                dest: vec![1; 7],
                                ..Route::default()
                            }],
                            ..ListRoutesReply::default()
                        },
                    ))
                })
            },
            Kind::Other,
            broken,
        ),
    ]);
}

fn rows(bytes: Vec<u8>) -> TableChunk {
    TableChunk {
        rows: bytes,
        ..TableChunk::default()
    }
}

fn obeyed_connection() -> Connection {
    let peer = || {
        Some(Peer {
            address: vec![10, 0, 0, 1],
            port: 80,
            ..Peer::default()
        })
    };
    Connection {
        protocol: OBEYED.to_owned(),
        client: peer().into(),
        virtual_end: peer().into(),
        server: peer().into(),
        state: OBEYED.to_owned(),
        engine: OBEYED.to_owned(),
        engine_data: OBEYED.to_owned(),
        ..Connection::default()
    }
}

/// A service, packed: protocol, address, port, scheduler, no persistence, a whole netmask, no
/// scheduling, flags, engine or counters.
const SERVICE: &[u8] = b"\x01\x06\x04\x0a\0\0\x01\0\x50\x02rr\0\xff\xff\xff\xff\x0f\0\0\0\0";

#[test]
fn tables_without_end_are_cut_off() {
    use Case as C;
    let much = "the agent sends more than an answer may have";
    let taken = "the guest lists more than is taken";
    let minute = Duration::from_secs(60);
    let mut cases = vec![
        C::refused(
            "services without end",
            TABLE,
            |asked| {
                to(asked, "Table", || {
                    endless(message(asked, &rows(SERVICE.repeat(1000))))
                })
            },
            Kind::Other,
            taken,
        ),
        C::refused(
            "rows of nothing",
            TABLE,
            |asked| {
                to(asked, "Table", || {
                    endless(message(asked, &rows(Vec::new())))
                })
            },
            Kind::Other,
            much,
        ),
        C::refused(
            "noise for rows",
            TABLE,
            |asked| {
                to(asked, "Table", || {
                    endless(message(asked, &rows(vec![0xa5; 1000])))
                })
            },
            Kind::Other,
            "the agent's answer breaks the interface",
        ),
        C::refused(
            "a server first",
            TABLE,
            |asked| {
                to(asked, "Table", || {
                    let mut server = vec![2, 4, 10, 0, 0, 1, 0, 80];
                    server.extend([0; 12]);
                    endless(message(asked, &rows(server)))
                })
            },
            Kind::Other,
            "the",
        ),
        C::refused(
            "connections without end",
            CONNECTIONS,
            |asked| {
                to(asked, "Connections", || {
                    endless(message(
                        asked,
                        &ConnectionsChunk {
                            connections: vec![obeyed_connection(); 1000],
                            ..ConnectionsChunk::default()
                        },
                    ))
                })
            },
            Kind::Other,
            "more than",
        ),
        C::refused(
            "connections of nothing",
            CONNECTIONS,
            |asked| {
                to(asked, "Connections", || {
                    let nothing = [0x0a, 0x00].repeat(2_000_000);
                    endless(frame(4_000_000, asked.stream, MESSAGE_TYPE_DATA, &nothing))
                })
            },
            Kind::Other,
            "the agent's answer breaks the interface",
        ),
        C {
            input: (0..200_000).fold(String::new(), |text, number| {
                text + &format!("-A -f {} -s rr\n", number + 1)
            }),
            ..C::refused(
                "a flood while rules go out",
                &[
                    "kata-ipvs",
                    "ipvsadm",
                    "--restore",
                    "-",
                    "--max-rules",
                    "300000",
                    "x",
                ],
                |asked| {
                    to(asked, "Restore", || {
                        endless(frame(1000, asked.stream, MESSAGE_TYPE_DATA, &[0; 1000]))
                    })
                },
                Kind::Other,
                much,
            )
        },
    ];
    for case in &mut cases {
        case.within = minute;
    }
    all(&cases);
}

#[test]
fn what_a_guest_shows_is_shown_as_text() {
    use Case as C;
    let shown = |name, words, liar| C {
        kind: Ok(()),
        ..C::refused(name, words, liar, Kind::Other, "root#")
    };
    all(&[
        shown("routes", ROUTES, |asked| {
            to(asked, "ListRoutes", || {
                then_silence(answer(
                    asked,
                    &ListRoutesReply {
                        routes: vec![Route {
                            dest: vec![10, 0, 0, 0],
                            prefix: 8,
                            device: OBEYED.to_owned(),
                            scope: Some(253),
                            metric: Some(0),
                            ..Route::default()
                        }],
                        ..ListRoutesReply::default()
                    },
                ))
            })
        }),
        shown("connections", CONNECTIONS, |asked| {
            to(asked, "Connections", || {
                let chunk = ConnectionsChunk {
                    connections: vec![obeyed_connection()],
                    ..ConnectionsChunk::default()
                };
                then_silence([message(asked, &chunk), end(asked)].concat())
            })
        }),
        shown("a doctor's report", &["doctor", "x"], |asked| {
            to(asked, "Hello", || {
                then_silence(answer(
                    asked,
                    &HelloReply {
                        api_version: patchbay_protocols::API_VERSION,
                        agent_version: OBEYED.to_owned(),
                        kernel: OBEYED.to_owned(),
                        features: vec![OBEYED.to_owned(); 1000],
                        ..HelloReply::default()
                    },
                ))
            })
        }),
    ]);
}

/// QEMU knows which cards are ours and where they are: the guest's word is not believed.
#[test]
fn cards_that_are_not_ours_are_not_listed() {
    let card = |name: &str, path: &[u8]| Interface {
        name: name.to_owned(),
        mac: vec![2, 0, 0, 0, 0, 1],
        mtu: 1500,
        pci_path: path.to_vec(),
        ..Interface::default()
    };
    let case = Case {
        kind: Ok(()),
        ..Case::refused(
            "cards",
            &["kata-network", "list-ifaces", "x"],
            |asked| {
                to(asked, "ListInterfaces", || {
                    then_silence(answer(asked, &ListInterfacesReply::default()))
                })
            },
            Kind::Other,
            "null\n",
        )
    };
    case.run();
    let _ = card;
}
