//! A guest in which work is timed: patchbay from the host, the peer and the floor inside.

use std::ffi::OsStr;
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use patchbay_tests::{Guest, Machine, bin, patchbay, run};

/// Vsock port of `patchbay-baseline` in the guest.
pub(crate) const PORT: u32 = 1099;

/// Bytes of the echo that is the floor of small commands.
const ECHO: usize = 64;

/// Runs a command; returns the time from spawn to exit.
pub(crate) fn timed(command: &mut Command, input: Option<&Path>) -> Duration {
    let input = input.map_or_else(Stdio::null, |path| File::open(path).unwrap().into());
    command
        .stdin(input)
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let start = Instant::now();
    let done = command.spawn().unwrap().wait_with_output().unwrap();
    let took = start.elapsed();
    let error = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{command:?}: {error}");
    took
}

/// A new guest with the modules that the rows need and an empty IPVS trash.
pub(crate) struct Bed(pub(crate) Guest);

impl Bed {
    pub(crate) fn start(machine: Machine, words: &[&str]) -> Self {
        let bed = Self(Guest::start_with(machine, words));
        for scheduler in ["rr", "mh"] {
            bed.0.ipvsadm(&format!("-A -f 4711 -s {scheduler}")).ok();
            bed.0.ipvsadm("-D -f 4711").ok();
        }
        bed.0.cleanup("--orig-dst 10.255.0.1").ok();
        bed.0.exec("ip link set lo up").ok();
        let serve = format!("patchbay-baseline serve {PORT} >/dev/null 2>&1 &");
        bed.0.shell(&serve).ok();
        let deadline = Instant::now() + Duration::from_secs(20);
        while run(&mut bed.client("echo", ECHO), "").status != 0 {
            assert!(Instant::now() < deadline, "no echo");
        }
        bed
    }

    /// Times `patchbay` with these arguments.
    pub(crate) fn ours(&self, words: &[impl AsRef<OsStr>], input: Option<&Path>) -> Duration {
        timed(patchbay(self.0.run_dir(), &[]).args(words), input)
    }

    /// Times `patchbay kata-ipvs ipvsadm --parameters WORDS`.
    pub(crate) fn ipvsadm(&self, words: &str) -> Duration {
        let line = ["kata-ipvs", "ipvsadm", "--max-rules", "30000"];
        let rest = ["--parameters", words, self.0.id()];
        self.ours(&[&line[..], &rest].concat(), None)
    }

    /// Times `patchbay kata-ipvs ipvsadm --restore -`.
    pub(crate) fn restore(&self, options: &[&str], file: &Path) -> Duration {
        let line = ["kata-ipvs", "ipvsadm", "--restore", "-"];
        self.ours(&[&line[..], options, &[self.0.id()]].concat(), Some(file))
    }

    /// Times a program in the guest by the guest's clock. The arguments can have redirections.
    pub(crate) fn peer(&self, words: &str) -> Duration {
        self.floor(&format!("time {words}"))
    }

    /// Returns the time that `patchbay-baseline` in the guest reports.
    pub(crate) fn floor(&self, words: &str) -> Duration {
        let micros = self.0.shell(&format!("patchbay-baseline {words}")).ok();
        Duration::from_micros(micros.trim().parse().unwrap())
    }

    /// Times a new process on the host that transfers bytes through a new connection.
    pub(crate) fn moved(&self, work: &str, bytes: usize) -> Duration {
        timed(&mut self.client(work, bytes), None)
    }

    /// Times a new process that connects and receives an echo.
    pub(crate) fn echo(&self) -> Duration {
        self.moved("echo", ECHO)
    }

    fn client(&self, work: &str, bytes: usize) -> Command {
        let mut command = Command::new(bin("patchbay-baseline"));
        command.arg("client").arg(self.0.file("vsock.sock")).args([
            &PORT.to_string(),
            work,
            &bytes.to_string(),
        ]);
        command
    }
}
