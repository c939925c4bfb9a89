//! The libFuzzer binary of every target; the variable `FUZZ_TARGET` selects one.

#![no_main]

use std::sync::LazyLock;

use patchbay_fuzz::{Target, target};

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET is set");
    target(&name).unwrap_or_else(|| panic!("FUZZ_TARGET={name}: no such target"))
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| (*TARGET)(data));
