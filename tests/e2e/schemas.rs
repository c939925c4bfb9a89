//! Output of each command with `--format json`, checked by Debian's jsonschema against docs/output.schema.json.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use patchbay_tests::{Done, Guest, Machine, patchbay, run, temp_dir};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Parts of other definitions.
const SHARED: &[&str] = &[
    "address",
    "changes",
    "ipvs-connections",
    "ipvs-services",
    "ipvs-status",
    "kataNeighbor",
    "neighbor",
    "route",
    "server",
    "stats",
];

struct Schemas {
    definitions: Value,
    checked: HashSet<String>,
    folder: TempDir,
}

impl Schemas {
    fn read() -> Self {
        let mut schema = document("output.schema.json");
        let mut definitions = schema["$defs"].take();
        forbid_other_keys(&mut definitions);
        Self {
            definitions,
            checked: HashSet::new(),
            folder: temp_dir(),
        }
    }

    /// Checks that the output of a command that succeeded is valid, and has no key without a description.
    #[track_caller]
    fn check(&mut self, definition: &str, done: Done) -> Value {
        let output = done.json();
        let schema = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$ref": format!("#/$defs/{definition}"),
            "$defs": self.definitions,
        });
        validate(self.folder.path(), &output, &schema);
        self.checked.insert(definition.to_owned());
        output
    }
}

fn document(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../docs")
        .join(name);
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

#[track_caller]
fn validate(folder: &Path, output: &Value, schema: &Value) {
    let (instance, schema_file) = (folder.join("output.json"), folder.join("schema.json"));
    fs::write(&instance, output.to_string()).unwrap();
    fs::write(&schema_file, schema.to_string()).unwrap();
    let mut jsonschema = Command::new("jsonschema");
    run(jsonschema.arg("-i").args([instance, schema_file]), "").ok();
}

/// Makes the schemas of objects reject keys that they don't describe.
fn forbid_other_keys(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            members.values_mut().for_each(forbid_other_keys);
            if members.get("type") == Some(&json!("object")) {
                members.insert("additionalProperties".to_owned(), json!(false));
            }
        }
        Value::Array(values) => values.iter_mut().for_each(forbid_other_keys),
        _ => {}
    }
}

/// Runs a command of the guest's sandbox, whose id follows the first `words`.
fn of(guest: &Guest, words: &[&str], options: &[&str]) -> Done {
    guest.patchbay(&[words, &[guest.id()], options, &["--format", "json"]].concat())
}

fn rename(guest: &Guest, old: &str, new: &str) {
    for words in [
        format!("{old} down"),
        format!("{old} name {new}"),
        format!("{new} up"),
    ] {
        guest.exec(&format!("ip link set {words}")).ok();
    }
}

fn check_cards(schemas: &mut Schemas, guest: &Guest) {
    guest.netns().ip("link add br0 type bridge").ok();
    guest
        .netns()
        .ip("link add net1 type veth peer name net2")
        .ok();
    guest.netns().ip("addr add 10.9.0.2/24 dev net1").ok();
    guest.netns().ip("link set net1 up").ok();
    let addresses = ["--ip", "10.0.0.2/24", "--ip", "fd00::2/64"];
    let bridged = [
        &["eth1", "--bridge", "br0", "--queues", "2"][..],
        &addresses,
    ]
    .concat();
    schemas.check("nic-add", of(guest, &["nic", "add"], &bridged));
    schemas.check(
        "nic-add",
        of(guest, &["nic", "add"], &["eth2", "--link", "net1"]),
    );
    let set = |options: &[&str]| {
        of(
            guest,
            &["nic", "set"],
            &[&["--name", "eth1"], options].concat(),
        )
    };
    let flags = [
        "--mtu",
        "1400",
        "--promisc",
        "on",
        "--state",
        "up",
        "--arp",
        "on",
    ];
    schemas.check("nic-set", set(&[&flags[..], &addresses].concat()));
    schemas.check(
        "nic-set",
        set(&[
            "--rx-limit",
            "1mbit",
            "--tx-limit",
            "1mbit",
            "--cable",
            "up",
        ]),
    );
    schemas.check(
        "nic-apply",
        of(guest, &["nic", "apply"], &["--name", "eth1"]),
    );
    rename(guest, "eth1", "other");
    let listed = schemas.check("nic-list", of(guest, &["nic", "list"], &[]));
    assert_eq!(listed[0]["guestName"], "other");
    schemas.check("nic-show", of(guest, &["nic", "show"], &["eth1"]));
    schemas.check("nic-list-all", of(guest, &["nic", "list"], &["--all"]));
    rename(guest, "other", "eth1");
}

fn check_network(schemas: &mut Schemas, guest: &Guest) {
    let route = [
        "--dest",
        "20.0.0.0/16",
        "--via",
        "10.0.0.1",
        "--dev",
        "eth1",
    ];
    let more = [
        "--src", "10.0.0.2", "--metric", "5", "--mtu", "1300", "--onlink", "--table", "7",
    ];
    schemas.check(
        "route-add",
        of(guest, &["route", "add"], &[&route[..], &more].concat()),
    );
    schemas.check("route-list", of(guest, &["route", "list"], &[]));
    let neighbor = [
        "--address",
        "10.0.0.9",
        "--lladdr",
        "02:00:00:00:00:09",
        "--dev",
        "eth1",
    ];
    schemas.check("neighbor-add", of(guest, &["neighbor", "add"], &neighbor));
    schemas.check("neighbor-list", of(guest, &["neighbor", "list"], &[]));
    schemas.check("sysctl-list", of(guest, &["sysctl", "list"], &[]));
    let exported = of(guest, &["export"], &[]).json();
    validate(
        schemas.folder.path(),
        &exported,
        &document("document.schema.json"),
    );
    let path = schemas.folder.path().join("document.yaml");
    let text = format!(
        "sandbox: {}\nroutes: [{{dest: 30.0.0.0/8, device: eth1}}]\nsysctls: {{net.ipv4.ip_forward: 1}}\n",
        guest.id()
    );
    fs::write(&path, text).unwrap();
    let file = path.to_str().unwrap();
    // Exit code 1: there are changes.
    let done = of(guest, &["diff"], &[file]);
    schemas.check(
        "diff",
        Done {
            status: done.status - 1,
            ..done
        },
    );
    schemas.check("apply", of(guest, &["apply"], &[file]));
    schemas.check(
        "route-del",
        of(guest, &["route", "del"], &["--dest", "30.0.0.0/8"]),
    );
    let flow = "conntrack -I -p tcp --timeout 100 --state ESTABLISHED -s 10.0.0.2 -d 10.0.0.7 --sport 1 --dport 2";
    guest.exec("modprobe nf_conntrack_netlink").ok();
    guest.exec(flow).ok();
    let flows = schemas.check("conntrack-list", of(guest, &["conntrack", "list"], &[]));
    assert_ne!(flows, json!([]));
}

fn check_ipvs(schemas: &mut Schemas, guest: &Guest) {
    let rules = "-A -t 10.0.0.2:80 -s sh -b sh-port -p 100 -M 255.255.255.0\n\
        -a -t 10.0.0.2:80 -r 10.0.0.7:80 -m -w 3 -x 9 -y 5\n\
        -a -t 10.0.0.2:80 -r 10.0.0.8:80 -i --tun-type gue --tun-port 6080\n\
        -A -f 7 -6 -s mh -o\n";
    let restore = ["ipvs", guest.id(), "-R"];
    run(&mut patchbay(guest.run_dir(), &restore), rules).ok();
    guest
        .exec("ipvsadm --start-daemon backup --mcast-interface eth1")
        .ok();
    let list = |options: &[&str]| of(guest, &["ipvs"], options);
    let services = schemas.check("ipvs", list(&[]));
    assert_eq!(services.as_array().unwrap().len(), 2);
    schemas.check("ipvs", list(&["--list", "--daemon"]));
    schemas.check("ipvs", list(&["--list", "--connection"]));
    for command in ["drain", "end-connections"] {
        let words = [
            "ipvs",
            guest.id(),
            command,
            "--server",
            "10.0.0.7:80",
            "--format",
            "json",
        ];
        schemas.check(&format!("ipvs-{command}"), guest.patchbay(&words));
    }
}

fn check_host(schemas: &mut Schemas, guest: &Guest) {
    schemas.check("list", guest.patchbay(&["list", "--format", "json"]));
    schemas.check("doctor", of(guest, &["doctor"], &[]));
    guest
        .netns()
        .ip("link add net3 type veth peer name net4")
        .ok();
    guest.netns().ip("addr add 10.8.0.2/24 dev net3").ok();
    guest.netns().ip("link set net3 up").ok();
    let planned = of(guest, &["watch"], &["--once", "--dry-run"]);
    assert_ne!(schemas.check("watch", planned), json!([]));
    let timed = guest.patchbay(&["--timings=json", "list"]);
    let out = timed.err.clone();
    schemas.check("timings", Done { out, ..timed });
}

/// Checks the events of a card that is unplugged.
fn check_events(schemas: &mut Schemas, guest: &Guest) {
    let mut monitor = patchbay(
        guest.run_dir(),
        &["monitor", guest.id(), "--format", "json"],
    );
    let file = schemas.folder.path().join("events");
    monitor.stdout(fs::File::create(&file).unwrap());
    let mut monitor = monitor.stderr(Stdio::null()).spawn().unwrap();
    let lines = || fs::read_to_string(&file).unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    let await_event = |text: &str| {
        while !lines().contains(text) {
            assert!(std::time::Instant::now() < deadline, "{text}: {}", lines());
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    await_event("connected");
    guest
        .patchbay(&["nic", "del", guest.id(), "--name", "eth1"])
        .ok();
    await_event("unplugged");
    monitor.kill().unwrap();
    monitor.wait().unwrap();
    let text = lines();
    let complete = &text[..=text.rfind('\n').unwrap()];
    let objects = complete.lines().map(|line| {
        let done = Done {
            status: 0,
            out: line.to_owned(),
            err: String::new(),
        };
        schemas.check("monitor", done)["object"].to_string()
    });
    let objects: HashSet<_> = objects.collect();
    for object in ["agent", "card", "link", "address", "route"] {
        assert!(
            objects.contains(&format!("\"{object}\"")),
            "{object}: {text}"
        );
    }
}

#[test]
fn output_of_each_command_is_as_its_schema_says() {
    let guest = Guest::start(Machine::Q35);
    let mut schemas = Schemas::read();
    check_cards(&mut schemas, &guest);
    check_network(&mut schemas, &guest);
    check_ipvs(&mut schemas, &guest);
    check_host(&mut schemas, &guest);
    check_events(&mut schemas, &guest);
    let definitions = schemas.definitions.as_object().unwrap().keys();
    let unchecked = definitions
        .filter(|name| !schemas.checked.contains(*name) && !SHARED.contains(&name.as_str()));
    assert_eq!(unchecked.collect::<Vec<_>>(), Vec::<&String>::new());
}
