//! The user that the agent and its helpers run as instead of root.
//!
//! Files that belong to root are thus closed to code that has taken over the agent, also on a kernel without
//! Landlock.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt as _, lchown};
use std::path::{Path, PathBuf};

use nix::sys::prctl;
use nix::unistd::{Gid, Uid, geteuid, setgroups, setresgid, setresuid};

use super::Access;

/// User and group. systemd and shadow assign no number from 65536 to 99999.
pub const AGENT_ID: u32 = 96_100;
/// Access of group and others.
const SHARED: u32 = 0o077;

/// Gives the agent the files of `folders` that it writes, the outer one of two folders first. Done once, before
/// the agent starts its helpers: two processes that did so at the same time would take folders from each other.
///
/// # Errors
/// `CAP_CHOWN` is missing, or a folder for own files is open to others.
pub(super) fn give_files(folders: &[(PathBuf, Access)]) -> io::Result<()> {
    if !geteuid().is_root() {
        return Ok(());
    }
    // The inner ones first: root without CAP_DAC_OVERRIDE can't enter a folder of the agent.
    for (folder, access) in folders.iter().rev() {
        match access {
            Access::Read | Access::Write => {}
            Access::Power => give_power_files(folder)?,
            Access::Create => give_folder(folder)?,
        }
    }
    Ok(())
}

/// Becomes the agent's user, with all permitted capabilities. A process of another user than root stays.
///
/// # Errors
/// `CAP_SETUID` or `CAP_SETGID` is missing, or a folder for own files was not given to the agent.
pub(super) fn leave_root(folders: &[(PathBuf, Access)]) -> io::Result<()> {
    if !geteuid().is_root() {
        return Ok(());
    }
    for (folder, access) in folders {
        if *access == Access::Create && !is_of_agent(folder)? {
            let text = format!(
                "{} does not belong to the user of the agent",
                folder.display()
            );
            return Err(io::Error::other(text));
        }
    }
    let (user, group) = (Uid::from_raw(AGENT_ID), Gid::from_raw(AGENT_ID));
    prctl::set_keepcaps(true)?;
    setgroups(&[])?;
    setresgid(group, group, group)?;
    Ok(setresuid(user, user, user)?)
}

/// Returns whether a folder is the agent's or does not exist.
fn is_of_agent(folder: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(folder) {
        // It is in a folder of the agent, which root without CAP_DAC_OVERRIDE can't enter.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        found => Ok(found?.uid() == AGENT_ID),
    }
}

/// Gives the agent the power switches of the slots that the machine has now.
fn give_power_files(slots: &Path) -> io::Result<()> {
    for slot in fs::read_dir(slots).into_iter().flatten().flatten() {
        let power = slot.path().join("power");
        if power.exists() {
            give(&power)?;
        }
    }
    Ok(())
}

/// Gives the agent a folder that root alone uses, with the files in it.
fn give_folder(folder: &Path) -> io::Result<()> {
    if is_of_agent(folder)? {
        return Ok(());
    }
    let found = fs::symlink_metadata(folder)?;
    if !found.is_dir() || found.mode() & SHARED != 0 {
        let text = format!("{} is not a folder of mode 0700", folder.display());
        return Err(io::Error::other(text));
    }
    let is_own = |found: &Metadata| found.is_file() && found.nlink() == 1;
    for entry in fs::read_dir(folder)?.flatten() {
        if entry.metadata().as_ref().is_ok_and(is_own) {
            give(&entry.path())?;
        }
    }
    give(folder)
}

fn give(path: &Path) -> io::Result<()> {
    lchown(path, Some(AGENT_ID), Some(AGENT_ID))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn owner(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().uid()
    }

    #[test]
    fn give_folder_takes_files_along_and_no_links() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("own")).unwrap();
        fs::set_permissions(at("own"), fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(at("own/undo"), "").unwrap();
        fs::write(at("secret"), "").unwrap();
        fs::hard_link(at("secret"), at("own/hard")).unwrap();
        symlink(at("secret"), at("own/soft")).unwrap();
        give_folder(&at("own")).unwrap();
        for (name, id) in [
            ("own", AGENT_ID),
            ("own/undo", AGENT_ID),
            ("own/hard", 0),
            ("own/soft", 0),
            ("secret", 0),
        ] {
            assert_eq!(owner(&at(name)), id, "{name}");
        }
        give_folder(&at("missing")).unwrap();
    }

    #[test]
    fn give_folder_of_others_fails() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let error = give_folder(dir.path()).unwrap_err().to_string();
        assert!(error.ends_with("is not a folder of mode 0700"), "{error}");
        assert_eq!(owner(dir.path()), 0);
    }

    #[test]
    fn leave_root_before_folders_are_given_fails() {
        let dir = tempfile::tempdir().unwrap();
        let folders = [(dir.path().to_owned(), Access::Create)];
        let error = leave_root(&folders).unwrap_err().to_string();
        assert!(
            error.ends_with("does not belong to the user of the agent"),
            "{error}"
        );
        assert!(geteuid().is_root());
        assert_eq!(owner(dir.path()), 0);
    }

    #[test]
    fn give_power_files_leaves_other_files_of_the_slot() {
        let dir = tempfile::tempdir().unwrap();
        let slot = dir.path().join("1");
        fs::create_dir(&slot).unwrap();
        for name in ["address", "power"] {
            fs::write(slot.join(name), "").unwrap();
        }
        fs::create_dir(dir.path().join("2")).unwrap();
        give_power_files(dir.path()).unwrap();
        assert_eq!(owner(&slot.join("power")), AGENT_ID);
        assert_eq!(owner(&slot.join("address")), 0);
    }
}
