//! `list`: the sandboxes as a table or as JSON.

use std::io::{self, Write};
use std::path::PathBuf;

use serde::Serialize;

use crate::launch::qemu::Machine;
use crate::launch::registry::Sandbox;

#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Running,
    Dead,
}

#[derive(Debug, Serialize)]
struct Row {
    id: String,
    state: State,
    pid: Option<u32>,
    machine: Option<Machine>,
    netns: Option<PathBuf>,
}

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A table for people.
    Table,
    /// A JSON array.
    Json,
}

/// Prints the sandboxes to `out`.
pub fn print(sandboxes: &[Sandbox], form: Form, out: &mut impl Write) -> io::Result<()> {
    let rows: Vec<Row> = sandboxes.iter().map(row).collect();
    match form {
        Form::Json => writeln!(out, "{}", serde_json::to_string_pretty(&rows)?),
        Form::Table => rows.iter().try_for_each(|row| print_row(row, out)),
    }
}

fn row(sandbox: &Sandbox) -> Row {
    let qemu = sandbox.qemu();
    let record = sandbox.record.as_ref();
    Row {
        id: sandbox.id.to_string(),
        state: if qemu.is_some() {
            State::Running
        } else {
            State::Dead
        },
        pid: qemu.map(|process| process.pid),
        machine: record.map(|record| record.machine),
        netns: record.and_then(|record| record.netns.clone()),
    }
}

fn print_row(row: &Row, out: &mut impl Write) -> io::Result<()> {
    let Row {
        id,
        state,
        pid,
        machine,
        netns,
    } = row;
    let state = match state {
        State::Running => "running",
        State::Dead => "dead",
    };
    let machine = match machine {
        Some(Machine::Q35) => "q35",
        Some(Machine::Pc) => "pc",
        None => "-",
    };
    let pid = pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
    let netns = netns
        .as_ref()
        .map_or_else(|| "-".into(), |path| path.to_string_lossy());
    writeln!(out, "{id:<24} {state:<8} {pid:>8} {machine:<4} {netns}")
}
