//! The command-line grammars of ipvsadm and conntrack.
//!
//! The host turns words into the types of `patchbay-types`; the agent never sees option text.

pub mod conntrack;
pub mod ipvsadm;
