//! Kernels in the form that QEMU boots.

use goblin::elf::Elf;

use crate::architecture::Architecture;
use crate::bzimage::{self, BzImageError};

/// Offset and value of the magic number of arm64's `Image` (Documentation/arch/arm64/booting.rst).
const ARM64_MAGIC: (usize, &[u8]) = (56, b"ARM\x64");

/// Returns the kernel of a package as QEMU boots it: `Image` of arm64 as it is, the ELF kernel of a bzImage.
pub(super) fn bootable(packaged: Vec<u8>) -> Result<Vec<u8>, BzImageError> {
    match architecture_of(&packaged) {
        Some(_) => Ok(packaged),
        None => bzimage::vmlinux_of(&packaged),
    }
}

/// Returns the architecture of a kernel that QEMU boots, by its first 64 bytes.
pub(super) fn architecture_of(kernel: &[u8]) -> Option<Architecture> {
    let (offset, magic) = ARM64_MAGIC;
    if kernel
        .get(offset..)
        .is_some_and(|rest| rest.starts_with(magic))
    {
        return Some(Architecture::Arm64);
    }
    let header = Elf::parse_header(kernel).ok()?;
    let known = [Architecture::Amd64, Architecture::Arm64];
    known
        .into_iter()
        .find(|one| one.elf_machine() == header.e_machine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bootable_arm64_image_is_unchanged() {
        let mut image = vec![0; 64];
        image[56..60].copy_from_slice(b"ARM\x64");
        assert_eq!(architecture_of(&image), Some(Architecture::Arm64));
        assert_eq!(bootable(image.clone()), Ok(image));
    }

    #[test]
    fn architecture_of_programs_is_that_of_their_header() {
        let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(
            architecture_of(&program[..64]),
            Some(Architecture::of_host())
        );
        assert_eq!(architecture_of(b"MZ"), None);
        assert_eq!(bootable(b"MZ".to_vec()), Err(BzImageError::NotBzImage));
    }
}
