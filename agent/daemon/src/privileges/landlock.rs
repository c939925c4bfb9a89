//! Folders that a confined process can reach (`landlock(7)`).
//!
//! Seccomp can't see paths. Without this, `core_pattern` and every file of root were open to the agent's uid.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use nix::errno::Errno;

// `linux/landlock.h`.
const WRITE_FILE: u64 = 1 << 1;
const READ_FILE: u64 = 1 << 2;
const READ_DIR: u64 = 1 << 3;
const REMOVE_FILE: u64 = 1 << 5;
const MAKE_REG: u64 = 1 << 8;
const TRUNCATE: u64 = 1 << 14;
/// Rights of the first version, which the kernel denies where no rule grants them: the bits below 13.
const FIRST_VERSION: u64 = (1 << 13) - 1;
/// Version that has [`TRUNCATE`] (Linux 6.2).
const TRUNCATE_SINCE: libc::c_long = 3;
const CREATE_RULESET_VERSION: u64 = 1;
const RULE_PATH_BENEATH: u64 = 1;

/// Access to a folder and everything below it on its file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Files can be read and folders listed.
    Read,
    /// Files can be read and written, and folders listed.
    Write,
    /// Folders of slots, in which the file `power` can be written.
    Power,
    /// Files can also be created and removed.
    Create,
}

impl Access {
    fn rights(self) -> u64 {
        let read = READ_FILE | READ_DIR;
        match self {
            Self::Read => read,
            Self::Write | Self::Power => read | WRITE_FILE | TRUNCATE,
            Self::Create => read | WRITE_FILE | TRUNCATE | MAKE_REG | REMOVE_FILE,
        }
    }
}

/// Denies this thread and its children every file but those below the folders. A folder that doesn't
/// exist is ignored.
///
/// # Errors
/// The kernel lacks Landlock (Linux 5.13, `CONFIG_SECURITY_LANDLOCK`) or has it disabled.
pub(super) fn restrict_files(folders: &[(PathBuf, Access)]) -> io::Result<()> {
    let version = call(
        libc::SYS_landlock_create_ruleset,
        [0, 0, CREATE_RULESET_VERSION, 0],
    )?;
    let truncate = if version < TRUNCATE_SINCE {
        0
    } else {
        TRUNCATE
    };
    let denied = FIRST_VERSION | truncate;
    let ruleset = create_ruleset(denied)?;
    for (folder, access) in folders {
        match OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_PATH)
            .open(folder)
        {
            Ok(folder) => allow(&ruleset, folder, access.rights() & denied)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    call(
        libc::SYS_landlock_restrict_self,
        [descriptor(&ruleset), 0, 0, 0],
    )?;
    Ok(())
}

fn create_ruleset(denied: u64) -> io::Result<OwnedFd> {
    // `struct landlock_ruleset_attr` of the first version.
    let attributes = [denied];
    let address = std::ptr::from_ref(&attributes) as u64;
    let size = size_of_val(&attributes) as u64;
    let number = call(libc::SYS_landlock_create_ruleset, [address, size, 0, 0])?;
    let number = libc::c_int::try_from(number).map_err(io::Error::other)?;
    #[expect(unsafe_code, reason = "the call returns a number")]
    // SAFETY: the kernel has just opened this descriptor for this call.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

fn allow(ruleset: &OwnedFd, folder: File, rights: u64) -> io::Result<()> {
    // `struct landlock_path_beneath_attr`, packed: rights and descriptor.
    let mut attributes = [0; 12];
    attributes[..8].copy_from_slice(&rights.to_ne_bytes());
    attributes[8..].copy_from_slice(&folder.as_raw_fd().to_ne_bytes());
    call(
        libc::SYS_landlock_add_rule,
        [
            descriptor(ruleset),
            RULE_PATH_BENEATH,
            attributes.as_ptr() as u64,
            0,
        ],
    )?;
    // Stays open for as long as the process runs. The rule belongs to an inode, and /proc makes a new one
    // for a folder that was dropped from the cache.
    std::mem::forget(folder);
    Ok(())
}

fn descriptor(file: &OwnedFd) -> u64 {
    u64::from(file.as_raw_fd().unsigned_abs())
}

#[expect(unsafe_code, reason = "neither libc nor nix wraps these calls")]
fn call(number: libc::c_long, [a, b, c, d]: [u64; 4]) -> io::Result<libc::c_long> {
    // SAFETY: the addresses among the arguments are those of structures that outlive the call, with their
    // sizes as the kernel expects them.
    let result = unsafe { libc::syscall(number, a, b, c, d) };
    Ok(Errno::result(result)?)
}
