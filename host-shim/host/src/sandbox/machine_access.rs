//! Sandboxes from the access to their machines, which options, the configuration or files give.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;

use patchbay_types::endpoint::Endpoint;
use patchbay_types::failure::Failure;

use super::id::SandboxId;
use super::machine::no_monitor;
use super::registry::netns_path;
use super::{Lookup, MachineAccess, NamedMachine, Sandbox, libvirt};

/// Returns a sandbox whose QEMU is not registered.
pub(super) fn with_access(
    lookup: &Lookup,
    id: SandboxId,
    access: MachineAccess,
    earlier_state: PathBuf,
) -> Sandbox {
    let MachineAccess { qmp, agent, netns } = access;
    Sandbox {
        id,
        qmp,
        agent,
        netns: netns.as_deref().map(netns_path),
        run_dir: lookup.run_dir.clone(),
        earlier_state,
        pid: None,
        shared_monitor: None,
        interrupt: lookup.interrupt.clone(),
    }
}

/// Returns a domain of libvirt; without a namespace, its TAP devices are in the caller's.
pub(super) fn from_libvirt(
    lookup: &Lookup,
    id: SandboxId,
    domain: libvirt::Domain,
    agent: Endpoint,
    netns: Option<PathBuf>,
) -> Sandbox {
    // No earlier release knows domains.
    let earlier_state = lookup.run_dir.join(".libvirt").join(id.as_str());
    let qmp = domain.qmp;
    let access = MachineAccess { qmp, agent, netns };
    Sandbox {
        pid: Some(domain.pid),
        shared_monitor: domain.shared,
        ..with_access(lookup, id, access, earlier_state)
    }
}

/// Returns a machine that the configuration names.
pub(super) fn from_configuration(
    lookup: &Lookup,
    id: SandboxId,
    machine: &NamedMachine,
) -> Result<Sandbox, Failure> {
    let NamedMachine { qmp, agent, netns } = machine.clone();
    let Some(qmp) = qmp else {
        let domain = libvirt::read(&libvirt::status(&lookup.kata_roots, &id)?, &id)?;
        return Ok(from_libvirt(lookup, id, domain, agent, netns));
    };
    from_flags(lookup, id, &MachineAccess { qmp, agent, netns })
}

/// Returns a machine that is not registered.
pub(super) fn from_flags(
    lookup: &Lookup,
    id: SandboxId,
    machine: &MachineAccess,
) -> Result<Sandbox, Failure> {
    let run_dir = &lookup.run_dir;
    let MachineAccess { qmp, agent, netns } = machine.clone();
    let qmp = qmp
        .canonicalize()
        .map_err(|error| no_monitor(&qmp, &error))?;
    // Another compiler can return another hash; then the earlier state is not found.
    let mut hash = DefaultHasher::new();
    qmp.hash(&mut hash);
    let earlier = format!("{:016x}", hash.finish());
    let access = MachineAccess { qmp, agent, netns };
    Ok(with_access(
        lookup,
        id,
        access,
        run_dir.join(".by-hand").join(earlier),
    ))
}
