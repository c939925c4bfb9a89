//! `patchbay-sandbox`: builds, starts, stops and lists sandboxes.

fn main() {
    std::process::exit(patchbay_sandbox::main());
}
