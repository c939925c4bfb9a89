//! Capability that is raised for a single request.

use caps::{CapSet, Capability};

/// `CAP_NET_BIND_SERVICE` in the effective set of this thread, until it is dropped.
///
/// The kernel binds the port of a backup sync daemon with the credentials of the request.
#[derive(Debug)]
pub struct BindPrivilege {
    raised: bool,
}

impl BindPrivilege {
    /// Raises the capability. Without it in the permitted set the kernel refuses ports below 1024.
    #[must_use]
    pub fn raise() -> Self {
        let capability = Capability::CAP_NET_BIND_SERVICE;
        let has = caps::has_cap(None, CapSet::Effective, capability).unwrap_or(true);
        let raised = !has && caps::raise(None, CapSet::Effective, capability).is_ok();
        Self { raised }
    }
}

impl Drop for BindPrivilege {
    fn drop(&mut self) {
        if self.raised {
            // Lowering a capability of the own thread can't fail.
            let _ = caps::drop(None, CapSet::Effective, Capability::CAP_NET_BIND_SERVICE);
        }
    }
}
