//! Log of the agent: a JSON object in each line of standard output, which in a guest is the console or the
//! journal.

use std::fmt;
use std::io::{self, Write};
use std::os::fd::AsFd as _;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use nix::sys::stat::fstat;
use patchbay_types::InvalidValue;
use slog::{Drain, Level, Logger, Never, OwnedKVList, Record, o};
use slog_json::Json;

/// Lowest level of the records that are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogLevel(Level);

/// Words of `--log-level`.
const LEVELS: [(&str, Level); 4] = [
    ("error", Level::Error),
    ("warn", Level::Warning),
    ("info", Level::Info),
    ("debug", Level::Debug),
];

impl Default for LogLevel {
    fn default() -> Self {
        Self(Level::Info)
    }
}

impl FromStr for LogLevel {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let found = LEVELS.iter().find(|(word, _)| *word == text);
        found.map(|(_, level)| Self(*level)).ok_or_else(|| {
            InvalidValue::new(text, "--log-level must be error, warn, info or debug")
        })
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = LEVELS.iter().find(|(_, level)| *level == self.0);
        f.write_str(found.map_or("info", |(word, _)| word))
    }
}

/// Returns the log on standard output. Its lines have priorities if it is a stream to the journal.
pub fn on_standard_output(level: LogLevel) -> Logger {
    let out = io::stdout();
    let opened = fstat(out.as_fd()).ok();
    let stream = std::env::var("JOURNAL_STREAM").ok();
    let is_journal = opened
        .zip(stream)
        .is_some_and(|(opened, stream)| stream == format!("{}:{}", opened.st_dev, opened.st_ino));
    let lines = Lines {
        out: Mutex::new(out),
        prefix: if is_journal { priority } else { |_| "" },
    };
    Logger::root(lines.filter_level(level.0).fuse(), o!())
}

/// Returns the prefix of a line by which journald knows its priority (`sd-daemon(3)`).
fn priority(level: Level) -> &'static str {
    match level {
        Level::Critical => "<2>",
        Level::Error => "<3>",
        Level::Warning => "<4>",
        Level::Info => "<6>",
        Level::Debug | Level::Trace => "<7>",
    }
}

/// Writes each record as a line.
struct Lines<W> {
    out: Mutex<W>,
    prefix: fn(Level) -> &'static str,
}

impl<W: Write> Drain for Lines<W> {
    type Ok = ();
    type Err = Never;

    /// A line that can't be written is lost: the agent must not end with the journal or the console.
    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> Result<(), Never> {
        let mut line = (self.prefix)(record.level()).as_bytes().to_vec();
        if Json::default(&mut line).log(record, values).is_ok() {
            // One call, so that the lines of agents in other namespaces don't get between its parts.
            let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = out.write_all(&line);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use slog::{crit, debug, error, info, warn};

    use super::*;

    /// Output that a test can read.
    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(level: &str, prefix: fn(Level) -> &'static str) -> Vec<String> {
        let shared = Shared::default();
        let lines = Lines {
            out: Mutex::new(shared.clone()),
            prefix,
        };
        let level: LogLevel = level.parse().unwrap();
        let log = Logger::root(lines.filter_level(level.0).fuse(), o!());
        crit!(log, "ends");
        error!(log, "fails");
        warn!(log, "lacks\n<0>");
        info!(log, "serves");
        debug!(log, "reads");
        let bytes = shared.0.lock().unwrap().clone();
        let text = String::from_utf8(bytes).unwrap();
        let start = |line: &str| {
            assert!(line.ends_with('}'), "{line}");
            line.split_once('{').unwrap().0.to_owned()
        };
        text.lines().map(start).collect()
    }

    #[test]
    fn lines_to_the_journal_have_the_priority_of_their_level() {
        let lines = written("debug", priority);
        assert_eq!(lines, ["<2>", "<3>", "<4>", "<6>", "<7>"]);
    }

    #[test]
    fn lines_below_the_level_are_left_out() {
        for (level, count) in [("error", 2), ("warn", 3), ("info", 4), ("debug", 5)] {
            let lines = written(level, |_| "");
            assert_eq!(lines, vec![""; count], "{level}");
        }
    }

    #[test]
    fn log_level_has_four_words() {
        for word in ["error", "warn", "info", "debug"] {
            assert_eq!(word.parse::<LogLevel>().unwrap().to_string(), word);
        }
        assert_eq!(LogLevel::default().to_string(), "info");
        let error = "trace".parse::<LogLevel>().unwrap_err().to_string();
        assert_eq!(
            error,
            "'trace' is not allowed: --log-level must be error, warn, info or debug"
        );
    }
}
