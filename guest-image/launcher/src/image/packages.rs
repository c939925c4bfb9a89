//! Downloads and unpacks Debian packages without installing them.

use std::cell::OnceCell;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;

use patchbay_types::InvalidValue;
use patchbay_types::text::escape_controls;
use tempfile::TempDir;

use crate::architecture::Architecture;
use crate::error::{Error, at};

/// Name of a Debian package. It is safe as a file name and as an argument: never a path or an option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PackageName(String);

const NAME_RULE: &str = "a package name has lower-case letters, digits, '+', '-' and '.', and starts \
                         with a letter or digit";

impl PackageName {
    /// Returns the default kernel. The name contains the version, so it pins the whole image.
    pub(crate) fn default_kernel(architecture: Architecture) -> Self {
        let architecture = architecture.name();
        Self(format!("linux-image-6.1.0-56-cloud-{architecture}"))
    }

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

/// apt for packages of one architecture, with the host's sources.
pub(crate) struct Apt {
    /// Lists and configuration of an architecture that is not the host's.
    foreign: OnceCell<TempDir>,
    architecture: Architecture,
    folder: PathBuf,
}

impl Apt {
    /// `folder` gets temporary files.
    pub(crate) fn new(architecture: Architecture, folder: &Path) -> Self {
        Self {
            foreign: OnceCell::new(),
            architecture,
            folder: folder.to_owned(),
        }
    }

    /// Downloads one package into `folder`; apt verifies it.
    pub(crate) fn download(&self, package: &PackageName, folder: &Path) -> Result<(), Error> {
        let mut command = self.command()?;
        run(command
            .args(["download", package.as_str()])
            .current_dir(folder))
    }

    /// Downloads packages and all their dependencies into `folder`, as for an empty system.
    pub(crate) fn download_with_dependencies(
        &self,
        packages: &[&str],
        folder: &Path,
    ) -> Result<(), Error> {
        let status = folder.join("status");
        fs::write(&status, b"").map_err(at(&status))?;
        let partial = folder.join("partial");
        fs::create_dir_all(&partial).map_err(at(&partial))?;
        let mut command = self.command()?;
        command.args(["-y", "--download-only", "--no-install-recommends", "-o"]);
        command.arg(setting("Dir::State::status=", &status));
        command.arg("-o");
        command.arg(setting("Dir::Cache::archives=", folder));
        run(command.arg("install").args(packages))
    }

    fn command(&self) -> Result<Command, Error> {
        let mut command = Command::new("apt-get");
        // Run by root, apt would switch to a user without write access to the folder.
        command.args(["-q", "-o", "APT::Sandbox::User=root"]);
        if self.architecture != Architecture::of_host() {
            command.env("APT_CONFIG", self.foreign()?.path().join(CONFIGURATION));
        }
        Ok(command)
    }

    /// Returns the folder of a configuration with lists of the architecture, which the host's apt need not know.
    fn foreign(&self) -> Result<&TempDir, Error> {
        if let Some(folder) = self.foreign.get() {
            return Ok(folder);
        }
        let folder = TempDir::new_in(&self.folder).map_err(at(&self.folder))?;
        let configuration = folder.path().join(CONFIGURATION);
        let text = foreign_configuration(self.architecture, folder.path());
        fs::write(&configuration, text).map_err(at(&configuration))?;
        for name in ["lists/partial", "archives/partial"] {
            let path = folder.path().join(name);
            fs::create_dir_all(&path).map_err(at(&path))?;
        }
        let mut update = Command::new("apt-get");
        update.args(["-q", "-o", "APT::Sandbox::User=root", "update"]);
        run(update.env("APT_CONFIG", &configuration))?;
        Ok(self.foreign.get_or_init(|| folder))
    }
}

const CONFIGURATION: &str = "apt.conf";

fn foreign_configuration(architecture: Architecture, folder: &Path) -> String {
    let name = architecture.name();
    let folder = folder.display();
    format!(
        "#clear APT::Architectures;\nAPT::Architecture \"{name}\";\nAPT::Architectures {{ \"{name}\"; }};\n\
         Dir::State::lists \"{folder}/lists\";\nDir::Cache \"{folder}\";\n"
    )
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
