//! `exec`: runs a command in the guest with this process's standard streams.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::thread;
use std::time::Duration;

use patchbay_host::sandbox::{SandboxFile, SandboxId};
use patchbay_host::vsock_stream;
use patchbay_init::EXEC_PORT;
use patchbay_init::frame::{Frame, FrameError};
use patchbay_types::failure::Failure;
use patchbay_types::text::escape_controls;

use crate::image::Tools;
use crate::launch::LaunchError;
use crate::launch::registry::RegisteredSandbox;

/// Error of running a command in the guest.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The sandbox has no command server.
    #[error("sandbox {0} can't run commands: it was started without --tools")]
    NoTools(SandboxId),
    /// The command server can't be reached.
    #[error("could not connect to the command server of sandbox {id}")]
    Unreachable {
        /// Id of the sandbox.
        id: SandboxId,
        /// Error of the connection.
        source: io::Error,
    },
    /// The guest can't start the program.
    #[error("the guest could not start {program}: {reason}")]
    NotStarted {
        /// Name of the program.
        program: String,
        /// Error message of the guest, escaped.
        reason: String,
    },
    /// The connection ended before the command.
    #[error("the connection to the guest ended before the command")]
    ConnectionLost,
    /// A frame can't be sent or received.
    #[error("could not exchange data with the guest")]
    Frame(#[from] FrameError),
    /// The command's output can't be written.
    #[error("could not write the command's output")]
    Output(#[source] io::Error),
    /// The sandbox is not running.
    #[error(transparent)]
    Sandbox(#[from] LaunchError),
    /// `sandbox.json` is missing because the sandbox is starting, or it is invalid.
    #[error("could not read the sandbox's address")]
    SandboxFile(#[from] Failure),
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const INPUT_CHUNK_BYTES: usize = 32 * 1024;

/// Runs a command in the guest; returns its exit status, or 128 + the signal that killed it.
pub fn exec(sandbox: &RegisteredSandbox, command: Vec<OsString>) -> Result<i32, ExecError> {
    let mut connection = connect(sandbox)?;
    let program = command.first().cloned().unwrap_or_default();
    let arguments = command.into_iter().map(OsString::into_vec).collect();
    Frame::Command(arguments).write_to(&mut connection)?;
    let mut input = connection.try_clone().map_err(FrameError::from)?;
    // Never joined: if the command ends first, the thread is still blocked in its read.
    thread::spawn(move || send_input(&mut input));
    receive(&mut connection, &program.to_string_lossy())
}

fn connect(sandbox: &RegisteredSandbox) -> Result<File, ExecError> {
    let not_running = || LaunchError::NotRunning(sandbox.id.clone());
    let record = sandbox.record.as_ref().ok_or_else(not_running)?;
    sandbox.qemu().ok_or_else(not_running)?;
    if record.tools == Tools::Without {
        return Err(ExecError::NoTools(sandbox.id.clone()));
    }
    let agent = SandboxFile::read(sandbox.folder.path())?.endpoint()?;
    let unreachable = |source| ExecError::Unreachable {
        id: sandbox.id.clone(),
        source,
    };
    let stream =
        vsock_stream::connect(&agent.at_port(EXEC_PORT), CONNECT_TIMEOUT).map_err(unreachable)?;
    // A `File` reads and writes any descriptor.
    Ok(OwnedFd::from(stream).into())
}

fn send_input(connection: &mut File) {
    let mut buffer = vec![0; INPUT_CHUNK_BYTES];
    loop {
        let frame = match io::stdin().lock().read(&mut buffer) {
            Ok(0) => Frame::StdinEnd,
            Ok(length) => Frame::Stdin(buffer[..length].to_vec()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => Frame::StdinEnd,
        };
        // A failed write means that the command has ended; `receive` gets its status.
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
            Some(Frame::Stdout(bytes)) => write_all(&mut stdout, &bytes)?,
            Some(Frame::Stderr(bytes)) => write_all(&mut stderr, &bytes)?,
            Some(Frame::Exited(status)) => return Ok(status),
            Some(Frame::Failed(reason)) => {
                return Err(ExecError::NotStarted {
                    program: program.to_owned(),
                    reason: escape_controls(&reason),
                });
            }
            Some(Frame::Command(_) | Frame::Stdin(_) | Frame::StdinEnd) | None => {
                return Err(ExecError::ConnectionLost);
            }
        }
    }
}

fn write_all(out: &mut impl Write, bytes: &[u8]) -> Result<(), ExecError> {
    out.write_all(bytes)
        .and_then(|()| out.flush())
        .map_err(ExecError::Output)
}
