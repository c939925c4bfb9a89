//! Starts processes that are recorded before they run their program.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use nix::sys::signal::SigSet;
use patchbay_host::netns::Netns;
use patchbay_host::private;

use crate::error::Error;

/// Program to start.
#[derive(Debug)]
pub(super) struct ProgramSpec<'a> {
    pub(super) path: &'a Path,
    pub(super) arguments: &'a [OsString],
    /// File for its standard output and error.
    pub(super) log: PathBuf,
    /// Network namespace of the process; `None`: the launcher's.
    pub(super) netns: Option<&'a Netns>,
}

/// Waits for a line, then executes the program. If the launcher dies before it has recorded the process
/// id, the line never arrives and the process ends. SIGXFSZ is ignored because a log at its size limit
/// must not end the program. The sockets and logs that it makes are private.
const GATE: &str = r#"umask 077 && trap '' XFSZ && read -r line && exec "$0" "$@" </dev/null"#;

/// Process that waits before it executes its program.
pub(super) struct GatedChild(Child);

impl GatedChild {
    /// Starts the process.
    pub(super) fn spawn(program: &ProgramSpec<'_>) -> io::Result<Self> {
        let log = private::create_file(&program.log)?;
        let mut command = Command::new("/bin/sh");
        command.args(["-c", GATE]).arg(program.path);
        command.args(program.arguments);
        command.stdin(Stdio::piped());
        command.stdout(log.try_clone()?).stderr(log);
        // Ctrl-C in the launcher's terminal must not reach the sandbox.
        command.process_group(0);
        spawn_inside(&mut command, program.netns).map(Self)
    }

    /// Process id; it does not change on release.
    pub(super) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Lets the process execute its program.
    pub(super) fn release(mut self) -> io::Result<Child> {
        if let Some(mut gate) = self.0.stdin.take() {
            gate.write_all(b"go\n")?;
        }
        Ok(self.0)
    }
}

/// Spawns from a separate thread, whose namespace and signal mask the child inherits.
fn spawn_inside(command: &mut Command, netns: Option<&Netns>) -> io::Result<Child> {
    let mut spawn = || {
        SigSet::empty().thread_set_mask()?;
        command.spawn()
    };
    let spawn = || match netns {
        Some(netns) => netns.run(spawn),
        None => spawn(),
    };
    thread::scope(|scope| scope.spawn(spawn).join())
        .unwrap_or_else(|_| Err(io::Error::other("the spawning thread panicked")))
}

/// Finds a program in `PATH`; the error has the `hint` how to install it.
pub(super) fn find_program(program: &'static str, hint: &'static str) -> Result<PathBuf, Error> {
    let path = std::env::var_os("PATH");
    let folders = path.iter().flat_map(std::env::split_paths);
    let mut candidates = folders.map(|folder| folder.join(program));
    let found = candidates.find(|path| path.is_file());
    found.ok_or(Error::MissingProgram { program, hint })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::launch::processes::{ProcessRecord, ProcessRole};

    /// Starts `touch marker` in `folder`.
    fn spawn_touch(folder: &Path) -> io::Result<GatedChild> {
        GatedChild::spawn(&ProgramSpec {
            path: Path::new("/usr/bin/touch"),
            arguments: &[folder.join("marker").into()],
            log: folder.join("log"),
            netns: None,
        })
    }

    #[test]
    fn released_child_runs_program() {
        let folder = tempfile::tempdir().unwrap();
        let gated = spawn_touch(folder.path()).unwrap();
        assert!(!folder.path().join("marker").exists());
        assert!(gated.release().unwrap().wait().unwrap().success());
        assert!(folder.path().join("marker").exists());
    }

    #[test]
    fn dropped_child_ends_without_program() {
        let folder = tempfile::tempdir().unwrap();
        let gated = spawn_touch(folder.path()).unwrap();
        let process = ProcessRecord::of(ProcessRole::Qemu, gated.id()).unwrap();
        drop(gated);
        assert!(process.wait_for_end(Duration::from_secs(10)));
        assert!(!folder.path().join("marker").exists());
    }
}
