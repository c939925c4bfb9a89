//! Running network managers, found by the names of processes.
//!
//! A container can imitate such a name, which causes no more than a needless warning.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use patchbay_types::{CardTreatment, NetworkManager};

/// Maximum number of processes that are examined. Managers start at boot, so they come first.
const MAX_PROCESSES: usize = 4096;
/// `TASK_COMM_LEN` of the kernel: a name has at most 15 bytes.
const COMM_BYTES: u64 = 16;

/// Rule of udev that marks cards, and the configuration of networkd that refers to it; both are part
/// of the overlay (`guest-image/overlay`).
const UDEV_RULE: [&str; 2] = ["udev/rules.d", "70-patchbay.rules"];
const NETWORKD_FILE: [&str; 2] = ["systemd/network", "00-0-patchbay.network"];

/// Folders of configuration; a file in an earlier one replaces the file of that name in later ones.
const CONFIGURATION: [&str; 3] = ["etc", "run", "usr/lib"];

/// Configuration by which a manager excludes marked cards.
#[derive(Debug, Clone, Copy)]
enum Exclusion {
    /// The property `NM_UNMANAGED`, which the rule sets.
    Rule,
    /// The rule and the file of networkd.
    RuleAndNetworkdFile,
    /// The manager knows only names of links, which the agent does not read.
    Unknown,
}

/// Managers: name of the process, name of the program, exclusion.
const MANAGERS: [(&str, &str, Exclusion); 10] = [
    (
        "systemd-network",
        "systemd-networkd",
        Exclusion::RuleAndNetworkdFile,
    ),
    ("NetworkManager", "NetworkManager", Exclusion::Rule),
    ("connmand", "connmand", Exclusion::Unknown),
    ("wickedd", "wickedd", Exclusion::Unknown),
    ("dhcpcd", "dhcpcd", Exclusion::Unknown),
    ("dhclient", "dhclient", Exclusion::Unknown),
    ("udhcpc", "udhcpc", Exclusion::Unknown),
    ("udhcpc6", "udhcpc6", Exclusion::Unknown),
    ("dhcp6c", "dhcp6c", Exclusion::Unknown),
    ("cloud-init", "cloud-init", Exclusion::Unknown),
];

/// Lists the running managers, each once, in the order of [`MANAGERS`].
///
/// # Errors
/// `/proc` can't be listed.
pub(crate) fn running(root: &Path) -> io::Result<Vec<NetworkManager>> {
    let entries = fs::read_dir(root.join("proc"))?.filter_map(Result::ok);
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let named = pids.take(MAX_PROCESSES).filter_map(|pid| {
        // A process that has ended has no name.
        let name = process_name(root, pid).ok()?;
        Some((pid, name))
    });
    let processes: Vec<(u32, String)> = named.collect();
    let manager = |(comm, program, exclusion): &(&str, &str, Exclusion)| {
        let (pid, _) = processes.iter().find(|(_, name)| name == comm)?;
        Some(NetworkManager {
            name: (*program).to_owned(),
            pid: *pid,
            cards: treatment(root, *exclusion),
        })
    };
    Ok(MANAGERS.iter().filter_map(manager).collect())
}

fn process_name(root: &Path, pid: u32) -> io::Result<String> {
    let mut name = String::new();
    let file = File::open(root.join(format!("proc/{pid}/comm")))?;
    file.take(COMM_BYTES).read_to_string(&mut name)?;
    Ok(name.trim_end().to_owned())
}

fn treatment(root: &Path, exclusion: Exclusion) -> CardTreatment {
    let excluded = match exclusion {
        Exclusion::Rule => is_configured(root, UDEV_RULE),
        Exclusion::RuleAndNetworkdFile => {
            is_configured(root, UDEV_RULE) && is_configured(root, NETWORKD_FILE)
        }
        Exclusion::Unknown => false,
    };
    if excluded {
        CardTreatment::Excluded
    } else {
        CardTreatment::Managed
    }
}

/// Returns whether the first file of this name has content; a link to `/dev/null` disables the rest.
fn is_configured(root: &Path, [folder, name]: [&str; 2]) -> bool {
    let mut files = CONFIGURATION
        .iter()
        .filter_map(|base| fs::metadata(root.join(base).join(folder).join(name)).ok());
    files
        .next()
        .is_some_and(|file| file.is_file() && file.len() > 0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn write(root: &Path, path: &str, content: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn found(root: &Path) -> Vec<(String, u32, CardTreatment)> {
        let managers = running(root).unwrap().into_iter();
        managers.map(|m| (m.name, m.pid, m.cards)).collect()
    }

    #[test]
    fn running_names_managers_and_their_exclusion() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        for (pid, comm) in [
            (1, "systemd"),
            (7, "NetworkManager"),
            (8, "systemd-network"),
            (30, "dhcpcd"),
            (31, "dhcpcd-helper"),
        ] {
            write(root, &format!("proc/{pid}/comm"), &format!("{comm}\n"));
        }
        fs::create_dir(root.join("proc/99")).unwrap();
        write(root, "proc/uptime", "1");
        let with = |networkd, network_manager| {
            [
                ("systemd-networkd".to_owned(), 8, networkd),
                ("NetworkManager".to_owned(), 7, network_manager),
                ("dhcpcd".to_owned(), 30, CardTreatment::Managed),
            ]
        };
        let (excluded, managed) = (CardTreatment::Excluded, CardTreatment::Managed);
        assert_eq!(found(root), with(managed, managed));
        write(root, "usr/lib/udev/rules.d/70-patchbay.rules", "rule");
        assert_eq!(found(root), with(managed, excluded));
        let network = "usr/lib/systemd/network/00-0-patchbay.network";
        write(root, network, "file");
        assert_eq!(found(root), with(excluded, excluded));
        let disabled = root.join("etc/udev/rules.d/70-patchbay.rules");
        fs::create_dir_all(disabled.parent().unwrap()).unwrap();
        symlink("/dev/null", disabled).unwrap();
        assert_eq!(found(root), with(managed, managed));
    }
}
