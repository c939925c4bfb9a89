//! Constants and the exec protocol ([`frame`]) that the guest's programs share with the launcher.

pub mod frame;

/// Vsock port of `patchbay-execd`.
pub const EXEC_PORT: u32 = 1062;

/// Path of the agent in the guest.
pub const AGENT_PATH: &str = "/bin/patchbay-agent";

// Only in images with tools.

/// Path of the command server.
pub const EXECD_PATH: &str = "/bin/patchbay-execd";

/// Path of the TCP echo server.
pub const ECHO_PATH: &str = "/bin/patchbay-echo";

/// Path of the program that plays a hostile container.
pub const HAMMER_PATH: &str = "/bin/patchbay-hammer";

/// Path of the program that tries to take the agent's place.
pub const INTRUDER_PATH: &str = "/bin/patchbay-intruder";

/// Path of the program that plays Kata's agent.
pub const KATA_AGENT_PATH: &str = "/bin/patchbay-kata-agent";

/// Path of the program that measures the lower bounds for benchmarks.
pub const BASELINE_PATH: &str = "/bin/patchbay-baseline";

/// Modules loaded at boot: the PCI transport, network cards, and vsock.
pub const BOOT_MODULES: [&str; 3] = ["virtio_pci", "virtio_net", "vmw_vsock_virtio_transport"];
