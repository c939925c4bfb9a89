//! `exec`: runs a command in the guest with this process's standard streams.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::thread;
use std::time::Duration;

use patchbay_host::ops;
use patchbay_host::sandbox::SandboxFile;
use patchbay_host::vsock_stream;
use patchbay_init::EXEC_PORT;
use patchbay_init::frame::{Frame, FrameError};

use crate::error::Error;
use crate::image::Tools;
use crate::launch::registry::RegisteredSandbox;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const INPUT_CHUNK_BYTES: usize = 32 * 1024;

/// Runs a command in the guest; returns the status of [`Frame::Exited`].
pub(crate) fn exec(sandbox: &RegisteredSandbox, command: Vec<OsString>) -> Result<i32, Error> {
    let mut connection = connect(sandbox)?;
    let arguments = command.into_iter().map(OsString::into_vec).collect();
    Frame::Command(arguments).write_to(&mut connection)?;
    let mut input = connection.try_clone().map_err(FrameError::from)?;
    // Never joined: if the command ends first, the thread is still blocked in its read.
    thread::spawn(move || send_input(&mut input));
    receive(&mut connection)
}

fn connect(sandbox: &RegisteredSandbox) -> Result<File, Error> {
    let not_running = || Error::NotRunning(sandbox.id.clone());
    let record = sandbox.record.as_ref().ok_or_else(not_running)?;
    let qemu = sandbox.qemu().ok_or_else(not_running)?;
    if record.tools == Tools::Without {
        return Err(Error::NoTools(sandbox.id.clone()));
    }
    let file = SandboxFile::read(sandbox.folder.path());
    let file = file.map_err(Error::SandboxFile)?;
    let port = file
        .endpoint()
        .map_err(Error::SandboxFile)?
        .at_port(EXEC_PORT);
    ops::check_port(&file.qmp, qemu.process.pid, &port).map_err(Error::NotReady)?;
    let unreachable = |source| Error::Unreachable {
        id: sandbox.id.clone(),
        source,
    };
    let stream = vsock_stream::connect(&port, CONNECT_TIMEOUT).map_err(unreachable)?;
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

fn receive(connection: &mut File) -> Result<i32, Error> {
    let mut stdout = io::stdout().lock();
    let mut stderr = io::stderr().lock();
    loop {
        match Frame::read_from(connection)? {
            Some(Frame::Stdout(bytes)) => write_all(&mut stdout, &bytes)?,
            Some(Frame::Stderr(bytes)) => write_all(&mut stderr, &bytes)?,
            Some(Frame::Exited(status)) => return Ok(status),
            Some(Frame::Command(_) | Frame::Stdin(_) | Frame::StdinEnd) | None => {
                return Err(Error::ConnectionLost);
            }
        }
    }
}

fn write_all(out: &mut impl Write, bytes: &[u8]) -> Result<(), Error> {
    out.write_all(bytes)
        .and_then(|()| out.flush())
        .map_err(Error::CommandOutput)
}
