//! `patchbay-init`: process 1 of the sandbox image. It mounts what the kernel offers, loads the
//! modules of the boot list, brings the loopback link up, and keeps the agent running.
//!
//! The kernel panics when process 1 ends, so nothing here gives up: a step that fails is said on
//! the console and the next one goes on.

mod console;
mod loopback;
mod modules;
mod mounts;
mod services;

fn main() {
    mounts::mount_all();
    modules::load_boot_list();
    if let Err(error) = loopback::bring_up() {
        console::say(&format!("the loopback link can't be brought up: {error}"));
    }
    services::Services::of_image().keep_running()
}
