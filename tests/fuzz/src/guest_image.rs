//! Inputs of an image (kernels, programs, modules) and the archives built from them.

use std::io::Read;
use std::path::Path;

use patchbay_sandbox::image::archive::Archive;
use patchbay_sandbox::image::bzimage::vmlinux_of;
use patchbay_sandbox::image::elf::needs_of;

use crate::pick;

/// The first byte selects the kind of file.
pub(crate) fn run(data: &[u8]) {
    let (kind, bytes) = pick(data);
    match kind {
        b'0' => {
            if let Ok(kernel) = vmlinux_of(bytes) {
                assert!(kernel.starts_with(b"\x7fELF"));
            }
        }
        b'1' => drop(needs_of(Path::new("program"), bytes)),
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
    let mut archive = Archive::default();
    archive.file(name, content.to_vec());
    let Ok(encoded) = archive.encode() else {
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
