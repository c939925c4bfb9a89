//! Address of an agent.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::InvalidValue;

/// Default vsock port of the agent. Binding a port below 1024 needs
/// `CAP_NET_BIND_SERVICE` in the guest.
pub const DEFAULT_PORT: u32 = 961;

/// Default vsock port of the agent of release 0.1.0, which every process of a guest can bind. In an
/// [`Endpoint`], the default port of any release.
pub const EARLIER_PORT: u32 = 1061;

/// Vsock port of Kata's agent.
pub const KATA_PORT: u32 = 1024;

/// Ports that a guest's init holds for the agent.
pub const DEFAULT_PORTS: [u32; 2] = [DEFAULT_PORT, EARLIER_PORT];

/// Address of an agent, as in `sandbox.json` and `--agent`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// `vsock://CID:PORT`: `AF_VSOCK`, for hosts with `/dev/vhost-vsock`.
    Vsock {
        /// Context id of the guest, at least 3; lower ones are reserved (`linux/vm_sockets.h`).
        cid: u32,
        /// Port in the guest.
        port: u32,
    },
    /// `hvsock://PATH:PORT`: a Unix socket on which `CONNECT PORT` opens the stream, as with
    /// Firecracker, Cloud Hypervisor and vhost-device-vsock.
    Hybrid {
        /// Absolute path of the Unix socket.
        path: PathBuf,
        /// Port in the guest.
        port: u32,
    },
    /// `unix://PATH`: an agent on the same kernel, without a VM.
    Unix(PathBuf),
}

impl Endpoint {
    /// Returns the endpoint with another port. A Unix socket has none and is returned unchanged.
    #[must_use]
    pub fn at_port(self, port: u32) -> Self {
        match self {
            Endpoint::Vsock { cid, port: _ } => Endpoint::Vsock { cid, port },
            Endpoint::Hybrid { path, port: _ } => Endpoint::Hybrid { path, port },
            Endpoint::Unix(path) => Endpoint::Unix(path),
        }
    }

    fn port(&self) -> Option<u32> {
        match self {
            Endpoint::Vsock { port, .. } | Endpoint::Hybrid { port, .. } => Some(*port),
            Endpoint::Unix(_) => None,
        }
    }

    /// Returns whether this is the endpoint of Kata's agent.
    #[must_use]
    pub fn is_kata(&self) -> bool {
        self.port() == Some(KATA_PORT)
    }

    /// Returns the endpoint of Kata's agent in a guest that can have it in place of patchbay's. The present
    /// port means patchbay's agent of this release: any process of a guest can take Kata's port.
    #[must_use]
    pub fn kata(&self) -> Option<Self> {
        let is_open = self.port() == Some(EARLIER_PORT) || self.is_kata();
        is_open.then(|| self.clone().at_port(KATA_PORT))
    }

    /// Returns the endpoints at which the agent can be, in the order of the attempts. The port of release
    /// 0.1.0 means both default ports, since the agent's release is unknown before its handshake; the
    /// present one means itself, because any process of a guest can take the other.
    #[must_use]
    pub fn attempts(&self) -> Vec<Self> {
        match self {
            Endpoint::Vsock { port, .. } | Endpoint::Hybrid { port, .. }
                if *port == EARLIER_PORT =>
            {
                let at = |port| self.clone().at_port(port);
                DEFAULT_PORTS.map(at).into()
            }
            _ => vec![self.clone()],
        }
    }
}

const RULE: &str =
    "an agent is at vsock://CID:PORT (CID 3 or more), hvsock:///PATH:PORT or unix:///PATH";

impl FromStr for Endpoint {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        parse(text).ok_or_else(|| InvalidValue::new(text, RULE))
    }
}

fn parse(text: &str) -> Option<Endpoint> {
    let absolute = |path: &str| Path::new(path).is_absolute().then(|| PathBuf::from(path));
    let (scheme, rest) = text.split_once("://")?;
    if scheme == "unix" {
        return absolute(rest).map(Endpoint::Unix);
    }
    let (place, port) = rest.rsplit_once(':')?;
    let port = number(port)?;
    match scheme {
        "vsock" => {
            let cid = number(place).filter(|cid| (3..u32::MAX).contains(cid))?;
            Some(Endpoint::Vsock { cid, port })
        }
        "hvsock" => absolute(place).map(|path| Endpoint::Hybrid { path, port }),
        _ => None,
    }
}

/// Parses decimal digits only: `u32::from_str` would accept a sign.
fn number(text: &str) -> Option<u32> {
    text.bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| text.parse().ok())?
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Vsock { cid, port } => write!(f, "vsock://{cid}:{port}"),
            Endpoint::Hybrid { path, port } => write!(f, "hvsock://{}:{port}", path.display()),
            Endpoint::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoint_forms_round_trip() {
        for text in [
            "vsock://3:1061",
            "hvsock:///run/a:b/vsock.sock:1061",
            "unix:///run/a.sock",
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn endpoint_at_port_keeps_the_guest() {
        let agent: Endpoint = "hvsock:///run/v.sock:1061".parse().unwrap();
        assert_eq!(agent.at_port(7).to_string(), "hvsock:///run/v.sock:7");
    }

    #[test]
    fn attempts_of_earlier_port_begin_with_the_present_one() {
        for (text, attempts) in [
            ("vsock://3:961", &["vsock://3:961"][..]),
            ("vsock://3:1061", &["vsock://3:961", "vsock://3:1061"]),
            ("hvsock:///v:7", &["hvsock:///v:7"]),
            ("unix:///a", &["unix:///a"]),
        ] {
            let endpoint: Endpoint = text.parse().unwrap();
            let all = endpoint.attempts();
            assert_eq!(
                all.iter().map(ToString::to_string).collect::<Vec<_>>(),
                attempts
            );
        }
    }

    #[test]
    fn endpoint_invalid_is_refused_with_the_forms() {
        for text in [
            "",
            "vsock://",
            "vsock://2:1061",
            "vsock://3",
            "vsock://3:+1",
            "vsock://4294967295:1",
            "vsock://3:4294967296",
            "hvsock://relative:1061",
            "hvsock:///a",
            "unix://a",
            "tcp://1:2",
        ] {
            assert_eq!(
                text.parse::<Endpoint>(),
                Err(InvalidValue::new(text, RULE)),
                "{text}"
            );
        }
    }
}
