//! `start`: checks everything that can be checked, claims the name, then attempts.

use std::ffi::OsString;
use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use patchbay_types::endpoint::Endpoint;

use super::LaunchError;
use super::accel::{self, AccelChoice};
use super::attempt::{Attempt, Plan};
use super::folder::{Description, Folder};
use super::interrupt::Interrupts;
use super::processes::{ProcessRecord, Role};
use super::qemu::{Machine, QEMU, QemuConfig, Version, VsockDevice};
use super::registry::{Record, RunDir, SandboxId};
use super::spawn::find_program;
use super::vsock::{self, DAEMON};
use crate::image::{Image, Tools};

/// What to start.
#[derive(Debug, Clone)]
pub struct StartOptions {
    /// Its name.
    pub id: SandboxId,
    /// The machine's kind.
    pub machine: Machine,
    /// KVM or not.
    pub accel: AccelChoice,
    /// Number of virtual CPUs.
    pub cpus: u8,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Number of root ports of a `q35` machine.
    pub ports: u8,
    /// The network namespace for QEMU.
    pub netns: Option<PathBuf>,
    /// Which archives to boot.
    pub tools: Tools,
    /// What to boot.
    pub image: Image,
    /// How long to wait for the agent.
    pub timeout: Duration,
    /// More arguments for QEMU.
    pub extra: Vec<OsString>,
}

/// Starts a sandbox and returns when its agent answers; `note` gets what the user should know.
pub fn start(
    run_dir: &RunDir,
    options: &StartOptions,
    note: &mut dyn FnMut(&str),
) -> Result<Description, LaunchError> {
    let plan = plan(options, &run_dir.folder(&options.id), note)?;
    let interrupts = Interrupts::hold().map_err(LaunchError::Signals)?;
    let launcher = ProcessRecord::of(Role::Launcher, std::process::id());
    let record = Record {
        machine: options.machine,
        tools: options.tools,
        netns: options.netns.clone(),
        processes: launcher.into_iter().collect(),
    };
    let folder = run_dir.claim(&options.id, &record)?;
    let attempt = Attempt::new(options.id.clone(), folder, record, interrupts);
    attempt.run(run_dir, &plan)
}

/// Finds all that is needed, so that the most likely mistakes cost nothing.
fn plan(
    options: &StartOptions,
    folder: &Folder,
    note: &mut dyn FnMut(&str),
) -> Result<Plan, LaunchError> {
    folder.check_socket_paths()?;
    if let Some(path) = &options.netns {
        File::open(path).map_err(|source| LaunchError::Netns {
            path: path.clone(),
            source,
        })?;
    }
    let qemu = program(QEMU, "Debian's package qemu-system-x86 has it")?;
    let agent = vsock::choose(&folder.vsock());
    let (daemon, vsock) = match agent {
        Endpoint::Vsock { cid, .. } => (None, VsockDevice::Kernel { cid }),
        Endpoint::Hybrid { .. } | Endpoint::Unix(_) => {
            let daemon = program(DAEMON, "cargo install --locked vhost-device-vsock")?;
            let socket = folder.vhost();
            (Some(daemon), VsockDevice::VhostUser { socket })
        }
    };
    let decision = accel::decide_here(options.accel);
    let warning = Version::of_installed(&qemu).and_then(Version::warning);
    for line in decision.note.iter().chain(&warning) {
        note(line);
    }
    let config = QemuConfig {
        machine: options.machine,
        accel: decision.accel,
        cpus: options.cpus,
        memory_mib: options.memory_mib,
        ports: options.ports,
        kernel: options.image.vmlinux()?,
        initrd: options.image.initrd(options.tools)?,
        console: folder.console(),
        qmp: folder.qmp(),
        vsock,
        extra: options.extra.clone(),
    };
    Ok(Plan {
        qemu,
        config,
        daemon,
        agent,
        netns: options.netns.clone(),
        timeout: options.timeout,
    })
}

fn program(name: &'static str, hint: &'static str) -> Result<PathBuf, LaunchError> {
    find_program(name).ok_or(LaunchError::MissingProgram {
        program: name,
        hint,
    })
}
