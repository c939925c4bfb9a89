//! Inputs of an image (kernels, programs, modules) and the archives built from them.

use std::io::Read;

use patchbay_sandbox::fuzz;

use crate::pick;

/// The first byte selects the kind of file.
pub(crate) fn run(data: &[u8]) {
    let (kind, bytes) = pick(data);
    match kind {
        b'0' => {
            if let Some(kernel) = fuzz::vmlinux_of(bytes) {
                assert!(kernel.starts_with(b"\x7fELF"));
            }
        }
        b'1' => fuzz::needs_of(bytes),
        b'3' => archive(bytes),
        _ => {}
    }
}

/// Writes a file, with the first line as its name and the rest as its content; reads it by the `cpio` crate.
fn archive(bytes: &[u8]) {
    let end = bytes
        .iter()
        .position(|b| *b == b'\n')
        .unwrap_or(bytes.len());
    let Ok(name) = std::str::from_utf8(&bytes[..end]) else {
        return;
    };
    // Files of a package have names.
    if name.trim_matches('/').is_empty() {
        return;
    }
    let content = &bytes[end..];
    let Some(encoded) = fuzz::archive(name, content) else {
        return;
    };
    let mut rest = encoded.as_slice();
    loop {
        let mut reader = cpio::newc::Reader::new(rest).expect("an entry");
        assert!(!reader.entry().is_trailer(), "the file is not there");
        let mut found = Vec::new();
        reader.read_to_end(&mut found).expect("its content");
        if reader.entry().name() == name.trim_matches('/') {
            assert_eq!(found, content);
            return;
        }
        rest = reader.finish().expect("the next entry");
    }
}
