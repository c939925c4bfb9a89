//! Cutting the ELF kernel out of a bzImage, so that QEMU can enter it directly (PVH): emulated, that
//! saves the seconds that the kernel takes to decompress itself.

use std::io::Read;

use ruzstd::decoding::StreamingDecoder;

/// A kernel file that can't be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum KernelError {
    /// The signature of the setup header is missing.
    #[error("The kernel file is not a bzImage.")]
    NotBzImage,
    /// The setup header says nothing about the payload before protocol 2.08.
    #[error("The kernel file's boot protocol {major}.{minor:02} is older than 2.08.")]
    OldProtocol {
        /// Upper half of the protocol version.
        major: u8,
        /// Lower half of the protocol version.
        minor: u8,
    },
    /// The payload lies outside of the file.
    #[error("The kernel file is cut short.")]
    Truncated,
    /// Compressed by something else than LZ4 or Zstandard.
    #[error("The kernel file is compressed in an unknown way (it begins with {0:02x?}).")]
    UnknownCompression([u8; 4]),
    /// The payload can't be decompressed, or to another size than it says.
    #[error("The kernel file's compressed part is damaged.")]
    Damaged,
    /// What was compressed isn't an ELF file.
    #[error("The kernel file holds no ELF kernel.")]
    NotElf,
}

// Offsets of the setup header: Documentation/arch/x86/boot.rst.
const SETUP_SECTS: usize = 0x1f1;
const SIGNATURE: usize = 0x202;
const VERSION: usize = 0x206;
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;

const SECTOR: usize = 512;
/// What a `setup_sects` of zero means.
const DEFAULT_SETUP_SECTS: u8 = 4;

/// The magic of LZ4's legacy frame, which `lz4 -l` writes for the kernel's build.
const LZ4_LEGACY_MAGIC: [u8; 4] = [0x02, 0x21, 0x4c, 0x18];
/// Every block but the last decompresses to this much.
const LZ4_BLOCK: usize = 8 << 20;
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Much more than any kernel: a few bytes of Zstandard may stand for any number.
const MAX_VMLINUX: u64 = 256 << 20;

/// The ELF kernel inside of `bzimage`.
pub fn vmlinux_of(bzimage: &[u8]) -> Result<Vec<u8>, KernelError> {
    let payload = payload_of(bzimage)?;
    // The kernel's build appends the decompressed size to whatever it compresses with.
    let (frame, length) = payload.split_last_chunk().ok_or(KernelError::Truncated)?;
    let vmlinux = match field(payload, 0)? {
        LZ4_LEGACY_MAGIC => unpack_lz4(frame)?,
        ZSTD_MAGIC => unpack_zstd(frame)?,
        magic => return Err(KernelError::UnknownCompression(magic)),
    };
    if vmlinux.len() != size(*length)? {
        return Err(KernelError::Damaged);
    }
    if !vmlinux.starts_with(b"\x7fELF") {
        return Err(KernelError::NotElf);
    }
    Ok(vmlinux)
}

fn payload_of(bzimage: &[u8]) -> Result<&[u8], KernelError> {
    if bzimage.get(SIGNATURE..SIGNATURE + 4) != Some(b"HdrS") {
        return Err(KernelError::NotBzImage);
    }
    let [minor, major] = field(bzimage, VERSION)?;
    if (major, minor) < (2, 8) {
        return Err(KernelError::OldProtocol { major, minor });
    }
    let [sectors] = field(bzimage, SETUP_SECTS)?;
    let sectors = match sectors {
        0 => DEFAULT_SETUP_SECTS,
        given => given,
    };
    let setup = (usize::from(sectors) + 1) * SECTOR;
    let offset = size(field(bzimage, PAYLOAD_OFFSET)?)?;
    let length = size(field(bzimage, PAYLOAD_LENGTH)?)?;
    let start = setup.checked_add(offset).ok_or(KernelError::Truncated)?;
    let end = start.checked_add(length).ok_or(KernelError::Truncated)?;
    bzimage.get(start..end).ok_or(KernelError::Truncated)
}

fn unpack_lz4(frame: &[u8]) -> Result<Vec<u8>, KernelError> {
    let mut vmlinux = Vec::new();
    let mut block = vec![0; LZ4_BLOCK];
    let mut rest = frame
        .strip_prefix(&LZ4_LEGACY_MAGIC)
        .ok_or(KernelError::Damaged)?;
    while !rest.is_empty() {
        let (length, after) = rest.split_first_chunk().ok_or(KernelError::Damaged)?;
        let compressed = after.get(..size(*length)?).ok_or(KernelError::Damaged)?;
        let written = lz4_flex::block::decompress_into(compressed, &mut block)
            .map_err(|_| KernelError::Damaged)?;
        vmlinux.extend_from_slice(&block[..written]);
        rest = &after[compressed.len()..];
    }
    Ok(vmlinux)
}

fn unpack_zstd(frame: &[u8]) -> Result<Vec<u8>, KernelError> {
    let mut vmlinux = Vec::new();
    let unpacked = StreamingDecoder::new(frame).map_err(|_| KernelError::Damaged)?;
    unpacked
        .take(MAX_VMLINUX)
        .read_to_end(&mut vmlinux)
        .map_err(|_| KernelError::Damaged)?;
    Ok(vmlinux)
}

fn field<const N: usize>(bytes: &[u8], offset: usize) -> Result<[u8; N], KernelError> {
    bytes
        .get(offset..)
        .and_then(|rest| rest.first_chunk())
        .copied()
        .ok_or(KernelError::Truncated)
}

fn size(bytes: [u8; 4]) -> Result<usize, KernelError> {
    usize::try_from(u32::from_le_bytes(bytes)).map_err(|_| KernelError::Truncated)
}

#[cfg(test)]
mod tests {
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;

    const ELF: &[u8] = b"\x7fELF and then the rest of a kernel, kernel, kernel";

    fn lz4(content: &[u8]) -> Vec<u8> {
        let block = lz4_flex::block::compress(content);
        let mut payload = LZ4_LEGACY_MAGIC.to_vec();
        payload.extend(u32::try_from(block.len()).unwrap().to_le_bytes());
        payload.extend(block);
        payload.extend(u32::try_from(content.len()).unwrap().to_le_bytes());
        payload
    }

    fn zstandard(content: &[u8]) -> Vec<u8> {
        let mut payload = compress_to_vec(content, CompressionLevel::Fastest);
        payload.extend(u32::try_from(content.len()).unwrap().to_le_bytes());
        payload
    }

    fn bzimage(payload: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 2 * SECTOR];
        image[SETUP_SECTS] = 1;
        image[SIGNATURE..SIGNATURE + 4].copy_from_slice(b"HdrS");
        image[VERSION..VERSION + 2].copy_from_slice(&[0x0f, 2]);
        image[PAYLOAD_OFFSET] = 16;
        let length = u32::try_from(payload.len()).unwrap().to_le_bytes();
        image[PAYLOAD_LENGTH..PAYLOAD_LENGTH + 4].copy_from_slice(&length);
        image.extend([0; 16]);
        image.extend(payload);
        image
    }

    #[test]
    fn elf_is_cut_out() {
        for payload in [lz4(ELF), zstandard(ELF)] {
            assert_eq!(vmlinux_of(&bzimage(&payload)).unwrap(), ELF);
        }
    }

    #[test]
    fn other_files_are_not_a_bzimage() {
        assert_eq!(vmlinux_of(b"MZ"), Err(KernelError::NotBzImage));
        assert_eq!(vmlinux_of(&[0; 4096]), Err(KernelError::NotBzImage));
    }

    #[test]
    fn protocol_without_payload_fields_is_old() {
        let mut image = bzimage(&lz4(ELF));
        image[VERSION] = 7;
        let old = KernelError::OldProtocol { major: 2, minor: 7 };
        assert_eq!(vmlinux_of(&image), Err(old));
    }

    #[test]
    fn payload_beyond_the_end_is_truncated() {
        let mut image = bzimage(&lz4(ELF));
        image.pop();
        assert_eq!(vmlinux_of(&image), Err(KernelError::Truncated));
        image.truncate(PAYLOAD_LENGTH + 2);
        assert_eq!(vmlinux_of(&image), Err(KernelError::Truncated));
    }

    #[test]
    fn other_compression_is_named() {
        let xz = [0xfd, b'7', b'z', b'X'];
        let error = vmlinux_of(&bzimage(&xz));
        assert_eq!(error, Err(KernelError::UnknownCompression(xz)));
    }

    #[test]
    fn wrong_size_and_wrong_block_length_are_damage() {
        let mut payload = lz4(ELF);
        *payload.last_mut().unwrap() = 1;
        assert_eq!(vmlinux_of(&bzimage(&payload)), Err(KernelError::Damaged));
        let mut payload = lz4(ELF);
        payload[5] = 0xff;
        assert_eq!(vmlinux_of(&bzimage(&payload)), Err(KernelError::Damaged));
    }

    #[test]
    fn wrong_size_and_a_frame_cut_short_are_damage() {
        let mut payload = zstandard(ELF);
        *payload.last_mut().unwrap() = 1;
        assert_eq!(vmlinux_of(&bzimage(&payload)), Err(KernelError::Damaged));
        let mut payload = zstandard(ELF);
        payload.drain(12..20);
        assert_eq!(vmlinux_of(&bzimage(&payload)), Err(KernelError::Damaged));
    }

    #[test]
    fn payload_that_is_no_elf_is_refused() {
        let image = bzimage(&lz4(b"hello"));
        assert_eq!(vmlinux_of(&image), Err(KernelError::NotElf));
    }
}
