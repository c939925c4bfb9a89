//! Private parsers and the archive writer for the fuzz targets.

use crate::bzimage;
use crate::image::archive::Archive;
use crate::image::elf;

/// Extracts the ELF kernel from a bzImage.
#[must_use]
pub fn vmlinux_of(bzimage: &[u8]) -> Option<Vec<u8>> {
    bzimage::vmlinux_of(bzimage).ok()
}

/// Reads the needs of an ELF file.
pub fn needs_of(program: &[u8]) {
    drop(elf::needs_of("program".as_ref(), program));
}

/// Encodes an archive of one file.
#[must_use]
pub fn archive(name: &str, content: &[u8]) -> Option<Vec<u8>> {
    let mut archive = Archive::default();
    archive.file(name, content.to_vec());
    archive.encode().ok()
}
