//! What the programs of the sandbox image and the host have to agree on: port numbers, well-known
//! paths, and the frames that carry a command's input and output ([`frame`]).

pub mod frame;

/// The vsock port on which `patchbay-execd` runs commands for the host.
pub const EXEC_PORT: u32 = 1062;

/// The agent in the guest.
pub const AGENT_PATH: &str = "/bin/patchbay-agent";

/// The command server in the guest; present only in an image with tools.
pub const EXECD_PATH: &str = "/bin/patchbay-execd";

/// The TCP echo in the guest; present only in an image with tools.
pub const ECHO_PATH: &str = "/bin/patchbay-echo";

/// The program that does what a hostile container may; present only in an image with tools.
pub const HAMMER_PATH: &str = "/bin/patchbay-hammer";

/// The program that measures what kernel and transport need at least; present only in an image with
/// tools.
pub const BASELINE_PATH: &str = "/bin/patchbay-baseline";

/// The modules to load at boot: one absolute path per line, in loading order.
pub const BOOT_LIST_PATH: &str = "/lib/modules/boot.list";
