use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::chown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;

use patchbay_types::failure::{Failure, Kind};
use rustix::process::Uid;

use super::super::command::{DeviceDel, QomList};
use super::super::virsh::{Uuid, Virsh};
use super::*;

/// Replies to the second and third command of a session.
const STATUS: &str = "{\"return\":{\"status\":\"running\",\"running\":true},\"id\":2}\n";
const VSOCK: &str = "{\"error\":{\"class\":\"DeviceNotFound\",\"desc\":\"no\"},\"id\":3}\n";

/// Connects to a monitor that sends the first text at once, one after each request, and closes.
fn monitor(texts: &'static [&'static str]) -> (tempfile::TempDir, Result<Session, Error>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("qmp");
    let listener = UnixListener::bind(&path).unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut requests = BufReader::new(stream.try_clone().unwrap()).lines();
        for text in texts {
            stream.write_all(text.as_bytes()).unwrap();
            if text != texts.last().unwrap() {
                requests.next();
            }
        }
    });
    let session = Session::connect(Monitor {
        path: &path,
        qemu: None,
        shared: None,
    });
    (dir, session)
}

#[test]
fn run_accepts_events_anywhere_and_split_lines() {
    let (_dir, session) = monitor(&[
        "{\"event\":\"RESUME\"}\n{\"QMP\":{\"capabilities\":[\"oob\"]}}\n",
        "{\"event\":\"STOP\"}\n{\"return\":{},\"id\":1}\n",
        "{\"return\":{\"status\":\"paused\",\"running\":false},\"id\":2}\n{\"event\":\"DEVICE_DELETED\",",
        "\"data\":{\"device\":\"d\"}}\n{\"return\":{\"vhost-started\":true},\"id\":3}\n",
        "{\"return\":[],\"id\":4}\n",
    ]);
    let mut session = session.unwrap();
    assert_eq!(session.status().status, "paused");
    assert!(session.vsock().unwrap().vhost_started);
    assert_eq!(session.run(&QomList { path: "/" }).unwrap().len(), 0);
    assert!(
        session.run(&QomList { path: "/" }).is_err(),
        "the monitor has closed"
    );
}

#[test]
fn run_ignores_reply_to_earlier_command() {
    let (_dir, session) = monitor(&[
        "{\"QMP\":{\"capabilities\":[\"oob\"]}}\n",
        "{\"return\":{},\"id\":1}\n",
        STATUS,
        VSOCK,
        "{\"error\":{\"class\":\"GenericError\",\"desc\":\"old\"},\"id\":1}\n{\"return\":[],\"id\":4}\n",
    ]);
    assert!(session.unwrap().run(&QomList { path: "/" }).is_ok());
}

#[test]
fn run_all_returns_each_reply() {
    let (_dir, session) = monitor(&[
        "{\"QMP\":{\"capabilities\":[\"oob\"]}}\n",
        "{\"return\":{},\"id\":1}\n",
        STATUS,
        VSOCK,
        "{\"return\":[],\"id\":4}\n{\"error\":{\"class\":\"GenericError\",\"desc\":\"no\"},\"id\":5}\n\
         {\"event\":\"STOP\"}\n{\"return\":[],\"id\":6}\n",
    ]);
    let commands = ["/a", "/b", "/c"].map(|path| QomList { path });
    let replies = session.unwrap().run_all(&commands).unwrap();
    let kinds: Vec<bool> = replies.iter().map(Result::is_ok).collect();
    assert_eq!(kinds, [true, false, true]);
}

#[test]
fn error_reply_keeps_class_and_text() {
    let (_dir, session) = monitor(&[
        "{\"QMP\":{\"capabilities\":[\"oob\"]}}\n",
        "{\"return\":{},\"id\":1}\n",
        STATUS,
        VSOCK,
        "{\"error\":{\"class\":\"DeviceNotFound\",\"desc\":\"no d\"},\"id\":4}\n",
    ]);
    let error = session.unwrap().run(&DeviceDel { id: "d" }).unwrap_err();
    assert!(error.is_absent());
    assert_eq!(error.to_string(), "QEMU refused device_del: no d");
}

#[test]
fn connect_malformed_or_closed_fails() {
    let (_dir, session) = monitor(&["hello\n"]);
    assert!(matches!(session.unwrap_err(), Error::Malformed(_)));
    let (_dir, session) = monitor(&["{\"QMP\":"]);
    assert!(matches!(session.unwrap_err(), Error::Closed));
}

#[test]
fn connect_endless_line_fails() {
    static FLOOD: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| "x".repeat(5 << 20));
    static TEXTS: std::sync::LazyLock<[&'static str; 1]> =
        std::sync::LazyLock::new(|| [FLOOD.as_str()]);
    let (_dir, session) = monitor(&*TEXTS);
    assert_eq!(
        session.unwrap_err().to_string(),
        "malformed QMP message: a line is longer than 4 MiB"
    );
}

#[test]
fn connect_listener_of_another_user_fails() {
    const NOBODY: u32 = 65534;
    let dir = tempfile::tempdir().unwrap();
    chown(dir.path(), Some(NOBODY), None).unwrap();
    let path = dir.path().join("qmp");
    // The rights of this thread alone, by which the kernel remembers who listens.
    let bind = || {
        let user = Uid::from_raw(NOBODY);
        rustix::thread::set_thread_res_uid(user, user, user).unwrap();
        UnixListener::bind(&path).unwrap()
    };
    let _listener = thread::scope(|scope| scope.spawn(bind).join().unwrap());
    let short = Duration::from_millis(10);
    let monitor = Monitor {
        path: &path,
        qemu: None,
        shared: None,
    };
    let connect = || Session::connect_within(monitor, short).unwrap_err();
    // A machine whose folder belongs to the user of its QEMU.
    assert!(matches!(connect(), Error::Busy { .. }));
    chown(dir.path(), Some(0), None).unwrap();
    let failure = Failure::from(connect());
    assert_eq!(failure.kind(), Kind::Denied);
    assert!(
        failure.to_string().contains("belongs to user 65534"),
        "{failure}"
    );
}

/// Serves one session: reads as many requests as each number, then sends the text.
fn serve(steps: &'static [(usize, &'static str)]) -> Result<Session, Error> {
    let (own, other) = UnixStream::pair().unwrap();
    thread::spawn(move || {
        let mut requests = BufReader::new(other.try_clone().unwrap()).lines();
        for (count, text) in steps {
            requests.by_ref().take(*count).for_each(drop);
            (&other).write_all(text.as_bytes()).unwrap();
        }
    });
    Session::over(own, Path::new("/qmp"), Duration::from_secs(5))
}

#[test]
fn connect_sends_the_first_queries_before_the_greeting() {
    let session = serve(&[
        (
            3,
            "{\"QMP\":{\"capabilities\":[\"oob\"]}}\n{\"return\":{},\"id\":1}\n",
        ),
        (0, STATUS),
        (0, VSOCK),
    ]);
    assert_eq!(session.unwrap().status().status, "running");
}

#[test]
fn connect_without_out_of_band_commands_negotiates_again() {
    let session = serve(&[
        (0, "{\"QMP\":{\"capabilities\":[]}}\n"),
        (
            3,
            "{\"error\":{\"class\":\"GenericError\",\"desc\":\"oob\"},\"id\":1}\n",
        ),
        (
            0,
            "{\"error\":{\"class\":\"CommandNotFound\",\"desc\":\"no\"},\"id\":2}\n",
        ),
        (
            0,
            "{\"error\":{\"class\":\"CommandNotFound\",\"desc\":\"no\"},\"id\":3}\n",
        ),
        (3, "{\"return\":{},\"id\":4}\n"),
        (
            0,
            "{\"return\":{\"status\":\"paused\",\"running\":false},\"id\":5}\n",
        ),
        (0, "{\"return\":{\"vhost-started\":true},\"id\":6}\n"),
    ]);
    let session = session.unwrap();
    assert_eq!(session.status().status, "paused");
    assert!(session.vsock().unwrap().vhost_started);
}

#[test]
fn run_or_rescue_over_libvirt_is_refused() {
    let virsh = Virsh::new(SharedMonitor {
        uri: "qemu:///system",
        domain: Uuid::parse("6ec7a98b-0000-4000-8000-00000000000b").unwrap(),
        qemu: 1,
    });
    let mut session = Session::new(Channel::Virsh(virsh));
    let (command, rescue) = (DeviceDel { id: "a" }, DeviceDel { id: "b" });
    let refused = session.run_or_rescue(&command, Duration::from_secs(1), &rescue);
    let failure = Failure::from(refused.unwrap_err());
    assert_eq!(failure.kind(), Kind::Unsupported);
    let line = failure.line();
    assert!(
        line.starts_with("device_del can block the machine"),
        "{line}"
    );
}
