//! QEMU's command line and version.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use super::accel::Accel;

/// The program.
pub const QEMU: &str = "qemu-system-x86_64";

/// The machine's kind, which decides where cards can be plugged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Machine {
    /// PCI Express, with a root port for every card.
    Q35,
    /// Conventional PCI, with one bridge for all cards.
    Pc,
}

/// How the guest's vsock reaches the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VsockDevice {
    /// Through the kernel's `/dev/vhost-vsock`, with this CID.
    Kernel {
        /// The guest's address.
        cid: u32,
    },
    /// Through a daemon at this Unix socket.
    VhostUser {
        /// The daemon's vhost-user socket.
        socket: PathBuf,
    },
}

/// All that the command line depends on.
#[derive(Debug, Clone)]
pub struct QemuConfig {
    /// The machine's kind.
    pub machine: Machine,
    /// KVM or not.
    pub accel: Accel,
    /// Number of virtual CPUs.
    pub cpus: u8,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Number of root ports; a `pc` machine has its bridge instead.
    pub ports: u8,
    /// The ELF kernel.
    pub kernel: PathBuf,
    /// The initial file system.
    pub initrd: PathBuf,
    /// Where the guest's console goes.
    pub console: PathBuf,
    /// Where QMP is served.
    pub qmp: PathBuf,
    /// The vsock device.
    pub vsock: VsockDevice,
    /// The user's own arguments, last.
    pub extra: Vec<OsString>,
}

/// Out of the way of the root ports (slots 1 to 28) and, on a `pc`, of the bridge and the chipset.
const VSOCK_SLOT: &str = "0x1e";

/// The first card on this bridge gets the PCI path `02.0/01`.
const BRIDGE: &str = "pci-bridge,id=pci-bridge-0,bus=pci.0,addr=0x2,chassis_nr=1";

/// A card gets its name, and goes, by grace periods of RCU: hurried ones take a tenth of the time.
const KERNEL_LINE: &str =
    "console=ttyS0 quiet loglevel=4 panic=-1 random.trust_cpu=on rcupdate.rcu_expedited=1";

/// Under emulation randomisation, mitigations and self-tests only cost time, and the timer checks
/// fail on a busy host.
const KERNEL_LINE_EMULATED: &str =
    " nokaslr mitigations=off cryptomgr.notests tsc=reliable no_timer_check";

/// One thread for all vCPUs. With a thread each, QEMU 10.0 on a busy host left a vCPU asleep for
/// good in about one of sixty guests: its timer interrupts no longer woke it. It boots no slower.
const EMULATION: &str = "tcg,thread=single";

/// Boots faster than `max`: the kernel sets up every feature that it finds, and emulated ones gain
/// nothing.
const EMULATED_CPU: &str = "Nehalem";

impl QemuConfig {
    /// QEMU's arguments.
    #[must_use]
    pub fn arguments(&self) -> Vec<OsString> {
        let mut list = Arguments::default();
        list.flags(&["-nodefaults", "-no-user-config", "-no-reboot"]);
        list.option("-display", "none");
        self.add_machine(&mut list);
        list.option("-kernel", &self.kernel);
        list.option("-initrd", &self.initrd);
        list.option("-append", self.kernel_line());
        list.option(
            "-chardev",
            with_path("file,id=console,path=", &self.console),
        );
        list.option("-serial", "chardev:console");
        list.option("-qmp", qmp_listener(&self.qmp));
        self.add_slots(&mut list);
        self.add_vsock(&mut list);
        list.0.extend(self.extra.iter().cloned());
        list.0
    }

    fn add_machine(&self, list: &mut Arguments) {
        let machine = match self.machine {
            Machine::Q35 => "q35",
            Machine::Pc => "pc",
        };
        let (accel, cpu) = match self.accel {
            Accel::Kvm => ("kvm", "host"),
            Accel::Tcg => (EMULATION, EMULATED_CPU),
        };
        list.option("-machine", format!("{machine},memory-backend=mem,usb=off"));
        list.option("-accel", accel);
        list.option("-cpu", cpu);
        list.option("-smp", self.cpus.to_string());
        list.option("-m", format!("{}M", self.memory_mib));
        // Shared: a vhost-user backend maps the guest's memory, and fails silently if it can't.
        let memory = format!(
            "memory-backend-memfd,id=mem,size={}M,share=on",
            self.memory_mib
        );
        list.option("-object", memory);
    }

    fn kernel_line(&self) -> String {
        let emulated = match self.accel {
            Accel::Kvm => "",
            Accel::Tcg => KERNEL_LINE_EMULATED,
        };
        format!("{KERNEL_LINE}{emulated}")
    }

    fn add_slots(&self, list: &mut Arguments) {
        match self.machine {
            Machine::Pc => list.option("-device", BRIDGE),
            Machine::Q35 => {
                for port in 1..=self.ports {
                    let device = format!(
                        "pcie-root-port,id=rp{port},bus=pcie.0,addr={port:#x},chassis={port}"
                    );
                    list.option("-device", device);
                }
            }
        }
    }

    fn add_vsock(&self, list: &mut Arguments) {
        let place = match self.machine {
            Machine::Q35 => format!("bus=pcie.0,addr={VSOCK_SLOT}"),
            Machine::Pc => format!("bus=pci.0,addr={VSOCK_SLOT}"),
        };
        match &self.vsock {
            VsockDevice::Kernel { cid } => {
                list.option(
                    "-device",
                    format!("vhost-vsock-pci,guest-cid={cid},{place}"),
                );
            }
            VsockDevice::VhostUser { socket } => {
                list.option("-chardev", with_path("socket,id=vsock,path=", socket));
                let device = format!("vhost-user-vsock-pci,chardev=vsock,{place}");
                list.option("-device", device);
            }
        }
    }
}

#[derive(Default)]
struct Arguments(Vec<OsString>);

impl Arguments {
    fn flags(&mut self, flags: &[&str]) {
        self.0.extend(flags.iter().map(OsString::from));
    }

    fn option(&mut self, name: &str, value: impl AsRef<OsStr>) {
        self.0.push(name.into());
        self.0.push(value.as_ref().to_owned());
    }
}

fn qmp_listener(path: &Path) -> OsString {
    let mut value = with_path("unix:", path);
    value.push(",server=on,wait=off");
    value
}

/// QEMU ends an option's value at a comma, unless the comma is doubled.
fn with_path(prefix: &str, path: &Path) -> OsString {
    let mut value = prefix.as_bytes().to_vec();
    for byte in path.as_os_str().as_bytes() {
        value.push(*byte);
        if *byte == b',' {
            value.push(b',');
        }
    }
    OsString::from_vec(value)
}

/// QEMU's version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// The first number.
    pub major: u16,
    /// The second number.
    pub minor: u16,
}

/// Older ones can die of a hot-plugged card.
const GOOD_VERSION: Version = Version {
    major: 10,
    minor: 0,
};

impl Version {
    /// Reads the first line of `qemu-system-x86_64 --version`.
    #[must_use]
    pub fn parse(output: &str) -> Option<Self> {
        let (_, rest) = output.lines().next()?.split_once(" version ")?;
        let mut numbers = rest.split(|character: char| !character.is_ascii_digit());
        Some(Self {
            major: numbers.next()?.parse().ok()?,
            minor: numbers.next()?.parse().ok()?,
        })
    }

    /// Asks the program; `None` when its answer can't be read.
    #[must_use]
    pub fn of_installed(qemu: &Path) -> Option<Self> {
        let mut command = Command::new(qemu);
        let output = command.arg("--version").stdin(Stdio::null()).output();
        Self::parse(&String::from_utf8_lossy(&output.ok()?.stdout))
    }

    /// What is lost with this version.
    #[must_use]
    pub fn warning(self) -> Option<String> {
        (self < GOOD_VERSION).then(|| {
            format!(
                "QEMU {}.{} is older than {}.{}: under software emulation a hot-plugged vhost-user \
                 card with MSI-X can crash it (7.2 does); use tap, or switch MSI-X off.",
                self.major, self.minor, GOOD_VERSION.major, GOOD_VERSION.minor
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(machine: Machine, accel: Accel) -> QemuConfig {
        QemuConfig {
            machine,
            accel,
            cpus: 2,
            memory_mib: 256,
            ports: 2,
            kernel: "/image/vmlinux".into(),
            initrd: "/image/initrd.cpio".into(),
            console: "/run/a,b/console.log".into(),
            qmp: "/run/a,b/qmp.sock".into(),
            vsock: VsockDevice::VhostUser {
                socket: "/run/a,b/vhost.sock".into(),
            },
            extra: vec!["-S".into()],
        }
    }

    fn line(config: &QemuConfig) -> String {
        let arguments = config.arguments();
        let words: Vec<&str> = arguments
            .iter()
            .map(|word| word.to_str().unwrap())
            .collect();
        words.join(" ")
    }

    #[test]
    fn q35_has_root_ports_and_vsock_behind_them() {
        let line = line(&config(Machine::Q35, Accel::Tcg));
        for part in [
            "-machine q35,memory-backend=mem",
            "-accel tcg,thread=single -cpu Nehalem -smp 2 -m 256M",
            "-object memory-backend-memfd,id=mem,size=256M,share=on",
            "-device pcie-root-port,id=rp1,bus=pcie.0,addr=0x1,chassis=1",
            "-device pcie-root-port,id=rp2,bus=pcie.0,addr=0x2,chassis=2",
            "-device vhost-user-vsock-pci,chardev=vsock,bus=pcie.0,addr=0x1e",
            "nokaslr mitigations=off",
        ] {
            assert!(line.contains(part), "{part} is missing in {line}");
        }
        assert!(line.ends_with(" -S"), "{line}");
        assert!(!line.contains("rp3"), "{line}");
    }

    #[test]
    fn pc_has_one_bridge_and_no_ports() {
        let line = line(&config(Machine::Pc, Accel::Kvm));
        for part in [
            "-machine pc,memory-backend=mem",
            "-accel kvm -cpu host",
            "-device pci-bridge,id=pci-bridge-0,bus=pci.0,addr=0x2,chassis_nr=1",
            "bus=pci.0,addr=0x1e",
        ] {
            assert!(line.contains(part), "{part} is missing in {line}");
        }
        assert!(!line.contains("pcie-root-port"), "{line}");
        assert!(!line.contains("nokaslr"), "{line}");
    }

    #[test]
    fn kernel_vsock_gets_its_cid() {
        let mut config = config(Machine::Q35, Accel::Kvm);
        config.vsock = VsockDevice::Kernel { cid: 77 };
        let line = line(&config);
        assert!(line.contains("-device vhost-vsock-pci,guest-cid=77,"));
        assert!(!line.contains("id=vsock"), "{line}");
    }

    #[test]
    fn commas_in_paths_are_doubled() {
        let line = line(&config(Machine::Q35, Accel::Tcg));
        assert!(line.contains("path=/run/a,,b/console.log"), "{line}");
        assert!(
            line.contains("unix:/run/a,,b/qmp.sock,server=on,wait=off"),
            "{line}"
        );
        assert!(line.contains("path=/run/a,,b/vhost.sock"), "{line}");
    }

    #[test]
    fn versions_are_read_and_judged() {
        let read = |line| Version::parse(line).unwrap();
        let new = read("QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)\nCopyright");
        assert_eq!((new.major, new.minor), (10, 0));
        assert_eq!(new.warning(), None);
        let old = read("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)");
        assert!(old.warning().unwrap().contains("QEMU 7.2 is older"));
        assert_eq!(Version::parse("QEMU emulator version ten"), None);
        assert_eq!(Version::parse(""), None);
    }
}
