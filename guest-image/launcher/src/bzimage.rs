//! Extracts the ELF kernel from a bzImage. QEMU enters it directly (PVH), which under emulation saves
//! the seconds that the kernel takes to decompress itself.

use std::io::Read;

use ruzstd::decoding::StreamingDecoder;

/// Error of extracting a kernel.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum BzImageError {
    #[error("not a bzImage")]
    NotBzImage,
    /// Setup headers before protocol 2.08 don't describe the payload.
    #[error("boot protocol {major}.{minor:02} is older than 2.08")]
    OldProtocol { major: u8, minor: u8 },
    #[error("the file is truncated")]
    Truncated,
    /// The compression is neither LZ4 nor Zstandard.
    #[error("unknown compression with magic {0:02x?}")]
    UnknownCompression([u8; 4]),
    /// The payload can't be decompressed, or not to the size in its trailer.
    #[error("the compressed payload is damaged")]
    Damaged,
    #[error("the payload is not an ELF file")]
    NotElf,
}

// Offsets of the setup header: Documentation/arch/x86/boot.rst.
const SETUP_SECTS: usize = 0x1f1;
const SIGNATURE: usize = 0x202;
const VERSION: usize = 0x206;
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;

const SECTOR: usize = 512;
/// Value of a `setup_sects` of zero.
const DEFAULT_SETUP_SECTS: u8 = 4;

/// Magic of LZ4's legacy frame; the kernel's build runs `lz4 -l`.
const LZ4_LEGACY_MAGIC: [u8; 4] = [0x02, 0x21, 0x4c, 0x18];
/// Decompressed bytes of every block but the last.
const LZ4_BLOCK_BYTES: usize = 8 << 20;
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Limit of decompression, far above any kernel's size.
const MAX_VMLINUX_BYTES: u64 = 256 << 20;

/// Extracts the ELF kernel from `bzimage`.
pub(crate) fn vmlinux_of(bzimage: &[u8]) -> Result<Vec<u8>, BzImageError> {
    let payload = payload_of(bzimage)?;
    // The kernel's build appends the decompressed size, whatever the compression.
    let (frame, length) = payload.split_last_chunk().ok_or(BzImageError::Truncated)?;
    let vmlinux = match field(payload, 0)? {
        LZ4_LEGACY_MAGIC => unpack_lz4(frame)?,
        ZSTD_MAGIC => unpack_zstd(frame)?,
        magic => return Err(BzImageError::UnknownCompression(magic)),
    };
    if vmlinux.len() != size(*length)? {
        return Err(BzImageError::Damaged);
    }
    if !vmlinux.starts_with(b"\x7fELF") {
        return Err(BzImageError::NotElf);
    }
    Ok(vmlinux)
}

fn payload_of(bzimage: &[u8]) -> Result<&[u8], BzImageError> {
    if bzimage.get(SIGNATURE..SIGNATURE + 4) != Some(b"HdrS") {
        return Err(BzImageError::NotBzImage);
    }
    let [minor, major] = field(bzimage, VERSION)?;
    if (major, minor) < (2, 8) {
        return Err(BzImageError::OldProtocol { major, minor });
    }
    let [sectors] = field(bzimage, SETUP_SECTS)?;
    let sectors = match sectors {
        0 => DEFAULT_SETUP_SECTS,
        given => given,
    };
    let setup = (usize::from(sectors) + 1) * SECTOR;
    let offset = size(field(bzimage, PAYLOAD_OFFSET)?)?;
    let length = size(field(bzimage, PAYLOAD_LENGTH)?)?;
    let start = setup.checked_add(offset).ok_or(BzImageError::Truncated)?;
    let end = start.checked_add(length).ok_or(BzImageError::Truncated)?;
    bzimage.get(start..end).ok_or(BzImageError::Truncated)
}

fn unpack_lz4(frame: &[u8]) -> Result<Vec<u8>, BzImageError> {
    let mut vmlinux = Vec::new();
    let mut block = vec![0; LZ4_BLOCK_BYTES];
    let mut rest = frame
        .strip_prefix(&LZ4_LEGACY_MAGIC)
        .ok_or(BzImageError::Damaged)?;
    while !rest.is_empty() {
        let (length, after) = rest.split_first_chunk().ok_or(BzImageError::Damaged)?;
        let compressed = after.get(..size(*length)?).ok_or(BzImageError::Damaged)?;
        let written = lz4_flex::block::decompress_into(compressed, &mut block)
            .map_err(|_| BzImageError::Damaged)?;
        vmlinux.extend_from_slice(&block[..written]);
        rest = &after[compressed.len()..];
    }
    Ok(vmlinux)
}

fn unpack_zstd(frame: &[u8]) -> Result<Vec<u8>, BzImageError> {
    let mut vmlinux = Vec::new();
    let unpacked = StreamingDecoder::new(frame).map_err(|_| BzImageError::Damaged)?;
    unpacked
        .take(MAX_VMLINUX_BYTES)
        .read_to_end(&mut vmlinux)
        .map_err(|_| BzImageError::Damaged)?;
    Ok(vmlinux)
}

fn field<const N: usize>(bytes: &[u8], offset: usize) -> Result<[u8; N], BzImageError> {
    bytes
        .get(offset..)
        .and_then(|rest| rest.first_chunk())
        .copied()
        .ok_or(BzImageError::Truncated)
}

fn size(bytes: [u8; 4]) -> Result<usize, BzImageError> {
    usize::try_from(u32::from_le_bytes(bytes)).map_err(|_| BzImageError::Truncated)
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
    fn vmlinux_of_each_compression_returns_elf() {
        for payload in [lz4(ELF), zstandard(ELF)] {
            assert_eq!(vmlinux_of(&bzimage(&payload)).unwrap(), ELF);
        }
    }

    #[test]
    fn vmlinux_of_other_file_is_not_bzimage() {
        assert_eq!(vmlinux_of(b"MZ"), Err(BzImageError::NotBzImage));
        assert_eq!(vmlinux_of(&[0; 4096]), Err(BzImageError::NotBzImage));
    }

    #[test]
    fn vmlinux_of_old_protocol_fails() {
        let mut image = bzimage(&lz4(ELF));
        image[VERSION] = 7;
        let old = BzImageError::OldProtocol { major: 2, minor: 7 };
        assert_eq!(vmlinux_of(&image), Err(old));
    }

    #[test]
    fn vmlinux_of_payload_past_end_is_truncated() {
        let mut image = bzimage(&lz4(ELF));
        image.pop();
        assert_eq!(vmlinux_of(&image), Err(BzImageError::Truncated));
        image.truncate(PAYLOAD_LENGTH + 2);
        assert_eq!(vmlinux_of(&image), Err(BzImageError::Truncated));
    }

    #[test]
    fn vmlinux_of_unknown_compression_names_magic() {
        let xz = [0xfd, b'7', b'z', b'X'];
        let error = vmlinux_of(&bzimage(&xz));
        assert_eq!(error, Err(BzImageError::UnknownCompression(xz)));
    }

    #[test]
    fn lz4_wrong_size_or_block_length_is_damage() {
        let mut payload = lz4(ELF);
        *payload.last_mut().unwrap() = 1;
        assert_eq!(vmlinux_of(&bzimage(&payload)), Err(BzImageError::Damaged));
        let mut payload = lz4(ELF);
        payload[5] = 0xff;
        assert_eq!(vmlinux_of(&bzimage(&payload)), Err(BzImageError::Damaged));
    }

    #[test]
    fn zstd_wrong_size_or_short_frame_is_damage() {
        let mut payload = zstandard(ELF);
        *payload.last_mut().unwrap() = 1;
        assert_eq!(vmlinux_of(&bzimage(&payload)), Err(BzImageError::Damaged));
        let mut payload = zstandard(ELF);
        payload.drain(12..20);
        assert_eq!(vmlinux_of(&bzimage(&payload)), Err(BzImageError::Damaged));
    }

    #[test]
    fn vmlinux_of_non_elf_payload_fails() {
        let image = bzimage(&lz4(b"hello"));
        assert_eq!(vmlinux_of(&image), Err(BzImageError::NotElf));
    }
}
