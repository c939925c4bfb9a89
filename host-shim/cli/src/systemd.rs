//! Notifications to systemd, as in `sd_notify(3)`.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Connection to the service manager; without one, notifications have no effect.
#[derive(Debug, Default)]
pub(crate) struct ServiceManager {
    socket: Option<UnixDatagram>,
    /// Half of the time after which the manager ends a service that is silent.
    pub(crate) interval: Option<Duration>,
}

impl ServiceManager {
    /// Connects to the manager that the environment names.
    pub(crate) fn of_environment() -> Self {
        let variable = |name: &str| std::env::var_os(name);
        let socket = variable("NOTIFY_SOCKET").and_then(|address| connect(&address).ok());
        let number = |name: &str| variable(name)?.to_str()?.parse::<u64>().ok();
        let is_own = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let timeout = number("WATCHDOG_USEC").filter(|timeout| is_own && *timeout > 0);
        Self {
            interval: timeout.map(|timeout| Duration::from_micros(timeout / 2)),
            socket,
        }
    }

    /// Sends states, each as `NAME=VALUE`. The manager ends a service of which it hears nothing.
    pub(crate) fn notify(&self, states: &str) {
        if let Some(socket) = &self.socket {
            let _ = socket.send(states.as_bytes());
        }
    }
}

/// Connects to a path, or to a name in the abstract namespace, which begins with `@`.
fn connect(address: &OsStr) -> io::Result<UnixDatagram> {
    let address = match address.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        path => SocketAddr::from_pathname(OsStr::from_bytes(path))?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    // A manager that reads nothing must not stop the service.
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notify_reaches_path_and_abstract_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let name = format!("patchbay-test-{}", std::process::id());
        let abstract_name = SocketAddr::from_abstract_name(&name).unwrap();
        let managers = [
            (UnixDatagram::bind(&path).unwrap(), path.into_os_string()),
            (
                UnixDatagram::bind_addr(&abstract_name).unwrap(),
                format!("@{name}").into(),
            ),
        ];
        for (manager, address) in managers {
            let service = ServiceManager {
                socket: Some(connect(&address).unwrap()),
                interval: None,
            };
            service.notify("READY=1\nSTATUS=1 sandbox");
            let mut buffer = [0; 64];
            let length = manager.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], b"READY=1\nSTATUS=1 sandbox");
        }
        ServiceManager::default().notify("READY=1");
    }
}
