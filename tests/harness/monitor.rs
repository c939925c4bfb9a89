//! QEMU's monitor from both sides: a plain client, to see what is so; and a monitor that plays a
//! script, to see what becomes of a refusal.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

/// A negotiated session.
#[derive(Debug)]
pub struct Monitor {
    reader: BufReader<UnixStream>,
}

impl Monitor {
    /// Connects and negotiates.
    pub fn connect(path: &Path) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        let mut monitor = Self {
            reader: BufReader::new(stream),
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

    /// A command's answer, whole: `return` or `error`.
    #[allow(clippy::needless_pass_by_value)]
    pub fn answer(&mut self, command: &str, arguments: Value) -> Value {
        let request = json!({"execute": command, "arguments": arguments});
        writeln!(self.reader.get_mut(), "{request}").unwrap();
        loop {
            let line = self.line();
            if line.get("event").is_none() {
                return line;
            }
        }
    }

    /// What a command that succeeds returns.
    pub fn run(&mut self, command: &str, arguments: Value) -> Value {
        let mut answer = self.answer(command, arguments);
        assert!(answer.get("error").is_none(), "{command}: {answer}");
        answer["return"].take()
    }

    /// Ids of the devices that have one.
    pub fn devices(&mut self) -> Vec<String> {
        let listed = self.run("qom-list", json!({"path": "/machine/peripheral"}));
        let names = listed
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| entry["name"].as_str().unwrap());
        names
            .filter(|name| *name != "type")
            .map(str::to_owned)
            .collect()
    }

    /// `info network`: every backend, ghosts too.
    pub fn backends(&mut self) -> String {
        let arguments = json!({"command-line": "info network"});
        self.run("human-monitor-command", arguments)
            .as_str()
            .unwrap()
            .to_owned()
    }
}

/// A monitor that answers as told and remembers what it was asked.
#[derive(Debug)]
pub struct FakeQmp {
    asked: Arc<Mutex<Vec<Value>>>,
}

/// What a scripted monitor does when it is asked.
#[derive(Debug)]
pub enum QmpReply {
    /// An answer, which gets the request's id.
    Answer(Value),
    /// These bytes before that answer.
    BytesFirst(Vec<u8>, Value),
    /// That answer, but late.
    Late(Duration, Value),
    /// Nothing.
    Nothing,
    /// These bytes, and the end.
    Last(Vec<u8>),
}

impl FakeQmp {
    /// Serves at this path; `answer` turns each request into a whole line, or into silence.
    pub fn serve(path: &Path, answer: impl Fn(&Value) -> Option<Value> + Send + 'static) -> Self {
        let answer =
            move |request: &Value| answer(request).map_or(QmpReply::Nothing, QmpReply::Answer);
        Self::saying(path, answer)
    }

    /// The same with more to say.
    pub fn saying(path: &Path, answer: impl Fn(&Value) -> QmpReply + Send + 'static) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let _ = session(stream.unwrap(), &log, &answer);
            }
        });
        Self { asked }
    }

    /// The requests so far.
    pub fn asked(&self) -> Vec<Value> {
        self.asked.lock().unwrap().clone()
    }
}

fn session(
    mut stream: UnixStream,
    log: &Mutex<Vec<Value>>,
    answer: &impl Fn(&Value) -> QmpReply,
) -> std::io::Result<()> {
    let version = json!({"qemu": {"major": 10, "minor": 0, "micro": 2}});
    writeln!(
        stream,
        "{}",
        json!({"QMP": {"version": version, "capabilities": ["oob"]}})
    )?;
    let reader = BufReader::new(stream.try_clone()?);
    for line in reader.lines() {
        let request: Value = serde_json::from_str(&line?)?;
        log.lock().unwrap().push(request.clone());
        let mut reply = match answer(&request) {
            QmpReply::Answer(reply) => reply,
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
    Ok(())
}

/// A q35 with one empty root port, as QEMU describes it.
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
        ("qom-list", "/machine/i440fx", _)
        | ("device_del" | "netdev_del" | "chardev-remove", _, _) => {
            return refusal("DeviceNotFound");
        }
        ("closefd", _, _) => {
            return json!({"error": {"class": "GenericError", "desc": "File descriptor named 'x' not found"}});
        }
        _ => json!({}),
    };
    json!({ "return": returned })
}

/// QEMU's no, of this class.
pub fn refusal(class: &str) -> Value {
    json!({"error": {"class": class, "desc": "as the script says"}})
}
