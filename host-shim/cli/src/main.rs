//! The `patchbay` program.

fn main() -> std::process::ExitCode {
    patchbay::main()
}
