//! End-to-end tests in real QEMU guests.

#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

mod agent;
mod agent_killed;
mod batch;
mod bridge;
mod concurrent;
mod conntrack_differential;
mod conntrack_list;
mod conntrack_vectors;
mod debian;
mod doctor;
mod floods;
mod hints;
mod host_devices;
mod hostile_container;
mod hostile_guest;
mod identity;
mod ipvs_differential;
mod ipvs_files;
mod ipvs_guest;
mod ipvs_incumbent;
mod ipvs_sysctl;
mod ipvs_traffic;
mod kata;
mod kill_anywhere;
mod linux_6_12;
mod machines;
mod monitor;
mod mtu;
mod names;
mod native;
mod neighbors;
mod net_vectors;
mod others;
mod plug;
mod random;
mod removal;
mod route_lists;
mod routes;
mod two_cards;
mod undo;
mod update_iface;
mod vectors;
mod vhost_user;
mod vm_faults;
