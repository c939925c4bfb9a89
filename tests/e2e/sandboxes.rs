//! Lists of sandboxes, their states, and the launcher's commands for each state.

use std::fs;

use patchbay_tests::{Done, Guest, Machine, bin, patchbay, run, temp_dir};
use serde_json::{Value, json};

fn launcher(guest: &Guest, words: &[&str]) -> Done {
    let mut command = std::process::Command::new(bin("patchbay-sandbox"));
    command.env("PATCHBAY_RUN_DIR", guest.run_dir()).args(words);
    run(&mut command, "")
}

/// Returns a column of `patchbay list` and of `patchbay-sandbox list` for the sandbox.
fn states(guest: &Guest) -> (Value, Value) {
    let of = |rows: Value| {
        let rows = rows.as_array().unwrap().clone();
        let row = rows.into_iter().find(|row| row["id"] == guest.id());
        row.unwrap()["state"].clone()
    };
    let ours = guest.patchbay(&["list", "--format", "json"]).json();
    (of(ours), of(launcher(guest, &["list", "--json"]).json()))
}

#[test]
fn list_shows_the_state_of_each_sandbox() {
    let guest = Guest::start(Machine::Q35);
    let row = guest.patchbay(&["list"]).json()[0].clone();
    assert!(
        row["machine"].as_str().unwrap().starts_with("pc-q35-"),
        "{row}"
    );
    assert_eq!(row["agent"], env!("CARGO_PKG_VERSION"));
    assert_eq!(row["cards"], 0);
    assert_eq!(states(&guest), (json!("running"), json!("running")));
    let table = guest.patchbay(&["list", "--format", "table"]).ok();
    let lines: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        lines[0],
        ["ID", "STATE", "MACHINE", "AGENT", "CARDS", "NETNS"]
    );
    assert_eq!(lines[1][..2], [guest.id(), "running"]);

    guest.monitor().run("stop", json!({}));
    assert_eq!(states(&guest), (json!("paused"), json!("paused")));
    // A start of the same sandbox is refused with its state.
    let again = launcher(&guest, &["start", guest.id()]);
    assert_eq!(again.status, 4, "{again}");
    assert!(
        again.err.contains("already; its state is running"),
        "{again}"
    );
    guest.resume();

    assert_named_by_configuration(&guest);

    // A machine of another program, with the process id of this one.
    let foreign = guest.run_dir().join("foreign");
    fs::create_dir(&foreign).unwrap();
    let register = |pid: u32| {
        let file = json!({"qmp": foreign.join("qmp.sock"), "agent": "vsock://7:961", "netns": null, "pid": pid});
        fs::write(foreign.join("sandbox.json"), file.to_string()).unwrap();
    };
    register(std::process::id());
    let stopped = launcher(&guest, &["stop", "foreign"]);
    assert_eq!(stopped.status, 6, "{stopped}");
    assert!(
        stopped.err.contains("was not started by patchbay-sandbox"),
        "{stopped}"
    );
    assert!(foreign.exists());
    let listed = launcher(&guest, &["list"]).ok();
    let line = listed
        .lines()
        .find(|line| line.starts_with("foreign"))
        .unwrap();
    assert!(line.contains(" foreign "), "{line}");
    let rows = guest.patchbay(&["list"]).json();
    assert_eq!(
        rows[1],
        json!({"id": "foreign", "state": "dead", "machine": null, "agent": null, "cards": 0, "netns": null})
    );
    // Once its process has ended, the registration goes; the whole id is reported.
    register(ended_pid());
    let stopped = launcher(&guest, &["stop", "fore"]);
    assert_eq!(stopped.status, 0, "{stopped}");
    assert_eq!(stopped.err, "patchbay-sandbox: stopped sandbox foreign\n");
    assert!(!foreign.exists());
}

/// The machine has another name in the configuration of the host.
#[track_caller]
fn assert_named_by_configuration(guest: &Guest) {
    let file = guest.registered();
    let config = guest.file("config.toml");
    let [qmp, agent, netns] = ["qmp", "agent", "netns"].map(|key| file[key].as_str().unwrap());
    let text = format!(
        "[defaults]\nformat = \"table\"\n[sandboxes.\"by.name\"]\nqmp = \"{qmp}\"\nagent = \"{agent}\"\nnetns = \"{netns}\"\n"
    );
    fs::write(&config, text).unwrap();
    let named = |words: &[&str]| {
        let mut command = patchbay(guest.run_dir(), words);
        run(command.env("PATCHBAY_CONFIG", &config), "").ok()
    };
    let listed = named(&["list"]);
    for (id, line) in ["6ec7a98", "by.name"].iter().zip(listed.lines().skip(1)) {
        assert!(line.starts_with(id) && line.contains("running"), "{listed}");
    }
    let report = named(&["doctor", "by.name"]);
    assert!(report.contains("cards can be plugged"), "{report}");
    assert!(report.contains(&format!("netns      {netns}")), "{report}");
    assert_eq!(named(&["kata-network", "list-ifaces", "by.name"]), "null\n");
}

fn ended_pid() -> u32 {
    let mut child = std::process::Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    child.id()
}

#[test]
fn list_without_sandboxes_is_empty() {
    let dir = temp_dir();
    let list = |words: &[&str]| {
        let mut command = patchbay(dir.path(), words);
        run(command.env("PATCHBAY_KATA_ROOTS", dir.path()), "").ok()
    };
    assert_eq!(list(&["list"]), "[]\n");
    let header = "ID  STATE  MACHINE  AGENT  CARDS  NETNS\n";
    assert_eq!(list(&["list", "--format", "table"]), header);
}

#[test]
fn exec_of_missing_program_ends_as_in_a_shell() {
    let guest = Guest::start(Machine::Q35);
    for (program, status) in [("nosuch", 127), ("/proc", 126)] {
        let done = launcher(&guest, &["exec", guest.id(), "--", program]);
        assert_eq!(done.status, status, "{done}");
        let start = format!("the guest could not start {program}: ");
        assert!(done.err.starts_with(&start), "{done}");
    }
    assert_eq!(
        launcher(&guest, &["exec", guest.id(), "--", "sh", "-c", "exit 5"]).status,
        5
    );
}
