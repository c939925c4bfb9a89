//! `exec`: a command in the guest, with this process's input and output.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::thread;
use std::time::Duration;

use patchbay_host::vsock_stream;
use patchbay_init::EXEC_PORT;
use patchbay_init::frame::{Frame, FrameError};
use patchbay_types::InvalidValue;
use patchbay_types::endpoint::Endpoint;

use crate::image::Tools;
use crate::launch::LaunchError;
use crate::launch::registry::{Sandbox, SandboxId};

/// A command that could not be run to its end.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// Only an image with tools has a command server.
    #[error("The sandbox {0} was started without --tools, so it can run no commands.")]
    NoTools(SandboxId),
    /// The command server can't be reached.
    #[error("The command server of the sandbox {id} can't be reached.")]
    Unreachable {
        /// The sandbox.
        id: SandboxId,
        /// Why.
        source: io::Error,
    },
    /// The guest can't start it.
    #[error("The guest can't start {program}: {reason}")]
    NotStarted {
        /// The command's program.
        program: String,
        /// The guest's words, made safe for a terminal.
        reason: String,
    },
    /// The connection ended first.
    #[error("The connection to the guest ended before the command did.")]
    Cut,
    /// The guest speaks something else.
    #[error("The guest's answer can't be read.")]
    Frame(#[from] FrameError),
    /// Our own output can't be written.
    #[error("The command's output can't be written.")]
    Output(#[source] io::Error),
    /// The sandbox isn't there, or doesn't run.
    #[error(transparent)]
    Sandbox(#[from] LaunchError),
    /// The sandbox's own description is wrong.
    #[error("The address in the sandbox's own description is wrong.")]
    Address(#[from] InvalidValue),
}

const PATIENCE: Duration = Duration::from_secs(5);
const STEP: usize = 32 * 1024;

/// Runs `command` in the guest; its status, or 128 + the signal that killed it.
pub fn exec(sandbox: &Sandbox, command: Vec<OsString>) -> Result<i32, ExecError> {
    let mut connection = connect(sandbox)?;
    let program = command.first().cloned().unwrap_or_default();
    let words = command.into_iter().map(OsString::into_vec).collect();
    Frame::Command(words).write_to(&mut connection)?;
    let mut input = connection.try_clone().map_err(FrameError::from)?;
    // Left behind when the command ends first: nothing can wake it from reading our input.
    thread::spawn(move || send_input(&mut input));
    receive(&mut connection, &program.to_string_lossy())
}

fn connect(sandbox: &Sandbox) -> Result<File, ExecError> {
    let not_running = || LaunchError::NotRunning(sandbox.id.clone());
    let record = sandbox.record.as_ref().ok_or_else(not_running)?;
    sandbox.qemu().ok_or_else(not_running)?;
    let description = sandbox.folder.read_description()?.ok_or_else(not_running)?;
    if record.tools == Tools::Without {
        return Err(ExecError::NoTools(sandbox.id.clone()));
    }
    let agent: Endpoint = description.agent.parse()?;
    let unreachable = |source| ExecError::Unreachable {
        id: sandbox.id.clone(),
        source,
    };
    let stream = vsock_stream::connect(&agent.at_port(EXEC_PORT), PATIENCE).map_err(unreachable)?;
    // Any descriptor can become a file, and a file reads and writes.
    Ok(OwnedFd::from(stream).into())
}

fn send_input(connection: &mut File) {
    let mut buffer = vec![0; STEP];
    loop {
        let frame = match io::stdin().lock().read(&mut buffer) {
            Ok(0) => Frame::StdinEnd,
            Ok(length) => Frame::Stdin(buffer[..length].to_vec()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => Frame::StdinEnd,
        };
        // A command that has ended takes no more input; the other side says so itself.
        if frame.write_to(connection).is_err() || frame == Frame::StdinEnd {
            return;
        }
    }
}

fn receive(connection: &mut File, program: &str) -> Result<i32, ExecError> {
    let mut stdout = io::stdout().lock();
    let mut stderr = io::stderr().lock();
    loop {
        match Frame::read_from(connection)? {
            Some(Frame::Stdout(bytes)) => put(&mut stdout, &bytes)?,
            Some(Frame::Stderr(bytes)) => put(&mut stderr, &bytes)?,
            Some(Frame::Exited(status)) => return Ok(status),
            Some(Frame::Failed(reason)) => {
                return Err(ExecError::NotStarted {
                    program: program.to_owned(),
                    reason: crate::text::escaped(&reason),
                });
            }
            Some(Frame::Command(_) | Frame::Stdin(_) | Frame::StdinEnd) | None => {
                return Err(ExecError::Cut);
            }
        }
    }
}

fn put(out: &mut impl Write, bytes: &[u8]) -> Result<(), ExecError> {
    out.write_all(bytes)
        .and_then(|()| out.flush())
        .map_err(ExecError::Output)
}
