#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| patchbay_fuzz::rule_file::run(data));
