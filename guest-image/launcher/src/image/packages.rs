//! Fetching and unpacking Debian packages without installing them.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;

/// A package that can't be had.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// A program of the package manager can't be started.
    #[error("{program} can't be started: this needs a Debian system with apt and dpkg.")]
    NotStarted {
        /// The program.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// A program of the package manager failed.
    #[error("{program} failed ({why}); is the list of packages fresh (apt-get update)?")]
    Failed {
        /// The program.
        program: String,
        /// Its last line of complaint.
        why: String,
    },
    /// A file or folder for the packages can't be handled.
    #[error("{} can't be used for unpacking packages.", .path.display())]
    Folder {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A package's name: a file's name too, and no option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageName(String);

/// What no package is called.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a package's name begins with a letter or digit and has only lower case letters, digits, \
     '+', '-' and '.'"
)]
pub struct BadPackageName;

impl PackageName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PackageName {
    type Err = BadPackageName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let (first, rest) = text.as_bytes().split_first().ok_or(BadPackageName)?;
        let sound = plain(*first)
            && rest
                .iter()
                .all(|byte| plain(*byte) || b"+-.".contains(byte));
        sound.then(|| Self(text.to_owned())).ok_or(BadPackageName)
    }
}

/// Downloads one package into `folder`; apt checks its signature.
pub fn download(package: &PackageName, folder: &Path) -> Result<(), PackageError> {
    // As root, apt would drop to a user that can't write into our folder.
    let user = "APT::Sandbox::User=root";
    let arguments = ["-q", "-o", user, "download", package.as_str()];
    run(Command::new("apt-get").args(arguments).current_dir(folder))
}

/// Downloads the packages and everything they depend on into `folder`, as for an empty system.
pub fn download_with_dependencies(packages: &[&str], folder: &Path) -> Result<(), PackageError> {
    let status = folder.join("status");
    fs::write(&status, b"").map_err(folder_error(&status))?;
    let partial = folder.join("partial");
    fs::create_dir_all(&partial).map_err(folder_error(&partial))?;
    let mut command = Command::new("apt-get");
    command.args(["-q", "-y", "--download-only", "--no-install-recommends"]);
    command.args(["-o", "APT::Sandbox::User=root", "-o"]);
    command.arg(setting("Dir::State::status=", &status));
    command.arg("-o");
    command.arg(setting("Dir::Cache::archives=", folder));
    run(command.arg("install").args(packages))
}

/// Unpacks every package in `folder` into the one tree `into`.
pub fn unpack_all(folder: &Path, into: &Path) -> Result<(), PackageError> {
    let entries = fs::read_dir(folder).map_err(folder_error(folder))?;
    for entry in entries {
        let path = entry.map_err(folder_error(folder))?.path();
        if path.extension() == Some(OsStr::new("deb")) {
            run(Command::new("dpkg-deb").arg("-x").arg(&path).arg(into))?;
        }
    }
    Ok(())
}

fn setting(key: &str, path: &Path) -> std::ffi::OsString {
    let mut setting = std::ffi::OsString::from(key);
    setting.push(path);
    setting
}

fn folder_error(path: &Path) -> impl FnOnce(io::Error) -> PackageError + use<> {
    let path = path.to_owned();
    move |source| PackageError::Folder { path, source }
}

fn run(command: &mut Command) -> Result<(), PackageError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("LC_ALL", "C")
        .output()
        .map_err(|source| PackageError::NotStarted {
            program: program.clone(),
            source,
        })?;
    if output.status.success() {
        return Ok(());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    let last = complaint.lines().rfind(|line| !line.trim().is_empty());
    Err(PackageError::Failed {
        program,
        why: last.unwrap_or("no reason given").trim().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_neither_a_path_nor_an_option() {
        let parsed = |text: &str| text.parse::<PackageName>().map(|name| name.0);
        let name = "linux-image-6.12.117+deb12-cloud-amd64";
        assert_eq!(parsed(name).unwrap(), name);
        for text in ["", "..", "../a", "a/b", "-o", "a=1", "A", "a b"] {
            assert_eq!(parsed(text), Err(BadPackageName), "{text}");
        }
    }
}
