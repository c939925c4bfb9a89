//! Announces to the service manager that the agent serves (`sd_notify(3)`).

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Maximum wait for a service manager that does not read.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Connection to the service manager. It is made before the process gives up its privileges: a confined one can
/// neither make a socket of this kind nor connect it.
#[derive(Debug)]
pub struct Readiness(UnixDatagram);

impl Readiness {
    /// Connects to the socket of `NOTIFY_SOCKET`, if it is set.
    ///
    /// # Errors
    /// The socket doesn't exist, or the address has another form than `/PATH` or `@NAME`.
    pub fn of_environment() -> io::Result<Option<Self>> {
        let address = std::env::var_os("NOTIFY_SOCKET");
        address.map(|address| Self::connect(&address)).transpose()
    }

    fn connect(address: &OsStr) -> io::Result<Self> {
        let address = match address.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            [b'/', ..] => SocketAddr::from_pathname(address)?,
            _ => return Err(io::ErrorKind::Unsupported.into()),
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(TIMEOUT))?;
        socket.connect_addr(&address)?;
        Ok(Self(socket))
    }

    /// Announces that the agent serves, and closes the connection.
    ///
    /// # Errors
    /// The service manager has ended, or doesn't read.
    pub fn announce(self) -> io::Result<()> {
        self.0.send(b"READY=1").map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(socket: &UnixDatagram) -> Vec<u8> {
        let mut buffer = [0; 64];
        let length = socket.recv(&mut buffer).unwrap();
        buffer[..length].to_vec()
    }

    #[test]
    fn announce_sends_the_state_to_paths_and_abstract_names() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let by_path = UnixDatagram::bind(&path).unwrap();
        let readiness = Readiness::connect(path.as_os_str()).unwrap();
        readiness.announce().unwrap();
        assert_eq!(received(&by_path), b"READY=1");

        let name = format!("patchbay-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let by_name = UnixDatagram::bind_addr(&address).unwrap();
        let readiness = Readiness::connect(OsStr::new(&format!("@{name}"))).unwrap();
        readiness.announce().unwrap();
        assert_eq!(received(&by_name), b"READY=1");
    }

    #[test]
    fn connect_to_other_forms_and_missing_sockets_fails() {
        let failed = |address: &str| Readiness::connect(OsStr::new(address)).unwrap_err().kind();
        assert_eq!(failed("vsock:2:1"), io::ErrorKind::Unsupported);
        assert_eq!(failed(""), io::ErrorKind::Unsupported);
        assert_eq!(failed("/nonexistent/notify"), io::ErrorKind::NotFound);
    }
}
