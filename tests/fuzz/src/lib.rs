//! One module per fuzz target: `run` takes any bytes and panics if a property doesn't hold.
//!
//! `fuzz_targets/any.rs` calls them under libFuzzer; `tests/replay.rs` calls them with every file of the
//! corpus under a stable toolchain.

mod cni;
mod conntrack_decode;
mod conntrack_words;
mod exec_frames;
mod guest_image;
mod harmless;
mod host_files;
mod ipvs_decode;
mod ipvsadm_words;
mod json_input;
mod kernel_texts;
mod names;
mod namespace_links;
mod netlink;
mod packed;
mod qmp_session;
mod rtnetlink;
mod rule_file;
mod scratch;
mod small_texts;
mod virsh_output;
mod wire;

/// A fuzz target: takes any bytes, and panics if a property doesn't hold.
pub type Target = fn(&[u8]);

macro_rules! targets {
    ($($name:ident),* $(,)?) => {
        /// Every target with its name, which is that of its corpus.
        pub const TARGETS: &[(&str, Target)] = &[$((stringify!($name), $name::run)),*];
    };
}

targets![
    cni,
    conntrack_decode,
    conntrack_words,
    exec_frames,
    guest_image,
    host_files,
    ipvs_decode,
    ipvsadm_words,
    json_input,
    kernel_texts,
    namespace_links,
    netlink,
    packed,
    qmp_session,
    rtnetlink,
    rule_file,
    small_texts,
    virsh_output,
    wire,
];

/// Returns the target of this name.
pub fn target(name: &str) -> Option<Target> {
    let found = TARGETS.iter().find(|(target, _)| *target == name);
    found.map(|(_, run)| *run)
}

/// Splits off the first byte, which selects the format of the rest; a digit or a letter in the corpus.
fn pick(data: &[u8]) -> (u8, &[u8]) {
    match data {
        [] => (0, data),
        [kind, rest @ ..] => (*kind, rest),
    }
}
