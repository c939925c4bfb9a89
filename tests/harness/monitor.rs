//! QMP from both sides: a client that reads the state of QEMU, and a fake monitor that replies by a
//! script.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

/// A negotiated QMP session.
#[derive(Debug)]
pub struct Monitor {
    reader: BufReader<UnixStream>,
    /// Number of requests, which is the id of the last one.
    requests: u32,
}

impl Monitor {
    /// Connects and negotiates.
    pub fn connect(path: &Path) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        let mut monitor = Self {
            reader: BufReader::new(stream),
            requests: 0,
        };
        monitor.line();
        monitor.run("qmp_capabilities", json!({}));
        monitor
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.reader.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    /// Runs a command; returns the complete reply, with `return` or `error`.
    #[expect(clippy::needless_pass_by_value, reason = "callers build it with json!")]
    pub fn execute(&mut self, command: &str, arguments: Value) -> Value {
        self.requests += 1;
        let id = json!(self.requests);
        let request = json!({"execute": command, "arguments": arguments, "id": id});
        writeln!(self.reader.get_mut(), "{request}").unwrap();
        loop {
            let line = self.line();
            // QEMU sends a client the reply that its predecessor did not wait for.
            if line.get("id") == Some(&id) {
                return line;
            }
        }
    }

    /// Runs a command; returns its `return` and asserts success.
    pub fn run(&mut self, command: &str, arguments: Value) -> Value {
        let mut reply = self.execute(command, arguments);
        assert!(reply.get("error").is_none(), "{command}: {reply}");
        reply["return"].take()
    }

    /// Returns the IDs of the devices that have one, sorted: QEMU lists them in the order of a hash.
    pub fn devices(&mut self) -> Vec<String> {
        let listed = self.run("qom-list", json!({"path": "/machine/peripheral"}));
        let names = listed
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| entry["name"].as_str().unwrap());
        let mut names: Vec<_> = names
            .filter(|name| *name != "type")
            .map(str::to_owned)
            .collect();
        names.sort();
        names
    }

    /// Returns the output of `info network`: all backends, also those without a device.
    pub fn backends(&mut self) -> String {
        let arguments = json!({"command-line": "info network"});
        self.run("human-monitor-command", arguments)
            .as_str()
            .unwrap()
            .to_owned()
    }
}

/// A fake monitor that records its requests.
#[derive(Debug)]
pub struct FakeQmp {
    log: Arc<Mutex<Log>>,
}

#[derive(Debug, Default)]
struct Log {
    requests: Vec<Value>,
    /// Names of the requests that arrived together.
    trips: Vec<Vec<String>>,
}

/// Reaction of a fake monitor to a request.
#[derive(Debug)]
pub enum QmpReply {
    /// A reply, to which the request's ID is added.
    Reply(Value),
    /// These bytes, then the reply.
    BytesFirst(Vec<u8>, Value),
    /// The reply after a delay.
    Late(Duration, Value),
    /// Nothing.
    Nothing,
    /// These bytes, then the end of the session.
    Last(Vec<u8>),
}

impl FakeQmp {
    /// Serves on a Unix socket at this path; requests for which `reply` returns `None` get no reply.
    pub fn serve(path: &Path, reply: impl Fn(&Value) -> Option<Value> + Send + 'static) -> Self {
        Self::serve_with(path, move |request| {
            reply(request).map_or(QmpReply::Nothing, QmpReply::Reply)
        })
    }

    /// The same with every kind of reaction.
    pub fn serve_with(path: &Path, react: impl Fn(&Value) -> QmpReply + Send + 'static) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        let log = Arc::<Mutex<Log>>::default();
        let own = Arc::clone(&log);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let _ = session(stream.unwrap(), &own, &react);
            }
        });
        Self { log }
    }

    /// Returns the requests so far.
    pub fn requests(&self) -> Vec<Value> {
        self.log.lock().unwrap().requests.clone()
    }

    /// Returns the names of the requests so far, those in one list that arrived together.
    pub fn trips(&self) -> Vec<Vec<String>> {
        self.log.lock().unwrap().trips.clone()
    }
}

/// More than all commands that are sent together.
const MAX_TRIP_BYTES: usize = 1 << 16;

impl Log {
    fn add(&mut self, request: Value) {
        let name = request["execute"].as_str().unwrap().to_owned();
        self.trips.last_mut().unwrap().push(name);
        self.requests.push(request);
    }
}

fn session(
    mut stream: UnixStream,
    log: &Mutex<Log>,
    react: &impl Fn(&Value) -> QmpReply,
) -> std::io::Result<()> {
    let version = json!({"qemu": {"major": 10, "minor": 0, "micro": 2}});
    writeln!(
        stream,
        "{}",
        json!({"QMP": {"version": version, "capabilities": ["oob"]}})
    )?;
    let mut reader = BufReader::with_capacity(MAX_TRIP_BYTES, stream.try_clone()?);
    loop {
        let is_new_trip = reader.buffer().is_empty();
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let request: Value = serde_json::from_str(&line)?;
        if is_new_trip {
            log.lock().unwrap().trips.push(Vec::new());
        }
        log.lock().unwrap().add(request.clone());
        let mut reply = match react(&request) {
            QmpReply::Reply(reply) => reply,
            QmpReply::BytesFirst(bytes, reply) => {
                stream.write_all(&bytes)?;
                reply
            }
            QmpReply::Late(by, reply) => {
                thread::sleep(by);
                reply
            }
            QmpReply::Nothing => continue,
            QmpReply::Last(bytes) => return stream.write_all(&bytes),
        };
        reply["id"] = request["id"].clone();
        writeln!(stream, "{reply}")?;
    }
}

/// Replies to a request as QEMU does for a q35 machine with one empty root port.
pub fn empty_machine(request: &Value) -> Value {
    let arguments = &request["arguments"];
    let text = |key: &str| arguments[key].as_str().unwrap_or_default();
    let returned = match (
        request["execute"].as_str().unwrap(),
        text("path"),
        text("property"),
    ) {
        ("qom-list", "/machine/peripheral", _) => {
            json!([{"name": "rp1", "type": "child<pcie-root-port>"}, {"name": "type", "type": "string"}])
        }
        ("qom-list", "/machine/peripheral-anon", _) => json!([]),
        ("qom-get", _, "parent_bus") => json!("/machine/q35/pcie.0"),
        ("qom-get", _, "addr") => json!(8),
        ("human-monitor-command", _, _) => json!(""),
        ("query-status", _, _) => json!({"status": "running", "running": true}),
        ("qom-list", "/machine/i440fx", _)
        | ("x-query-virtio-status" | "device_del" | "netdev_del" | "chardev-remove", _, _) => {
            return qmp_error("DeviceNotFound");
        }
        ("closefd", _, _) => {
            return json!({"error": {"class": "GenericError", "desc": "File descriptor named 'x' not found"}});
        }
        _ => json!({}),
    };
    json!({ "return": returned })
}

/// Returns an error reply of this class.
pub fn qmp_error(class: &str) -> Value {
    json!({"error": {"class": class, "desc": "as the script says"}})
}
