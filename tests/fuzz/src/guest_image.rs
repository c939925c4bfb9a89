//! What images are built from: kernels, programs, modules; and the archives that come of them.

use std::io::Read;
use std::path::Path;

use patchbay_sandbox::image::archive::Archive;
use patchbay_sandbox::image::elf::needs_of;
use patchbay_sandbox::image::bzimage::vmlinux_of;

use crate::pick;

/// The first byte picks the file.
pub fn run(data: &[u8]) {
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

/// A file of the second line's content under the first line's name, read by another's reader.
fn archive(bytes: &[u8]) {
    let end = bytes
        .iter()
        .position(|b| *b == b'\n')
        .unwrap_or(bytes.len());
    let Ok(name) = std::str::from_utf8(&bytes[..end]) else {
        return;
    };
    // A package's files have names; without one there is nothing to look for.
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
