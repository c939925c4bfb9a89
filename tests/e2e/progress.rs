//! Progress of a rule file on a terminal, which `script` of util-linux provides.

use std::fmt::Write as _;
use std::process::Command;

use patchbay_tests::{Configure, Done, FakeAgent, Guest, Machine, bin, run};

/// Returns rules in several chunks.
fn rules(weight: u32) -> String {
    let mut text = String::new();
    for service in 0..2000 {
        let vip = format!("10.0.{}.{}:80", service / 250, service % 250);
        writeln!(text, "-A -t {vip} -s rr").unwrap();
        writeln!(text, "-a -t {vip} -r 10.9.0.1:80 -m -w {weight}").unwrap();
    }
    text
}

/// Restores the rules with standard error on a terminal, through another agent if one is given.
fn restore(guest: &Guest, agent: Option<&str>, options: &str, rules: &str) -> Done {
    let file = guest.file("rules");
    std::fs::write(&file, rules).unwrap();
    let agent = agent.map_or_else(String::new, |url| {
        let qmp = guest.file("qmp.sock");
        format!("--qmp {} --agent {url}", qmp.display())
    });
    let line = format!(
        "{} {agent} kata-ipvs ipvsadm --restore - {options} {} <{}",
        bin("patchbay").display(),
        guest.id(),
        file.display()
    );
    let mut terminal = Command::new("script");
    terminal.env("PATCHBAY_RUN_DIR", guest.run_dir());
    // Without it the terminal is taken for one that can't move its cursor.
    terminal.env("TERM", "xterm");
    run(terminal.args(["-q", "-e", "-c", &line, "/dev/null"]), "")
}

/// Returns the positions and lengths of the bars with this text, in the order in which they were drawn.
fn bars(shown: &Done, text: &str) -> Vec<(u32, u32)> {
    let bars = shown.out.split(['\r', '\n']).filter_map(|line| {
        let (numbers, _) = line.split_once(text)?;
        let mut words = numbers.split_whitespace().rev();
        let length = words.next()?.parse().ok()?;
        assert_eq!(words.next(), Some("of"), "{line:?}");
        Some((words.next()?.parse().ok()?, length))
    });
    bars.collect()
}

const WORK: &str = "changes made in the guest";

#[test]
fn restore_on_a_terminal_shows_the_guests_work() {
    let guest = Guest::start(Machine::Q35);
    let shown = restore(&guest, None, "", &rules(1));
    let drawn = bars(&shown, WORK);
    assert_eq!(shown.status, 0, "{shown}");
    assert!(drawn.is_sorted() && drawn.len() > 2, "{shown}");
    assert!(drawn[0].0 < 4000, "{shown}");
    assert_eq!(drawn.last(), Some(&(4000, 4000)), "{shown}");

    // Only the changes count.
    let shown = restore(&guest, None, "--replace", &rules(2));
    assert_eq!(bars(&shown, WORK).last(), Some(&(2000, 2000)), "{shown}");
    let shown = restore(&guest, None, "--replace", &rules(2));
    assert_eq!((shown.status, bars(&shown, WORK)), (0, vec![]), "{shown}");

    // The error of a file that the kernel refuses is the last line.
    let bad = rules(3).replacen("10.0.7.0:80 -s rr", "10.0.7.0:80 -s nosuch", 1);
    let shown = restore(&guest, None, "--replace", &bad);
    assert_ne!(shown.status, 0, "{shown}");
    let last = shown.out.trim_end().rsplit(['\r', '\n']).next().unwrap();
    assert!(last.contains("nosuch"), "{shown}");

    // Nothing is shown without a terminal.
    let plain = guest.restore(&["--replace"], &rules(1));
    assert_eq!((plain.status, plain.err.as_str()), (0, ""));
}

#[test]
fn restore_by_an_agent_without_progress_shows_the_sending() {
    let guest = Guest::start(Machine::Q35);
    let socket = guest.file("fake.sock");
    let _agent = FakeAgent::serve(&socket, Configure::Hang);
    let url = format!("unix://{}", socket.display());
    let shown = restore(&guest, Some(&url), "", &rules(1));
    assert_eq!(shown.status, 0, "{shown}");
    assert_eq!(bars(&shown, WORK), [], "{shown}");
    let sent = bars(&shown, "rules sent; the guest applies them");
    assert_eq!(sent.last(), Some(&(4000, 4000)), "{shown}");
}
