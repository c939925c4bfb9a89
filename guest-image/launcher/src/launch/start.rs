//! `start`: checks prerequisites, claims the id, then starts the processes.

use std::ops::ControlFlow;
use std::time::Instant;

use patchbay_host::netns::Netns;
use patchbay_types::endpoint::Endpoint;

use super::accel;
use super::attempt::{Attempt, StartPlan};
use super::folder::{Folder, VSOCK};
use super::interrupt::Interrupts;
use super::options::{MachineType, StartOptions};
use super::processes::{ProcessRecord, ProcessRole, Record};
use super::qemu::{self, QemuCommand};
use super::registry::RunDir;
use super::spawn::find_program;
use super::vsock::{self, DAEMON, INSTALL_DAEMON};
use crate::error::Error;

/// Starts a sandbox and returns once its agent answers. `note` receives messages for the user.
pub(crate) fn start(
    run_dir: &RunDir,
    options: &StartOptions,
    note: &mut dyn FnMut(&str),
) -> Result<(), Error> {
    let machine = options.machine()?;
    let plan = plan(options, machine, &run_dir.folder(&options.id), note)?;
    let interrupts = Interrupts::hold().map_err(Error::Signals)?;
    let launcher = ProcessRecord::of(ProcessRole::Launcher, std::process::id());
    let record = Record {
        machine,
        tools: options.image.tools(),
        netns: options.netns.clone(),
        processes: launcher.into_iter().collect(),
    };
    let folder = run_dir.claim(&options.id, &record, |_, interval| {
        if interrupts.interrupted_within(interval) {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    })?;
    let attempt = Attempt {
        id: options.id.clone(),
        folder,
        record,
        interrupts,
        plan: &plan,
        deadline: Instant::now() + plan.timeout,
        children: Vec::new(),
    };
    attempt.run(run_dir)
}

/// Finds everything that the start needs, so that most errors occur before it has any effect.
fn plan(
    options: &StartOptions,
    machine: MachineType,
    folder: &Folder,
    note: &mut dyn FnMut(&str),
) -> Result<StartPlan, Error> {
    folder.check_socket_paths()?;
    let netns = options.netns.as_deref().map(Netns::open).transpose();
    let netns = netns.map_err(Error::Netns)?;
    let (program, package) = machine.architecture().qemu();
    let qemu = find_program(program, package)?;
    let agent = vsock::choose(&folder.file(VSOCK));
    let daemon = match agent {
        Endpoint::Vsock { .. } => None,
        _ => Some(find_program(DAEMON, INSTALL_DAEMON)?),
    };
    let decision = accel::decide_here(options.accel, machine.architecture());
    for line in decision.note.iter().chain(&qemu::version_warning(&qemu)) {
        note(line);
    }
    let command = QemuCommand {
        options,
        machine,
        accel: decision.accel,
        kernel: &options.image.vmlinux()?,
        initrd: &options.image.initrd()?,
        folder,
        agent: &agent,
    };
    Ok(StartPlan {
        arguments: command.arguments(),
        qemu,
        daemon,
        agent,
        netns,
        timeout: options.timeout,
    })
}
