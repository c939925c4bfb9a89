//! libvirt's own monitor of a domain, by `virsh qemu-monitor-command`: libvirtd sends each command over the
//! session that it has with QEMU.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{getpid, getppid};
use serde_json::{Map, Value};

use super::error::Error;
use super::session::read_chunk;

/// Maximum length of a script, below the kernel's limit of 128 KiB for an argument (`MAX_ARG_STRLEN`).
const MAX_SCRIPT_BYTES: usize = 64 << 10;
/// Maximum length of the replies to a script.
const MAX_OUTPUT_BYTES: usize = 16 << 20;

/// Monitor of a domain that only libvirtd is connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SharedMonitor {
    /// URI of the libvirtd that runs the domain.
    pub(crate) uri: &'static str,
    /// UUID of the domain. Its number is reused, and virsh takes an unknown number for a name.
    pub(crate) domain: Uuid,
    /// Process id of QEMU.
    pub(crate) qemu: u32,
}

/// UUID of a domain, as libvirt writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Uuid(String);

impl Uuid {
    /// `None` for another text.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let groups: Vec<&str> = text.split('-').collect();
        let is_hex = |group: &&str| group.bytes().all(|byte| byte.is_ascii_hexdigit());
        let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
        (groups.iter().all(is_hex) && lengths == [8, 4, 4, 4, 12]).then(|| Self(text.to_owned()))
    }
}

/// Session over the monitor that libvirtd has.
#[derive(Debug)]
pub(super) struct Virsh {
    monitor: SharedMonitor,
    /// Lines of replies that are not taken yet.
    replies: Vec<u8>,
}

impl Virsh {
    pub(super) fn new(monitor: SharedMonitor) -> Self {
        let replies = Vec::new();
        Self { monitor, replies }
    }

    /// Process id of QEMU.
    pub(super) fn qemu(&self) -> u32 {
        self.monitor.qemu
    }

    /// Runs requests, one per line, each after the reply to the last one. Requests without a reply until the timeout
    /// have none in [`Self::take_replies`].
    ///
    /// # Errors
    /// [`Error::NoVirsh`], and [`Error::Libvirt`] if a request has no reply; others can have been carried out.
    pub(super) fn run(
        &mut self,
        lines: &[u8],
        fd: Option<BorrowedFd<'_>>,
        timeout: Duration,
    ) -> Result<(), Error> {
        let deadline = Instant::now() + timeout;
        let lines = lines.split(|byte| *byte == b'\n');
        let mut script = Script::default();
        for line in lines.filter(|line| !line.is_empty()) {
            let command = self.command(line, fd)?;
            if script.text.len() + command.text.len() > MAX_SCRIPT_BYTES {
                let next = std::mem::take(&mut script);
                if let End::Late = self.carry_out(&next, fd, deadline)? {
                    return Ok(());
                }
            }
            script.push(command);
        }
        self.carry_out(&script, fd, deadline).map(drop)
    }

    /// Moves the replies to the end of `received`; `None` if there are none.
    pub(super) fn take_replies(&mut self, received: &mut Vec<u8>) -> Option<()> {
        (!self.replies.is_empty()).then(|| received.append(&mut self.replies))
    }

    /// Translates a request into a command of virsh. libvirt refuses a request that has an id.
    fn command(&self, line: &[u8], fd: Option<BorrowedFd<'_>>) -> Result<VirshCommand, Error> {
        let mut request: Map<String, Value> = parse(line)?;
        let id = request.remove("id").unwrap_or_default();
        // Between its quotes, virsh takes each character but the quote as it is.
        let json = Value::Object(request).to_string().replace('\'', r"\u0027");
        let fds = fd.map_or("", |_| "--pass-fds 0 ");
        let Uuid(domain) = &self.monitor.domain;
        let text = format!("qemu-monitor-command {fds}{domain} '{json}';");
        Ok(VirshCommand { text, id })
    }

    fn carry_out(
        &mut self,
        script: &Script,
        fd: Option<BorrowedFd<'_>>,
        deadline: Instant,
    ) -> Result<End, Error> {
        let output = Invocation::start(self.monitor.uri, &script.text, fd)?.output(deadline)?;
        self.read(&output, &script.ids)?;
        Ok(output.end)
    }

    /// Reads the replies to requests with these ids.
    fn read(&mut self, output: &Output, ids: &[Value]) -> Result<(), Error> {
        for (line, id) in output.replies(ids.len())?.iter().zip(ids) {
            let mut reply = parse(line)?;
            reply.insert("id".to_owned(), id.clone());
            let reply = Value::Object(reply).to_string();
            self.replies.extend(reply.bytes());
            self.replies.push(b'\n');
        }
        Ok(())
    }
}

/// Reads the output of a process for so many requests; returns the replies, one per line.
#[cfg(feature = "fuzzing")]
pub(crate) fn replies(bytes: &[u8], end: End, requests: usize) -> Result<Vec<u8>, Error> {
    let monitor = SharedMonitor {
        uri: "qemu:///system",
        domain: Uuid(String::new()),
        qemu: 0,
    };
    let mut virsh = Virsh::new(monitor);
    let bytes = bytes.to_vec();
    let ids: Vec<_> = (0..requests).map(Value::from).collect();
    virsh.read(&Output { bytes, end }, &ids)?;
    Ok(virsh.replies)
}

fn parse(line: &[u8]) -> Result<Map<String, Value>, Error> {
    let malformed = |_| Error::Malformed("a line is not a QMP object");
    serde_json::from_slice(line).map_err(malformed)
}

/// Command of virsh, and the id of its request.
struct VirshCommand {
    text: String,
    id: Value,
}

/// Commands that one process runs.
#[derive(Default)]
struct Script {
    text: String,
    ids: Vec<Value>,
}

impl Script {
    fn push(&mut self, command: VirshCommand) {
        self.text += &command.text;
        self.ids.push(command.id);
    }
}

/// Makes the kernel kill the process with the thread that starts it: after a kill of the caller, virsh would
/// send a command that recovery doesn't expect any more.
fn end_with_caller(command: &mut Command) {
    let caller = getpid();
    let set = move || {
        set_pdeathsig(Signal::SIGKILL)?;
        // The caller can have ended before.
        if getppid() == caller {
            Ok(())
        } else {
            Err(Errno::ESRCH.into())
        }
    };
    // SAFETY: between fork and exec the closure makes two system calls, and allocates nothing.
    #[expect(unsafe_code, reason = "code between fork and exec")]
    unsafe {
        command.pre_exec(set);
    }
}

/// Output of a process: a line of JSON per reply, and lines for people.
#[derive(Debug)]
struct Output {
    bytes: Vec<u8>,
    end: End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The process has ended.
    Ended,
    /// It had not ended at the deadline.
    Late,
}

impl Output {
    /// Returns the replies to requests. virsh goes on after a request that fails, whose reply is missing.
    ///
    /// # Errors
    /// [`Error::Libvirt`] for a process that has ended without a reply to each request.
    fn replies(&self, wanted: usize) -> Result<Vec<&[u8]>, Error> {
        let lines = self.bytes.split_inclusive(|byte| *byte == b'\n');
        // The last line of a process that is late can be incomplete.
        let lines = lines.filter_map(|line| line.strip_suffix(b"\n"));
        let (replies, others): (Vec<_>, Vec<_>) = lines.partition(|line| line.starts_with(b"{"));
        let has_failed = others.iter().any(|line| line.starts_with(b"error: "));
        if !has_failed && (self.end == End::Late || replies.len() == wanted) {
            return Ok(replies);
        }
        let others = others.into_iter().filter(|line| !line.is_empty());
        let others = others
            .map(|line| String::from_utf8_lossy(line.strip_prefix(b"error: ").unwrap_or(line)));
        let mut texts: Vec<_> = others.collect();
        if texts.is_empty() {
            texts.push("virsh has ended without a message".into());
        }
        let text = texts.join("; ");
        Err(Error::Libvirt { text })
    }
}

/// Process of virsh, which ends with this value.
struct Invocation {
    child: Child,
    output: UnixStream,
}

impl Invocation {
    fn start(uri: &str, script: &str, fd: Option<BorrowedFd<'_>>) -> Result<Self, Error> {
        let (output, other) = UnixStream::pair()?;
        let other = OwnedFd::from(other);
        let stdin = fd.map(|fd| fd.try_clone_to_owned()).transpose()?;
        let mut command = Command::new("virsh");
        command
            .args(["--connect", uri, script])
            .env("LC_ALL", "C")
            // An interrupt from the terminal is for the caller, which undoes its work by further commands.
            .process_group(0)
            .stdin(stdin.map_or_else(Stdio::null, Stdio::from))
            .stdout(other.try_clone()?)
            .stderr(other);
        end_with_caller(&mut command);
        let child = command.spawn();
        let child = child.map_err(|source| Error::NoVirsh { source })?;
        Ok(Self { child, output })
    }

    /// Reads until the end of the process or the deadline.
    fn output(mut self, deadline: Instant) -> Result<Output, Error> {
        let mut bytes = Vec::new();
        let end = loop {
            if bytes.len() > MAX_OUTPUT_BYTES {
                return Err(Error::Malformed("the replies are longer than 16 MiB"));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break End::Late;
            }
            match read_chunk(&mut self.output, &mut bytes, left) {
                Ok(0) => break End::Ended,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break End::Late,
                Err(error) => return Err(error.into()),
            }
        };
        Ok(Output { bytes, end })
    }
}

impl Drop for Invocation {
    fn drop(&mut self) {
        // It has ended, or is late.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    const DOMAIN: &str = "6ec7a98b-0000-4000-8000-00000000000b";

    fn virsh() -> Virsh {
        Virsh::new(SharedMonitor {
            uri: "qemu:///system",
            domain: Uuid::parse(DOMAIN).unwrap(),
            qemu: 1,
        })
    }

    #[test]
    fn command_has_neither_id_nor_a_quote_in_its_json() {
        let request = br#"{"execute":"getfd","arguments":{"fdname":"a'b\\"},"id":7}"#;
        let command = virsh().command(request, None).unwrap();
        let json = command
            .text
            .strip_prefix(&format!("qemu-monitor-command {DOMAIN} '"));
        let json = json.and_then(|json| json.strip_suffix("';")).unwrap();
        assert!(json.contains(r#""a\u0027b\\""#), "{json}");
        let sent: Value = serde_json::from_str(json).unwrap();
        let arguments = serde_json::json!({"fdname": "a'b\\"});
        let expected = serde_json::json!({"execute": "getfd", "arguments": arguments});
        assert_eq!(sent, expected);
        assert_eq!(command.id, 7);
        let null = std::fs::File::open("/dev/null").unwrap();
        let command = virsh().command(request, Some(null.as_fd())).unwrap();
        assert!(
            command
                .text
                .starts_with("qemu-monitor-command --pass-fds 0 6ec7a98b-")
        );
    }

    #[test]
    fn uuid_is_hexadecimal_in_five_groups() {
        assert!(Uuid::parse(DOMAIN).is_some());
        for text in [
            "",
            "5",
            "web",
            &DOMAIN[1..],
            &DOMAIN.replace('a', "g"),
            &format!("{DOMAIN}-"),
        ] {
            assert_eq!(Uuid::parse(text), None, "{text}");
        }
    }

    #[test]
    fn replies_of_ended_process_are_complete_or_an_error() {
        let output = |bytes: &str, end| Output {
            bytes: bytes.as_bytes().to_vec(),
            end,
        };
        let two = output("{1}\n\n{2}\n\n", End::Ended);
        assert_eq!(two.replies(2).unwrap(), [b"{1}", b"{2}"]);
        for (bytes, text) in [
            ("{1}\n", "virsh has ended without a message"),
            (
                "{1}\nerror: failed to get domain\nerror: a reason\n{3}\n",
                "failed to get domain; a reason",
            ),
            ("virsh: symbol lookup error\n", "virsh: symbol lookup error"),
        ] {
            let error = output(bytes, End::Ended).replies(2).unwrap_err();
            let expected = format!("libvirt returned no reply to a command: {text}");
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn replies_of_late_process_are_those_that_are_complete() {
        let bytes = b"{1}\n{2".to_vec();
        let late = Output {
            bytes,
            end: End::Late,
        };
        assert_eq!(late.replies(2).unwrap(), [b"{1}"]);
    }
}
