//! Reaching the agent of a machine.
//!
//! The agent of a machine that is paused, frozen or starting doesn't answer, and on hybrid vsock the
//! attempt can break the way to it: `vhost-device-vsock` 0.3, the proxy on hosts without the kernel's
//! vsock, loses its only worker if a connection is closed before the guest has accepted it. So QEMU is
//! queried first. With the kernel's vsock it is too: the CID of a machine that has ended can belong to another
//! one, and only QEMU has the proof. A Unix socket needs no such care: if it fails, the reason is looked up.

use std::path::Path;
use std::time::Duration;

use patchbay_types::endpoint::Endpoint;
use patchbay_types::failure::{Failure, Kind};

use crate::agent::{self, AnyAgent};
use crate::qmp::command::{QomGet, QueryVirtio, QueryVirtioStatus, VirtioInfo};
use crate::qmp::{Error, Monitor, Session};
use crate::sandbox::{Lock, Sandbox};

/// Limit for the greeting where another client can use the monitor.
pub(crate) const SHORT_TIMEOUT: Duration = Duration::from_millis(200);

/// Connects to the agent of a sandbox.
///
/// # Errors
/// [`Kind::NotYet`] if the machine doesn't run, its monitor gives no answer or its guest is starting;
/// [`Kind::Timeout`] and [`Kind::NotFound`] if the agent doesn't answer.
pub(crate) fn connect(sandbox: &Sandbox) -> Result<AnyAgent, Failure> {
    let is_hybrid = matches!(sandbox.agent, Endpoint::Hybrid { .. });
    let is_held = sandbox.state().is_ok_and(|state| Lock::is_held(&state));
    if !is_hybrid || !is_held {
        return connect_alone(sandbox);
    }
    let monitor = sandbox.monitor();
    // The process that holds the lock has queried the machine.
    check_unless_busy(monitor, &sandbox.agent)?;
    let explain = |failure| explain(Session::connect_within(monitor, SHORT_TIMEOUT), failure);
    agent::connect(&sandbox.agent, &sandbox.interrupt).map_err(explain)
}

/// Connects for a process that holds the lock, or if no process does.
pub(crate) fn connect_alone(sandbox: &Sandbox) -> Result<AnyAgent, Failure> {
    match &sandbox.agent {
        Endpoint::Hybrid { .. } => {
            check(&mut Session::connect(sandbox.monitor())?, &sandbox.agent)?;
        }
        Endpoint::Vsock { .. } => check_unless_busy(sandbox.monitor(), &sandbox.agent)?,
        Endpoint::Unix(_) => {}
    }
    let explain = |failure| explain(Session::connect(sandbox.monitor()), failure);
    agent::connect(&sandbox.agent, &sandbox.interrupt).map_err(explain)
}

/// Replaces a failure to connect by its cause if the machine doesn't run.
fn explain(session: Result<Session, Error>, failure: Failure) -> Failure {
    match session {
        Ok(session) => session
            .check_running()
            .map_or_else(Failure::from, |()| failure),
        Err(stopped @ Error::Stopped { .. }) => stopped.into(),
        Err(_) => failure,
    }
}

/// Checks that a connection to a port of the guest breaks no proxy. A monitor that another client uses
/// can't be queried, and doesn't prevent the connection. `qemu` is the process id of QEMU.
///
/// # Errors
/// [`Kind::NotYet`] if the machine does not run, its monitor gives no answer or its guest is starting.
pub fn check_port(qmp: &Path, qemu: u32, port: &Endpoint) -> Result<(), Failure> {
    let monitor = Monitor {
        path: qmp,
        qemu: Some(qemu),
        shared: None,
    };
    match port {
        Endpoint::Hybrid { .. } | Endpoint::Vsock { .. } => check_unless_busy(monitor, port),
        Endpoint::Unix(_) => Ok(()),
    }
}

fn check_unless_busy(monitor: Monitor<'_>, endpoint: &Endpoint) -> Result<(), Failure> {
    match Session::connect_within(monitor, SHORT_TIMEOUT) {
        Err(Error::Busy { .. } | Error::NoVirsh { .. } | Error::Libvirt { .. }) => Ok(()),
        session => check(&mut session?, endpoint),
    }
}

/// Connects over a session that is open already.
pub(crate) fn connect_over(qmp: &mut Session, sandbox: &Sandbox) -> Result<AnyAgent, Failure> {
    check(qmp, &sandbox.agent)?;
    agent::connect(&sandbox.agent, &sandbox.interrupt)
}

/// # Errors
/// [`Kind::NotYet`] if a connection to this port could break a vsock proxy.
pub(crate) fn check(qmp: &mut Session, endpoint: &Endpoint) -> Result<(), Failure> {
    qmp.check_running()?;
    match endpoint {
        Endpoint::Hybrid { .. } if !has_vsock_driver(qmp)? => {
            let message = "the guest is starting: it has no vsock driver yet";
            Err(Failure::new(Kind::NotYet, message))
        }
        Endpoint::Vsock { cid, .. } => check_cid(qmp, *cid),
        Endpoint::Hybrid { .. } | Endpoint::Unix(_) => Ok(()),
    }
}

/// Checks that the CID is that of the machine. Until QEMU 7.2, and for a vsock device in another process, the
/// machine's CID is unknown.
fn check_cid(qmp: &mut Session, cid: u32) -> Result<(), Failure> {
    let devices = vsock_devices(qmp)?;
    let paths = devices.iter().map(|device| &device.path);
    let property = "guest-cid";
    let queries: Vec<_> = paths.map(|path| QomGet { path, property }).collect();
    let found = qmp.run_all(&queries)?.into_iter().flatten();
    let found: Vec<u64> = found.filter_map(|value| value.as_u64()).collect();
    match found.first() {
        Some(own) if !found.contains(&cid.into()) => {
            let message =
                format!("the agent at CID {cid} is in another guest: the machine has CID {own}");
            let advice = "correct the agent's address, or remove what is left of an ended machine";
            Err(Failure::new(Kind::Denied, message).with_cause(advice))
        }
        _ => Ok(()),
    }
}

/// Lists the vsock devices; none until QEMU 7.2.
fn vsock_devices(qmp: &mut Session) -> Result<Vec<VirtioInfo>, Error> {
    let mut devices = match qmp.run(&QueryVirtio {}) {
        Err(Error::Refused { .. }) => Vec::new(),
        devices => devices?,
    };
    devices.retain(|device| device.name.contains("vsock"));
    Ok(devices)
}

/// Returns whether the guest's driver uses the vsock device. Until QEMU 7.2 the answer is unknown.
fn has_vsock_driver(qmp: &mut Session) -> Result<bool, Error> {
    if let Some(vsock) = qmp.vsock() {
        return Ok(vsock.vhost_started);
    }
    let devices = vsock_devices(qmp)?;
    let paths = devices.iter().map(|device| &device.path);
    let queries: Vec<_> = paths.map(|path| QueryVirtioStatus { path }).collect();
    let started = qmp.run_all(&queries)?.into_iter();
    Ok(started.flatten().all(|status| status.vhost_started))
}
