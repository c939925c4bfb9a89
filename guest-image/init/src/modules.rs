//! Loading the boot list. There is no modprobe in the image: the list is complete and in order.

use std::fs::{self, File};
use std::io;

use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};
use patchbay_init::BOOT_LIST_PATH;

use crate::console::say;

/// Loads every module of the boot list.
pub(crate) fn load_boot_list() {
    let list = match fs::read_to_string(BOOT_LIST_PATH) {
        Ok(list) => list,
        Err(error) => {
            say(&format!("{BOOT_LIST_PATH} can't be read: {error}"));
            return;
        }
    };
    for path in list.lines() {
        if let Err(error) = load(path) {
            say(&format!("the module {path} can't be loaded: {error}"));
        }
    }
}

fn load(path: &str) -> io::Result<()> {
    let file = File::open(path)?;
    match finit_module(&file, c"", ModuleInitFlags::empty()) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
