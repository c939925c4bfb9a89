//! Domains of libvirt, found by the status files of its QEMU driver, which are only read.
//!
//! libvirtd keeps its own monitor of a domain, which serves one client. A domain can have a second one, by the
//! element `qemu:commandline` (docs/libvirt.md); the monitor of one that has none is used through libvirtd.

use std::path::{Path, PathBuf};

use patchbay_types::endpoint::{EARLIER_PORT, Endpoint};
use patchbay_types::failure::{Failure, Kind};
use roxmltree::{Document, Node, ParsingOptions};

use super::files;
use super::id::{Candidate, Origin, SandboxId};
use crate::qmp::{SharedMonitor, Uuid};

/// Namespace of `qemu:commandline`.
const QEMU: &str = "http://libvirt.org/schemas/domain/qemu/1.0";
/// Limit for the elements, attributes and texts of a status file.
const MAX_NODES: u32 = 100_000;

/// Folder with the status files of the system's libvirtd.
const OF_SYSTEM: &str = "run/libvirt/qemu";
/// The same of a user's libvirtd.
const OF_USER: &str = "libvirt/qemu/run";

/// Domain that runs.
#[derive(Debug)]
pub(super) struct Domain {
    /// Socket of the monitor.
    pub(super) qmp: PathBuf,
    /// The way through libvirtd, if the monitor is its own.
    pub(super) shared: Option<SharedMonitor>,
    /// Process id of QEMU.
    pub(super) pid: u32,
    /// Context id of the vsock.
    cid: Option<String>,
}

impl Domain {
    /// Returns the address of the agent.
    ///
    /// # Errors
    /// [`Kind::NotFound`] for a domain without a vsock.
    pub(super) fn agent(&self, id: &SandboxId) -> Result<Endpoint, Failure> {
        let cid = self.cid.as_ref();
        cid.and_then(|cid| format!("vsock://{cid}:{EARLIER_PORT}").parse().ok())
            .ok_or_else(|| missing(id, "vsock"))
    }
}

/// Lists the folders that have the status files, which need not exist: of the system's libvirtd and of the
/// user's.
pub(super) fn folders(roots: &[PathBuf]) -> Vec<PathBuf> {
    let roots = files::roots(roots).into_iter();
    let below = |root: PathBuf| [OF_SYSTEM, OF_USER].map(|path| root.join(path));
    roots.flat_map(below).collect()
}

/// Finds the status file of a domain by its whole name.
///
/// # Errors
/// [`Kind::NotFound`] if no domain with this name runs.
pub(super) fn status(roots: &[PathBuf], id: &SandboxId) -> Result<PathBuf, Failure> {
    for folder in folders(roots) {
        let status = folder.join(format!("{id}.xml"));
        if files::exists(&status)? {
            return Ok(status);
        }
    }
    let message = format!("libvirt runs no domain {id}, and config.toml has no qmp for it");
    Err(Failure::new(Kind::NotFound, message))
}

/// Lists the domains whose names match. Names that can't be ids are left out.
pub(super) fn matching(
    roots: &[PathBuf],
    wanted: Option<&SandboxId>,
) -> Result<Vec<Candidate>, Failure> {
    let mut found = Vec::new();
    for folder in folders(roots) {
        for name in files::names(&folder)? {
            let name = name.to_str().and_then(|name| name.strip_suffix(".xml"));
            let id = name.and_then(|name| name.parse::<SandboxId>().ok());
            if let Some(id) = id
                && let Some(kind) = id.matches(wanted)
            {
                found.push(Candidate {
                    kind,
                    origin: Origin::Libvirt(folder.join(format!("{id}.xml"))),
                    folder: folder.clone(),
                    id,
                });
            }
        }
    }
    Ok(found)
}

/// Reads how a domain is reached.
///
/// # Errors
/// [`Kind::NotFound`] for a domain that has ended, or without a monitor; [`Kind::Invalid`] for another content
/// than libvirt's.
pub(super) fn read(status: &Path, id: &SandboxId) -> Result<Domain, Failure> {
    let ended = || {
        Failure::new(
            Kind::NotFound,
            format!("the domain {id} of libvirt has ended"),
        )
    };
    let bytes = files::bytes_if_exists(status)?.ok_or_else(ended)?;
    let invalid = |cause: &str| files::invalid(status, cause);
    let text = std::str::from_utf8(&bytes).map_err(|_| invalid("it is not UTF-8"))?;
    let options = ParsingOptions {
        nodes_limit: MAX_NODES,
        ..ParsingOptions::default()
    };
    let document = Document::parse_with_options(text, options);
    let document = document.map_err(|error| invalid(&error.to_string()))?;
    let root = document.root_element();
    let pid = root.attribute("pid").and_then(|pid| pid.parse().ok());
    let (Some(domain), Some(pid)) = (child(root, "domain"), pid) else {
        return Err(invalid("it has no domain with a process id"));
    };
    let cid = cid(domain).map(str::to_owned);
    if let Some(qmp) = second_monitor(domain) {
        let shared = None;
        return Ok(Domain {
            qmp,
            shared,
            pid,
            cid,
        });
    }
    let (Some(qmp), Some(domain)) = (own_monitor(root), uuid(domain)) else {
        return Err(missing(id, "monitor"));
    };
    let is_user = status
        .parent()
        .is_some_and(|folder| folder.ends_with(OF_USER));
    let shared = Some(SharedMonitor {
        uri: if is_user {
            "qemu:///session"
        } else {
            "qemu:///system"
        },
        domain,
        qemu: pid,
    });
    Ok(Domain {
        qmp,
        shared,
        pid,
        cid,
    })
}

fn missing(id: &SandboxId, part: &str) -> Failure {
    let message = format!("the domain {id} of libvirt has no {part}");
    let step = "add one to its definition (docs/libvirt.md), or name the machine in config.toml";
    Failure::new(Kind::NotFound, message).with_cause(step)
}

fn uuid(domain: Node<'_, '_>) -> Option<Uuid> {
    Uuid::parse(child(domain, "uuid")?.text()?)
}

/// Returns the socket of libvirtd's monitor.
fn own_monitor(root: Node<'_, '_>) -> Option<PathBuf> {
    let monitor =
        child(root, "monitor").filter(|monitor| monitor.attribute("type") == Some("unix"))?;
    let path = PathBuf::from(monitor.attribute("path")?);
    Some(path).filter(|path| path.is_absolute())
}

fn child<'a>(of: Node<'a, 'a>, name: &str) -> Option<Node<'a, 'a>> {
    of.children().find(|node| node.has_tag_name(name))
}

/// Returns the context id that libvirt has given to the domain's vsock.
fn cid<'a>(domain: Node<'a, 'a>) -> Option<&'a str> {
    child(child(child(domain, "devices")?, "vsock")?, "cid")?.attribute("address")
}

/// Returns the socket of a monitor among the arguments that the definition adds to QEMU's: `-qmp unix:PATH`,
/// or `-mon` with a character device that is a Unix socket.
fn second_monitor(domain: Node<'_, '_>) -> Option<PathBuf> {
    let added = domain.children();
    let added = added.filter(|node| node.has_tag_name((QEMU, "commandline")));
    let values = added.flat_map(|added| added.children());
    let values = values.filter(|node| node.has_tag_name((QEMU, "arg")));
    let values: Vec<&str> = values.filter_map(|arg| arg.attribute("value")).collect();
    let pairs = || values.windows(2).map(|pair| (pair[0], pair[1]));
    let of_qmp = pairs().filter(|(option, _)| *option == "-qmp");
    let mut of_qmp = of_qmp.filter_map(|(_, value)| first(value.strip_prefix("unix:")?));
    let path = of_qmp.next().or_else(|| {
        let mut monitors = pairs().filter(|(option, value)| {
            *option == "-mon" && property(value, "mode").as_deref() == Some("control")
        });
        let wanted =
            monitors.find_map(|(_, value)| property(value, "chardev").or_else(|| first(value)))?;
        let mut devices = pairs().filter(|(option, _)| *option == "-chardev");
        devices.find_map(|(_, value)| {
            let is_wanted = property(value, "id").as_deref() == Some(&wanted);
            let is_socket = first(value).as_deref() == Some("socket");
            (is_wanted && is_socket)
                .then(|| property(value, "path"))
                .flatten()
        })
    })?;
    Some(PathBuf::from(path)).filter(|path| path.is_absolute())
}

/// Splits a value of QEMU's options at its commas; two commas are one in a text (QEMU's `docs/about`).
fn parts(value: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut rest = value.chars().peekable();
    while let Some(next) = rest.next() {
        if next == ',' && rest.next_if_eq(&',').is_none() {
            parts.push(String::new());
        } else if let Some(part) = parts.last_mut() {
            part.push(next);
        }
    }
    parts
}

fn first(value: &str) -> Option<String> {
    parts(value).into_iter().next()
}

fn property(value: &str, key: &str) -> Option<String> {
    let mut parts = parts(value).into_iter();
    parts.find_map(|part| part.strip_prefix(key)?.strip_prefix('=').map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Status file of libvirt 9.0, without the lists of capabilities and most devices.
    const STATUS: &str = r"<!--
WARNING: THIS IS AN AUTO-GENERATED FILE. CHANGES TO IT ARE LIKELY TO BE
OVERWRITTEN AND LOST. Changes to this xml configuration should be made using:
  virsh edit web
or other application using the libvirt API.
-->

<domstatus state='running' reason='booted' pid='10193'>
  <taint flag='custom-argv'/>
  <monitor path='/var/lib/libvirt/qemu/domain-1-web/monitor.sock' type='unix'/>
  <domain type='qemu' id='1' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
    <name>web</name>
    <uuid>6ec7a98b-0000-4000-8000-00000000000b</uuid>
    <devices>
      <emulator>/usr/bin/qemu-system-x86_64</emulator>
      <vsock model='virtio'>
        <cid auto='no' address='7'/>
        <alias name='vsock0'/>
      </vsock>
    </devices>
    <qemu:commandline>
      <qemu:arg value='-msg'/>
      <qemu:arg value='timestamp=on'/>
      <qemu:arg value='-qmp'/>
      <qemu:arg value='unix:/q/a,,b.sock,server=on,wait=off'/>
    </qemu:commandline>
  </domain>
</domstatus>
";

    /// Roots with the status file of a domain.
    fn host(status: &str) -> (tempfile::TempDir, [PathBuf; 1]) {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("run/libvirt/qemu");
        fs::create_dir_all(&folder).unwrap();
        fs::create_dir(folder.join("dbus")).unwrap();
        for name in ["web.xml", "web.pid", "bad name.xml", "autostarted"] {
            fs::write(folder.join(name), status).unwrap();
        }
        let roots = [dir.path().to_owned()];
        (dir, roots)
    }

    fn read_status(status: &str) -> Result<Domain, Failure> {
        let (_dir, roots) = host(status);
        let mut found = matching(&roots, Some(&"we".parse().unwrap())).unwrap();
        assert_eq!(found.len(), 1);
        let Some(Candidate {
            id,
            origin: Origin::Libvirt(status),
            ..
        }) = found.pop()
        else {
            panic!("{found:?}");
        };
        read(&status, &id)
    }

    #[test]
    fn read_domain_has_second_monitor_and_vsock() {
        let domain = read_status(STATUS).unwrap();
        assert_eq!(domain.pid, 10193);
        assert_eq!(domain.qmp, Path::new("/q/a,b.sock"));
        assert_eq!(domain.shared, None);
        let agent = domain.agent(&"web".parse().unwrap()).unwrap();
        assert_eq!(agent.to_string(), "vsock://7:1061");
    }

    #[test]
    fn read_monitor_can_be_a_character_device() {
        let added = |args: &[&str]| {
            let args = args.iter().map(|arg| format!("<qemu:arg value='{arg}'/>"));
            let begin = STATUS.find("<qemu:arg").unwrap();
            let end = STATUS.find("</qemu:commandline>").unwrap();
            let args = args.collect::<String>();
            read_status(&[&STATUS[..begin], &args, &STATUS[end..]].concat())
        };
        let device = "socket,id=m2,path=/q/m2,server=on,wait=off";
        for monitor in ["chardev=m2,mode=control", "m2,mode=control"] {
            let domain = added(&["-chardev", device, "-mon", monitor]).unwrap();
            assert_eq!(domain.qmp, Path::new("/q/m2"), "{monitor}");
        }
        for args in [
            &["-chardev", device, "-mon", "chardev=m2,mode=readline"][..],
            &["-chardev", device, "-mon", "chardev=m3,mode=control"],
            &[
                "-chardev",
                "pipe,id=m2,path=/q/m2",
                "-mon",
                "m2,mode=control",
            ],
            &["-qmp", "tcp:127.0.0.1:4444"],
            &["-qmp", "unix:relative.sock"],
            &["-qmp"],
            &[],
        ] {
            let domain = added(args).unwrap();
            let own = "/var/lib/libvirt/qemu/domain-1-web/monitor.sock";
            assert_eq!(domain.qmp, Path::new(own), "{args:?}");
            let shared = domain.shared.unwrap();
            let uuid = Uuid::parse("6ec7a98b-0000-4000-8000-00000000000b").unwrap();
            assert_eq!((shared.uri, shared.domain), ("qemu:///system", uuid));
            assert_eq!(shared.qemu, 10193);
        }
    }

    #[test]
    fn read_incomplete_status_is_an_error() {
        let without = |part: &str| read_status(&STATUS.replacen(part, "", 1)).unwrap_err();
        let domain = read_status(&STATUS.replacen("address='7'", "", 1)).unwrap();
        let failure = domain.agent(&"web".parse().unwrap()).unwrap_err();
        assert_eq!(failure.kind(), Kind::NotFound);
        assert!(
            failure.line().contains("web of libvirt has no vsock"),
            "{failure}"
        );
        let path = "path='/var/lib/libvirt/qemu/domain-1-web/monitor.sock'";
        for part in [" type='unix'", path, "6ec7a98b-"] {
            let one = STATUS.replacen("'-qmp'", "'-x'", 1).replacen(part, " ", 1);
            let failure = read_status(&one).unwrap_err();
            assert_eq!(failure.kind(), Kind::NotFound, "{part}");
            assert!(failure.line().contains("has no monitor"), "{failure}");
        }
        for part in ["pid='10193'", "</domain>", "xmlns:qemu"] {
            let failure = without(part);
            assert_eq!(failure.kind(), Kind::Invalid, "{part}");
            assert!(failure.to_string().contains("web.xml"), "{failure}");
        }
        let many = "<a/>".repeat(MAX_NODES as usize);
        let large = STATUS.replace("<taint", &format!("{many}<taint"));
        assert!(
            read_status(&large)
                .unwrap_err()
                .line()
                .contains("nodes limit")
        );
        let entity = format!("<!DOCTYPE a [<!ENTITY b \"c\">]>{STATUS}");
        assert!(read_status(&entity).unwrap_err().line().contains("DTD"));
    }

    #[test]
    fn matching_without_libvirt_finds_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let found = matching(&[dir.path().to_owned()], None).unwrap();
        assert!(found.is_empty(), "{found:?}");
    }
}
