//! A system call of a command fails: the command ends with a clear error and leaves everything as it was,
//! or it does without the call.
//!
//! Each call with an effect fails once, with an error that it can have; `make test-full` tries all of its
//! errors. Queries of QEMU change nothing, so only the first fails.

use std::cell::Cell;
use std::io;
use std::process::Command;

use nix::errno::Errno;
use patchbay_tests::tracer::{fail_at, steps};
use patchbay_tests::{Card, Done, Extent, Guest, Machine, patchbay, rng};

use crate::kill_anywhere::Outside;

fn card() -> Card {
    Card::named("eth-test").address("172.16.0.3/16").queues(2)
}

/// Returns errors of the call with this label.
fn errors(label: &str) -> &'static [Errno] {
    match label.split(' ').next().unwrap() {
        "create" => &[Errno::ENOSPC, Errno::EMFILE, Errno::EINTR],
        "mkdir" | "rename" => &[Errno::ENOSPC, Errno::EIO],
        "write" => &[Errno::ENOSPC, Errno::EIO, Errno::EINTR],
        "fsync" | "unlink" | "print" => &[Errno::EIO, Errno::ENOSPC],
        "connect" => &[Errno::EINTR, Errno::ENOMEM],
        "flock" => &[Errno::EINTR, Errno::ENOLCK],
        // Messages to QEMU and the agent.
        "qmp" | "rpc" | "send" => &[Errno::EPIPE, Errno::ENOMEM, Errno::EINTR],
        "handshake" => &[Errno::ENOMEM, Errno::EINTR],
        // Requests about a network device.
        _ => &[Errno::ENOMEM, Errno::EIO],
    }
}

/// Returns the error of a request about a link that another process is changing.
pub(crate) fn busy(label: &str) -> &'static [Errno] {
    match label {
        "send" => &[Errno::EBUSY],
        _ => errors(label),
    }
}

/// Command with its standard input, and the errors of its calls.
pub(crate) type Failing<'a> = (&'a Command, &'a str, fn(&str) -> &'static [Errno]);

/// Lets each step of a command fail once. `before` prepares each run; `kept` asserts the old state.
pub(crate) fn sweep(
    (command, input, errors): Failing<'_>,
    before: impl Fn(),
    kept: impl Fn(&str),
    complete: impl Fn(&str),
) {
    let mut rng = rng();
    before();
    let (steps, done) = steps(command, input);
    done.ok();
    let (mut failed, mut survived) = (0, 0);
    let (mut queries, mut locks) = (0, 0);
    let mut unclear = Vec::new();
    for (step, label) in steps.iter().enumerate() {
        queries += usize::from(label.starts_with("qmp q"));
        locks += usize::from(label == "flock");
        // Every second one releases the lock, which can't fail.
        let is_release = label == "flock" && locks % 2 == 0;
        if is_release || (label.starts_with("qmp q") && queries > 1) {
            continue;
        }
        let errors = errors(label);
        let one = rng.usize(..errors.len());
        for (position, errno) in errors.iter().enumerate() {
            if position != one && Extent::of_run() == Extent::Sample {
                continue;
            }
            before();
            let (at, done) = fail_at(command, input, step, *errno);
            let at = at.unwrap_or_else(|| panic!("no step {step}, {label}: {done}"));
            let context = format!("{errno} of {at} ({step}): {done}");
            eprintln!("{context}");
            match done.status {
                0 => {
                    survived += 1;
                    complete(&context);
                }
                _ if at == "print" => complete(&context),
                _ => {
                    failed += 1;
                    if !is_clear(&done, *errno) {
                        unclear.push(context.clone());
                    }
                    kept(&context);
                }
            }
        }
    }
    eprintln!("{failed} calls failed the command, {survived} did not");
    assert!(failed > 0);
    assert!(unclear.is_empty(), "{unclear:#?}");
}

/// Returns whether the error names its cause.
fn is_clear(done: &Done, errno: Errno) -> bool {
    (1..=9).contains(&done.status)
        && done.err.starts_with("patchbay: ")
        && done.err.contains(&io::Error::from(errno).to_string())
}

fn kata_network(guest: &Guest, command: &str) -> Command {
    patchbay(guest.run_dir(), &["kata-network", command, guest.id(), "-"])
}

fn assert_plugged(guest: &Guest, context: &str) {
    let listed = guest.kata_network("list-ifaces", "").json();
    assert_eq!(listed[0]["name"], "eth-test", "{context}");
    assert_eq!(listed[0]["state"], serde_json::Value::Null, "{context}");
    let inside = guest.ip("addr show eth-test");
    assert_eq!(
        inside[0]["addr_info"][0]["local"], "172.16.0.3",
        "{context}"
    );
}

#[test]
fn plug_with_a_failing_call_is_undone() {
    let guest = Guest::start(Machine::Q35);
    guest.plug(&card()).ok();
    guest.unplug(&card()).ok();
    let absent = guest.snapshot();
    sweep(
        (&kata_network(&guest, "add-iface"), &card().json(), errors),
        || drop(guest.unplug(&card()).ok()),
        |context| {
            assert_eq!(guest.snapshot(), absent, "{context}");
            guest.kata_network("list-ifaces", "").assert_null();
        },
        |context| assert_plugged(&guest, context),
    );
}

#[test]
fn unplug_with_a_failing_call_has_no_effect_or_can_be_repeated() {
    let guest = Guest::start(Machine::Q35);
    guest.plug(&card()).ok();
    guest.unplug(&card()).ok();
    let absent = guest.snapshot();
    sweep(
        (&kata_network(&guest, "del-iface"), &card().json(), errors),
        || drop(guest.plug(&card()).ok()),
        |context| {
            let listed = guest.kata_network("list-ifaces", "").json();
            // A request to unplug can't be taken back.
            if listed.is_null() || !listed[0]["state"].is_null() {
                guest.unplug(&card()).ok();
                assert_eq!(guest.snapshot(), absent, "{context}");
            } else {
                assert_plugged(&guest, context);
            }
        },
        |context| assert_eq!(guest.snapshot(), absent, "{context}"),
    );
}

#[test]
fn mirror_with_a_failing_call_is_undone() {
    let guest = Guest::start(Machine::Q35);
    for words in [
        "link add net1 type veth peer peer1",
        "link set net1 up",
        "link set peer1 up",
        "addr add 172.16.0.3/16 dev net1",
    ] {
        guest.netns().ip(words).ok();
    }
    let words = [
        "nic",
        "add",
        guest.id(),
        "--link",
        "net1",
        "--name",
        "eth-test",
    ];
    let add = patchbay(guest.run_dir(), &words);
    let del = ["nic", "del", guest.id(), "--name", "eth-test"];
    guest.patchbay(&words).ok();
    guest.patchbay(&del).ok();
    let absent = Outside::of(&guest);
    let repeated = Cell::new(0);
    sweep(
        (&add, "", busy),
        || drop(guest.patchbay(&del)),
        |context| assert_eq!(Outside::of(&guest), absent, "{context}"),
        |context| {
            assert_plugged(&guest, context);
            let is_busy = context.starts_with("EBUSY");
            repeated.set(repeated.get() + u32::from(is_busy));
        },
    );
    // The requests for two qdiscs and two filters.
    assert_eq!(repeated.get(), 4);
}
