//! Starting a process that is on record before it does anything.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::SigSet;

/// What to start.
#[derive(Debug)]
pub(super) struct Program<'a> {
    pub(super) path: &'a Path,
    pub(super) arguments: Vec<OsString>,
    /// Where its standard output and error go.
    pub(super) log: PathBuf,
    /// The network namespace to run in, when it isn't ours.
    pub(super) netns: Option<&'a Path>,
}

/// Waits for one line, then becomes the program. When the launcher dies before it has written down
/// the process id, the line never comes, and no process is left that nobody knows of.
/// A log that may not grow any more must not end the program: hence the ignored signal.
const GATE: &str = r#"trap '' XFSZ && read -r line && exec "$0" "$@" </dev/null"#;

/// A process that waits to become the program.
pub(super) struct Gated(Child);

impl Gated {
    /// Starts the process.
    pub(super) fn spawn(program: &Program<'_>) -> io::Result<Self> {
        let log = File::create(&program.log)?;
        let mut command = Command::new("/bin/sh");
        command.args(["-c", GATE]).arg(program.path);
        command.args(&program.arguments);
        command.stdin(Stdio::piped());
        command.stdout(log.try_clone()?).stderr(log);
        // A Ctrl-C at the launcher's terminal is not meant for a sandbox.
        command.process_group(0);
        spawn_inside(&mut command, program.netns).map(Self)
    }

    /// The process id, the same before and after.
    pub(super) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Lets it become the program.
    pub(super) fn release(mut self) -> io::Result<Child> {
        if let Some(mut gate) = self.0.stdin.take() {
            gate.write_all(b"go\n")?;
        }
        Ok(self.0)
    }
}

/// Spawns from a thread of its own: a child inherits the thread's namespace and signal mask.
fn spawn_inside(command: &mut Command, netns: Option<&Path>) -> io::Result<Child> {
    let spawn = || {
        if let Some(netns) = netns {
            setns(File::open(netns)?, CloneFlags::CLONE_NEWNET)?;
        }
        SigSet::empty().thread_set_mask()?;
        command.spawn()
    };
    thread::scope(|scope| scope.spawn(spawn).join())
        .unwrap_or_else(|_| Err(io::Error::other("the spawning thread panicked")))
}

/// Looks a program up like a shell does.
pub(super) fn find_program(name: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::launch::processes::{ProcessRecord, Role};

    fn touch(folder: &Path) -> Program<'static> {
        Program {
            path: Path::new("/usr/bin/touch"),
            arguments: vec![folder.join("marker").into()],
            log: folder.join("log"),
            netns: None,
        }
    }

    #[test]
    fn program_runs_once_released() {
        let folder = tempfile::tempdir().unwrap();
        let gated = Gated::spawn(&touch(folder.path())).unwrap();
        assert!(!folder.path().join("marker").exists());
        assert!(gated.release().unwrap().wait().unwrap().success());
        assert!(folder.path().join("marker").exists());
    }

    #[test]
    fn program_never_runs_when_the_launcher_goes_away() {
        let folder = tempfile::tempdir().unwrap();
        let gated = Gated::spawn(&touch(folder.path())).unwrap();
        let process = ProcessRecord::of(Role::Qemu, gated.id()).unwrap();
        drop(gated);
        assert!(process.wait_for_end(Duration::from_secs(10)));
        assert!(!folder.path().join("marker").exists());
    }

    #[test]
    fn missing_namespace_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let program = Program {
            netns: Some(Path::new("/nonexistent/netns")),
            ..touch(folder.path())
        };
        let error = Gated::spawn(&program).map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
