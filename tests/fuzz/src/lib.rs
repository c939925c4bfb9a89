//! One module per fuzz target: `run` takes any bytes and panics where a property is broken.
//!
//! The targets in `fuzz_targets` call these under libFuzzer; `tests/replay.rs` calls them with
//! every file of the corpus under an ordinary toolchain.

pub mod conntrack_decode;
pub mod conntrack_words;
pub mod exec_frames;
pub mod guest_image;
pub mod host_files;
pub mod ipvs_decode;
pub mod ipvsadm_words;
pub mod json_input;
pub mod kernel_texts;
pub mod netlink;
pub mod packed;
pub mod qmp_session;
pub mod rtnetlink;
pub mod rule_file;
pub mod small_texts;
pub mod wire;

mod harmless;
mod names;
mod scratch;

/// The first byte picks what the rest is. Seeds have a digit or a letter there.
fn pick(data: &[u8]) -> (u8, &[u8]) {
    match data {
        [] => (0, data),
        [kind, rest @ ..] => (*kind, rest),
    }
}
