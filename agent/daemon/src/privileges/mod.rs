//! Privileges of the agent and of the process that loads its modules: capabilities, and the system calls that
//! they and their libraries use.
//!
//! They bound the damage of a bug that a container exploits (docs/decisions/0005).

mod by_architecture;
mod landlock;
mod seccomp;
mod user;

use std::path::PathBuf;

use caps::{CapSet, Capability, CapsHashSet};
use nix::sys::prctl;

pub use landlock::Access;
pub use user::AGENT_ID;

/// Process with a separate set of privileges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Serves the host: `CAP_NET_ADMIN` for netlink, and `CAP_NET_BIND_SERVICE`, permitted, but effective
    /// only while a sync daemon is started ([`BindPrivilege`]).
    ///
    /// [`BindPrivilege`]: patchbay_netcfg::privilege::BindPrivilege
    Agent,
    /// Loads modules ([`loader`]): `CAP_SYS_MODULE`. IPVS, its schedulers and conntrack are needed at any
    /// time.
    ///
    /// [`loader`]: crate::loader
    Loader,
    /// Starts agents in other network namespaces ([`namespaces`]): `CAP_SYS_ADMIN` to enter one,
    /// `CAP_SYS_PTRACE` to find it by a process, and the capabilities that the agents keep or need to drop
    /// the others.
    ///
    /// [`namespaces`]: crate::namespaces
    Supervisor,
}

impl Profile {
    fn effective(self) -> &'static [Capability] {
        match self {
            Self::Agent => &[Capability::CAP_NET_ADMIN],
            Self::Loader => &[Capability::CAP_SYS_MODULE],
            Self::Supervisor => &[
                Capability::CAP_SYS_ADMIN,
                Capability::CAP_SYS_PTRACE,
                Capability::CAP_SETPCAP,
                Capability::CAP_NET_ADMIN,
                Capability::CAP_NET_BIND_SERVICE,
                Capability::CAP_SYS_MODULE,
            ],
        }
    }

    fn on_demand(self) -> Option<Capability> {
        match self {
            Self::Agent => Some(Capability::CAP_NET_BIND_SERVICE),
            Self::Loader | Self::Supervisor => None,
        }
    }
}

/// Privileges that could not be given up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A capability can't be dropped.
    #[error("could not drop capabilities")]
    Capabilities(#[from] caps::errors::CapsError),
    /// `PR_SET_NO_NEW_PRIVS` failed.
    #[error("could not set no_new_privs")]
    NewPrivileges(#[from] nix::Error),
    /// The agent's files stay root's.
    #[error("could not give the user of the agent its files")]
    Ownership(#[source] std::io::Error),
    /// The process stays root.
    #[error("could not become the user of the agent")]
    User(#[source] std::io::Error),
    /// The kernel has no Landlock, or it is disabled.
    #[error("could not restrict the files of the process")]
    Files(#[source] std::io::Error),
    /// The filter can't be compiled.
    #[error("could not compile the seccomp filter")]
    Filter(#[from] seccompiler::BackendError),
    /// The kernel has no seccomp filters, or rejects this one.
    #[error("could not install the seccomp filter")]
    Install(#[from] seccompiler::Error),
}

/// Halfway from the default 0 to -20: containers can keep every CPU busy.
const NICE: libc::c_int = -10;

/// Raises the scheduling priority above that of containers. Without `CAP_SYS_NICE` the priority stays
/// as it is.
pub fn raise_priority() {
    #[expect(unsafe_code, reason = "nix does not wrap setpriority")]
    // SAFETY: takes and returns integers only; 0 is this thread, whose children inherit the value.
    let _ = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
}

/// Exempts the agent from the OOM killer. An agent that a process of the guest can have killed is not
/// there for the host.
///
/// # Errors
/// Lowering the value needs `CAP_SYS_RESOURCE`.
pub fn exempt_from_oom_killer() -> std::io::Result<()> {
    std::fs::write("/proc/self/oom_score_adj", OOM_SCORE_MIN)
}

/// `OOM_SCORE_ADJ_MIN` (`linux/oom.h`).
const OOM_SCORE_MIN: &str = "-1000";

/// Gives the agent's user the files of `folders`, the outer one of two first. The agent calls it before it
/// starts its helpers and confines itself.
///
/// # Errors
/// The files stay root's.
pub fn give_files(folders: &[(PathBuf, Access)]) -> Result<(), Error> {
    user::give_files(folders).map_err(Error::Ownership)
}

/// Gives up all privileges but those of the profile, in this thread and its children. `folders` are the files
/// that it needs, the outer one of two first. `lacking` gets the error of each limit that the kernel can't set: such a kernel must not
/// leave the sandbox without its agent.
///
/// # Errors
/// The kernel refuses to drop a capability.
pub fn confine(
    profile: Profile,
    folders: &[(PathBuf, Access)],
    lacking: impl Fn(&Error),
) -> Result<(), Error> {
    // While the process has the capabilities for it.
    let user = user::leave_root(folders).map_err(Error::User);
    user.unwrap_or_else(|error| lacking(&error));
    drop_capabilities(profile)?;
    // A process with Landlock can't open the namespace of one without.
    if profile != Profile::Supervisor {
        let files = landlock::restrict_files(folders).map_err(Error::Files);
        files.unwrap_or_else(|error| lacking(&error));
    }
    // Last, since it denies the calls above.
    seccomp::install(profile).unwrap_or_else(|error| lacking(&error));
    Ok(())
}

/// Drops all capabilities but those of the profile, in this thread and its children.
fn drop_capabilities(profile: Profile) -> Result<(), Error> {
    prctl::set_no_new_privs()?;
    let effective: CapsHashSet = profile.effective().iter().copied().collect();
    let mut bounding = effective.clone();
    bounding.extend(profile.on_demand());
    let permitted = caps::read(None, CapSet::Permitted)?;
    // A change of the user clears it.
    caps::set(None, CapSet::Effective, &permitted)?;
    // A service manager that grants no CAP_SETPCAP has set the bound; no_new_privs keeps programs below it.
    if permitted.contains(&Capability::CAP_SETPCAP) {
        let all = caps::read(None, CapSet::Bounding)?;
        for capability in all.difference(&bounding) {
            caps::drop(None, CapSet::Bounding, *capability)?;
        }
    }
    let of = |set: &CapsHashSet| set.intersection(&permitted).copied().collect();
    caps::clear(None, CapSet::Ambient)?;
    caps::clear(None, CapSet::Inheritable)?;
    caps::set(None, CapSet::Effective, &of(&effective))?;
    caps::set(None, CapSet::Permitted, &of(&bounding))?;
    if profile == Profile::Supervisor {
        // For the agents that it starts, which find their namespace by its descriptors.
        caps::set(None, CapSet::Inheritable, &of(&effective))?;
        caps::set(None, CapSet::Ambient, &of(&effective))?;
        prctl::set_dumpable(true)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
