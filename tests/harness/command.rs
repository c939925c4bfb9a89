//! Running programs.

use std::fmt;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use patchbay_types::failure::Kind;
use serde_json::Value;
use tempfile::TempDir;

use crate::bin;

/// Exit status and output of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// Exit status; 128 plus the number of the signal that ended a traced program.
    pub status: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Done {
    /// Asserts success and `null` as the only output, the incumbent's empty answer.
    #[track_caller]
    pub fn assert_null(self) {
        assert_eq!(self.ok(), "null\n");
    }

    /// Asserts the exit code of this kind and a part of the error message.
    #[track_caller]
    pub fn assert_error(&self, kind: Kind, message: &str) {
        assert_eq!(self.status, i32::from(kind.exit_code()), "{self}");
        assert!(self.err.contains(message), "{message}: {self}");
    }

    /// The same for a command of `kata-network`, which prints `null` when it fails.
    #[track_caller]
    pub fn assert_null_error(&self, kind: Kind, message: &str) {
        self.assert_error(kind, message);
        assert_eq!(self.out, "null\n", "{self}");
    }

    /// Returns standard output; asserts success.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.status, 0, "{self}");
        self.out
    }

    /// Returns standard output as JSON; asserts success.
    #[track_caller]
    pub fn json(self) -> Value {
        let text = self.ok();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "exit {}\nstdout: {}\nstderr: {}",
            self.status, self.out, self.err
        )
    }
}

/// Runs a command with this standard input until it exits.
pub fn run(command: &mut Command, input: &str) -> Done {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    // Fails if the program exits without reading all its input, which it is free to do.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    Done {
        status: output.status.code().unwrap_or(255),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Runs a program without arguments, and returns the most memory that it had, in KiB.
pub fn peak_memory(program: &Command, input: &str) -> u64 {
    let mut command = Command::new("/usr/bin/time");
    command.args(["--format", "%M"]).arg(program.get_program());
    command.envs(
        program
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    let done = run(&mut command, input);
    let peak = done.err.lines().last().and_then(|line| line.parse().ok());
    peak.unwrap_or_else(|| panic!("{done}"))
}

/// Returns a `patchbay` command with this run directory.
pub fn patchbay(run_dir: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(bin("patchbay"));
    command.env("PATCHBAY_RUN_DIR", run_dir).args(words);
    command
}

/// Parent of the temporary folders of tests.
pub(crate) const TEMPORARY: &str = "/tmp";

/// Creates a temporary folder. Its path is short, because those of Unix sockets have at most 107
/// bytes.
pub fn temp_dir() -> TempDir {
    tempfile::Builder::new()
        .prefix("pb-")
        .tempdir_in(TEMPORARY)
        .unwrap()
}
