//! Downloads and unpacks Debian packages without installing them.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::str::FromStr;

use patchbay_types::InvalidValue;
use patchbay_types::text::escape_controls;

use crate::error::{Error, at};

/// Name of a Debian package. It is safe as a file name and as an argument: never a path or an option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PackageName(String);

const NAME_RULE: &str = "a package name has lower-case letters, digits, '+', '-' and '.', and starts \
                         with a letter or digit";

impl PackageName {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PackageName {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let allowed = |byte: u8| plain(byte) || b"+-.".contains(&byte);
        if text.bytes().next().is_some_and(plain) && text.bytes().all(allowed) {
            return Ok(Self(text.to_owned()));
        }
        Err(InvalidValue::new(text, NAME_RULE))
    }
}

/// Downloads one package into `folder`; apt verifies it.
pub(crate) fn download(package: &PackageName, folder: &Path) -> Result<(), Error> {
    // Run by root, apt would switch to a user without write access to the folder.
    let user = "APT::Sandbox::User=root";
    let arguments = ["-q", "-o", user, "download", package.as_str()];
    run(Command::new("apt-get").args(arguments).current_dir(folder))
}

/// Downloads packages and all their dependencies into `folder`, as for an empty system.
pub(crate) fn download_with_dependencies(packages: &[&str], folder: &Path) -> Result<(), Error> {
    let status = folder.join("status");
    fs::write(&status, b"").map_err(at(&status))?;
    let partial = folder.join("partial");
    fs::create_dir_all(&partial).map_err(at(&partial))?;
    let mut command = Command::new("apt-get");
    command.args(["-q", "-y", "--download-only", "--no-install-recommends"]);
    command.args(["-o", "APT::Sandbox::User=root", "-o"]);
    command.arg(setting("Dir::State::status=", &status));
    command.arg("-o");
    command.arg(setting("Dir::Cache::archives=", folder));
    run(command.arg("install").args(packages))
}

/// Unpacks all packages in `folder` into the tree `into`.
pub(crate) fn unpack_all(folder: &Path, into: &Path) -> Result<(), Error> {
    let entries = fs::read_dir(folder).map_err(at(folder))?;
    for entry in entries {
        let path = entry.map_err(at(folder))?.path();
        if path.extension() == Some(OsStr::new("deb")) {
            run(Command::new("dpkg-deb").arg("-x").arg(&path).arg(into))?;
        }
    }
    Ok(())
}

fn setting(key: &str, path: &Path) -> OsString {
    let mut setting = OsString::from(key);
    setting.push(path);
    setting
}

/// Runs a command to its end; on failure the error has the last line of its standard error.
pub(super) fn run(command: &mut Command) -> Result<(), Error> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("LC_ALL", "C")
        .output();
    let output = match output {
        Ok(output) if output.status.success() => return Ok(()),
        Ok(output) => output,
        Err(source) => return Err(Error::ToolNotStarted { program, source }),
    };
    let stderr = String::from_utf8_lossy(&output.stderr);
    let last = stderr.lines().rfind(|line| !line.trim().is_empty());
    Err(Error::ToolFailed {
        program,
        reason: escape_controls(last.unwrap_or("no error message").trim()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn package_name_rejects_paths_and_options() {
        let parsed = |text: &str| text.parse::<PackageName>().map(|name| name.0);
        let name = "linux-image-6.12.117+deb12-cloud-amd64";
        assert_eq!(parsed(name).unwrap(), name);
        for text in ["", "..", "../a", "a/b", "-o", "a=1", "A", "a b"] {
            assert_eq!(
                parsed(text),
                Err(InvalidValue::new(text, NAME_RULE)),
                "{text}"
            );
        }
    }
}
