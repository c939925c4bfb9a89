//! QEMU's command line and version.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::process::{Command, Stdio};

use patchbay_host::ops::VSOCK_DEVICE;
use patchbay_types::endpoint::Endpoint;

use super::accel::Accel;
use super::folder::{CONSOLE, Folder, QMP, VHOST};
use super::options::{MachineType, StartOptions};
use crate::architecture::Architecture;

/// Inputs of QEMU's command line.
#[derive(Debug, Clone, Copy)]
pub(super) struct QemuCommand<'a> {
    pub(super) options: &'a StartOptions,
    pub(super) machine: MachineType,
    pub(super) accel: Accel,
    pub(super) kernel: &'a Path,
    pub(super) initrd: &'a Path,
    pub(super) folder: &'a Folder,
    /// Address of the agent, which determines the vsock device.
    pub(super) agent: &'a Endpoint,
}

/// PCI slot of the vsock device: free of root ports (1 to 28), of `pc`'s bridge and of chipsets.
const VSOCK_SLOT: &str = "0x1e";

/// The first card on this bridge gets the PCI path `02.0/01`.
const BRIDGE: &str = "pci-bridge,id=pci-bridge-0,bus=pci.0,addr=0x2,chassis_nr=1";

/// Expedited RCU grace periods cut the time to rename and to remove a card to a tenth.
const KERNEL_CMDLINE: &str =
    "quiet loglevel=4 panic=-1 random.trust_cpu=on rcupdate.rcu_expedited=1";

/// Under emulation randomization, mitigations and self-tests only cost time, and the timer checks fail
/// on a busy host.
const KERNEL_CMDLINE_EMULATED: &str = " nokaslr mitigations=off cryptomgr.notests";
const KERNEL_CMDLINE_EMULATED_AMD64: &str = " tsc=reliable no_timer_check";

/// The proxy of hybrid vsock chooses the host's ports, and the folder of its socket is the user's alone.
const ANY_HOST_PORT: &str = " patchbay.host_port=any";

const MACHINE_PROPERTIES: &str = "memory-backend=mem,usb=off";
/// The version that QEMU emulates by default has too few MSI vectors for cards with queues.
const VIRT_PROPERTIES: &str = ",gic-version=3";

/// One thread for all vCPUs, which boots as fast. With one thread each, in about one of sixty guests on
/// a busy host QEMU 10.0 stopped to wake a vCPU by its timer interrupts.
const TCG: &str = "tcg,thread=single";

/// Boots faster than `max`: the kernel sets up every feature, and emulated ones gain nothing.
const EMULATED_CPU_AMD64: &str = "Nehalem";
const EMULATED_CPU_ARM64: &str = "cortex-a57";

impl QemuCommand<'_> {
    /// Returns QEMU's arguments.
    pub(super) fn arguments(&self) -> Vec<OsString> {
        let machine = self.machine;
        let architecture = machine.architecture();
        let StartOptions {
            cpus,
            memory_mib,
            extra,
            ..
        } = self.options;
        let (accel, cpu) = match (self.accel, architecture) {
            (Accel::Kvm, _) => ("kvm", "host"),
            (Accel::Tcg, Architecture::Amd64) => (TCG, EMULATED_CPU_AMD64),
            (Accel::Tcg, Architecture::Arm64) => (TCG, EMULATED_CPU_ARM64),
        };
        let flags = ["-nodefaults", "-no-user-config", "-no-reboot"];
        let mut list = Arguments(flags.map(OsString::from).into());
        list.option("-display", "none");
        let name = machine.name();
        let properties = match machine {
            MachineType::Q35 | MachineType::Pc => "",
            MachineType::Virt => VIRT_PROPERTIES,
        };
        list.option(
            "-machine",
            format!("{name},{MACHINE_PROPERTIES}{properties}"),
        );
        list.option("-accel", accel);
        list.option("-cpu", cpu);
        list.option("-smp", cpus.to_string());
        list.option("-m", format!("{memory_mib}M"));
        // A vhost-user backend maps the guest's memory, and fails silently if it is not shared.
        let memory = format!("memory-backend-memfd,id=mem,size={memory_mib}M,share=on");
        list.option("-object", memory);
        list.option("-kernel", self.kernel);
        list.option("-initrd", self.initrd);
        list.option("-append", self.kernel_command_line());
        list.option("-chardev", self.with_file("file,id=console,path=", CONSOLE));
        list.option("-serial", "chardev:console");
        let mut qmp = self.with_file("unix:", QMP);
        qmp.push(",server=on,wait=off");
        list.option("-qmp", qmp);
        let bus = self.add_slots(&mut list);
        let device = if let Endpoint::Vsock { cid, .. } = self.agent {
            format!("vhost-vsock-pci,guest-cid={cid}")
        } else {
            list.option("-chardev", self.with_file("socket,id=vsock,path=", VHOST));
            "vhost-user-vsock-pci,chardev=vsock".to_owned()
        };
        let device = format!("{device},id={VSOCK_DEVICE},bus={bus},addr={VSOCK_SLOT}");
        list.option("-device", device);
        list.0.extend(extra.iter().cloned());
        list.0
    }

    /// Adds the devices that cards are plugged into, and returns the name of the root bus.
    fn add_slots(&self, list: &mut Arguments) -> &'static str {
        match self.machine {
            MachineType::Pc => {
                list.option("-device", BRIDGE);
                "pci.0"
            }
            MachineType::Q35 | MachineType::Virt => {
                for port in 1..=self.options.ports {
                    let slot = format!("bus=pcie.0,addr={port:#x},chassis={port}");
                    list.option("-device", format!("pcie-root-port,id=rp{port},{slot}"));
                }
                "pcie.0"
            }
        }
    }

    fn kernel_command_line(&self) -> String {
        let architecture = self.machine.architecture();
        let console = match architecture {
            Architecture::Amd64 => "ttyS0",
            Architecture::Arm64 => "ttyAMA0",
        };
        let emulated = match (self.accel, architecture) {
            (Accel::Kvm, _) => String::new(),
            (Accel::Tcg, Architecture::Amd64) => {
                format!("{KERNEL_CMDLINE_EMULATED}{KERNEL_CMDLINE_EMULATED_AMD64}")
            }
            (Accel::Tcg, Architecture::Arm64) => KERNEL_CMDLINE_EMULATED.to_owned(),
        };
        let host_port = match self.agent {
            Endpoint::Vsock { .. } => "",
            _ => ANY_HOST_PORT,
        };
        format!("console={console} {KERNEL_CMDLINE}{emulated}{host_port}")
    }

    /// Appends the path of a file with doubled commas, since a single comma ends the value.
    fn with_file(&self, prefix: &str, name: &str) -> OsString {
        let mut value = prefix.as_bytes().to_vec();
        for byte in self.folder.file(name).into_os_string().into_vec() {
            value.push(byte);
            if byte == b',' {
                value.push(byte);
            }
        }
        OsString::from_vec(value)
    }
}

struct Arguments(Vec<OsString>);

impl Arguments {
    fn option(&mut self, name: &str, value: impl AsRef<OsStr>) {
        self.0.push(name.into());
        self.0.push(value.as_ref().to_owned());
    }
}

/// Older versions can crash when a card is hot-plugged.
const MIN_GOOD_VERSION: (u16, u16) = (10, 0);

/// Returns a warning if the installed version has known bugs.
pub(super) fn version_warning(qemu: &Path) -> Option<String> {
    let mut command = Command::new(qemu);
    let output = command.arg("--version").stdin(Stdio::null()).output();
    warning(&String::from_utf8_lossy(&output.ok()?.stdout))
}

fn warning(output: &str) -> Option<String> {
    let (major, minor) = parse_version(output)?;
    let (good_major, good_minor) = MIN_GOOD_VERSION;
    ((major, minor) < MIN_GOOD_VERSION).then(|| {
        format!(
            "QEMU {major}.{minor} is older than {good_major}.{good_minor}: under software emulation a \
             hot-plugged vhost-user card with MSI-X can crash it; use tap, or disable MSI-X"
        )
    })
}

/// Reads major and minor number from the output of `--version`.
fn parse_version(output: &str) -> Option<(u16, u16)> {
    let (_, rest) = output.lines().next()?.split_once(" version ")?;
    let mut numbers = rest.split(|character: char| !character.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, FromArgMatches as _};

    use super::*;

    fn options() -> StartOptions {
        let arguments = ["a", "--ports", "2", "--extra-qemu-arg", "-S"];
        let command = StartOptions::augment_args(clap::Command::new("start"));
        let matches = command.no_binary_name(true).get_matches_from(arguments);
        StartOptions::from_arg_matches(&matches).unwrap()
    }

    fn line(machine: MachineType, accel: Accel, agent: &str) -> String {
        let command = QemuCommand {
            options: &options(),
            machine,
            accel,
            kernel: Path::new("/image/vmlinux"),
            initrd: Path::new("/image/initrd.cpio"),
            folder: &Folder::new("/run/a,b".into()),
            agent: &agent.parse().unwrap(),
        };
        let arguments = command.arguments();
        arguments.join(OsStr::new(" ")).into_string().unwrap()
    }

    const HYBRID: &str = "hvsock:///run/a,b/vsock.sock:1061";

    #[test]
    fn q35_has_root_ports_and_later_vsock() {
        let line = line(MachineType::Q35, Accel::Tcg, HYBRID);
        for part in [
            "-machine q35,memory-backend=mem",
            "-accel tcg,thread=single -cpu Nehalem -smp 2 -m 256M",
            "-object memory-backend-memfd,id=mem,size=256M,share=on",
            "-device pcie-root-port,id=rp1,bus=pcie.0,addr=0x1,chassis=1",
            "-device pcie-root-port,id=rp2,bus=pcie.0,addr=0x2,chassis=2",
            "-device vhost-user-vsock-pci,chardev=vsock,id=vsock,bus=pcie.0,addr=0x1e",
            "nokaslr mitigations=off",
            " patchbay.host_port=any",
        ] {
            assert!(line.contains(part), "{part} is missing in {line}");
        }
        assert!(line.ends_with(" -S"), "{line}");
        assert!(!line.contains("rp3"), "{line}");
    }

    #[test]
    fn virt_has_root_ports_and_its_console() {
        let line = line(MachineType::Virt, Accel::Tcg, HYBRID);
        for part in [
            "-machine virt,memory-backend=mem,usb=off,gic-version=3",
            "-cpu cortex-a57",
            "-device pcie-root-port,id=rp2,bus=pcie.0,addr=0x2,chassis=2",
            "console=ttyAMA0 quiet",
        ] {
            assert!(line.contains(part), "{part} is missing in {line}");
        }
        assert!(!line.contains("tsc="), "{line}");
    }

    #[test]
    fn pc_has_one_bridge_and_no_root_ports() {
        let line = line(MachineType::Pc, Accel::Kvm, HYBRID);
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
        let line = line(MachineType::Q35, Accel::Kvm, "vsock://77:1061");
        assert!(line.contains("-device vhost-vsock-pci,guest-cid=77,"));
        assert!(!line.contains("chardev=vsock"), "{line}");
        assert!(!line.contains("host_port"), "{line}");
    }

    #[test]
    fn commas_in_paths_are_doubled() {
        let line = line(MachineType::Q35, Accel::Tcg, HYBRID);
        assert!(line.contains("path=/run/a,,b/console.log"), "{line}");
        assert!(
            line.contains("unix:/run/a,,b/qmp.sock,server=on,wait=off"),
            "{line}"
        );
        assert!(line.contains("path=/run/a,,b/vhost.sock"), "{line}");
    }

    #[test]
    fn version_warning_is_for_old_versions_only() {
        let new = "QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)\nCopyright";
        assert_eq!(parse_version(new), Some((10, 0)));
        assert_eq!(warning(new), None);
        let old = "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)";
        assert!(warning(old).unwrap().contains("QEMU 7.2 is older"));
        assert_eq!(parse_version("QEMU emulator version ten"), None);
        assert_eq!(parse_version(""), None);
    }
}
