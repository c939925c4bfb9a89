//! Chooses between KVM and software emulation.

use std::fs::{self, OpenOptions};

use crate::architecture::Architecture;

/// Value of `--accel`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum AccelChoice {
    /// KVM if it is usable, else software emulation
    Auto,
    /// KVM
    Kvm,
    /// Software emulation
    Tcg,
}

/// QEMU's accelerator: hardware virtualization or software emulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Accel {
    Kvm,
    Tcg,
}

pub(super) struct Decision {
    pub(super) accel: Accel,
    /// Message for the user if KVM is not usable.
    pub(super) note: Option<String>,
}

/// Decides by the guest's architecture, `/dev/kvm` and `/proc/cpuinfo`.
pub(super) fn decide_here(choice: AccelChoice, guest: Architecture) -> Decision {
    if guest != Architecture::of_host() && choice == AccelChoice::Auto {
        return Decision {
            accel: Accel::Tcg,
            note: Some(format!(
                "KVM is not used: the guest is for {}",
                guest.name()
            )),
        };
    }
    let kvm = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/kvm")
        .map(drop)
        .map_err(|error| error.to_string());
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    decide(choice, kvm, guest, &cpuinfo)
}

/// Decides by the result of opening `/dev/kvm` and by the CPU flags. The device alone is not enough:
/// within some virtual machines it opens, but no kernel boots on it.
fn decide(
    choice: AccelChoice,
    kvm: Result<(), String>,
    guest: Architecture,
    cpuinfo: &str,
) -> Decision {
    // Arm's device exists only where the kernel started at EL2.
    let usable = guest == Architecture::Arm64 || has_virtualization(cpuinfo);
    let without_note = |accel| Decision { accel, note: None };
    let emulate = |reason: String| Decision {
        accel: Accel::Tcg,
        note: Some(format!("KVM is not used: {reason}")),
    };
    match (choice, kvm) {
        (AccelChoice::Kvm, _) => without_note(Accel::Kvm),
        (AccelChoice::Tcg, _) => without_note(Accel::Tcg),
        (AccelChoice::Auto, Err(reason)) => emulate(format!("could not open /dev/kvm: {reason}")),
        (AccelChoice::Auto, Ok(())) if usable => without_note(Accel::Kvm),
        (AccelChoice::Auto, Ok(())) => emulate("the CPU flags have neither vmx nor svm".to_owned()),
    }
}

fn has_virtualization(cpuinfo: &str) -> bool {
    cpuinfo
        .lines()
        .filter_map(|line| line.split_once(':'))
        .filter(|(key, _)| key.trim() == "flags")
        .flat_map(|(_, flags)| flags.split_whitespace())
        .any(|flag| flag == "vmx" || flag == "svm")
}

#[cfg(test)]
mod tests {
    use super::*;

    const AMD64: Architecture = Architecture::Amd64;

    const WITH_VMX: &str = "processor\t: 0\nflags\t\t: fpu vmx sse\n";
    const WITHOUT: &str = "model name\t: vmx svm\nflags\t\t: fpu vmx_like sse\nvmx flags\t: ept\n";

    #[test]
    fn auto_with_device_and_flag_is_kvm() {
        let decision = decide(AccelChoice::Auto, Ok(()), AMD64, WITH_VMX);
        assert_eq!((decision.accel, decision.note), (Accel::Kvm, None));
    }

    #[test]
    fn auto_with_device_on_arm64_is_kvm() {
        let decision = decide(AccelChoice::Auto, Ok(()), Architecture::Arm64, "");
        assert_eq!((decision.accel, decision.note), (Accel::Kvm, None));
    }

    #[test]
    fn auto_without_flag_is_tcg_with_note() {
        let decision = decide(AccelChoice::Auto, Ok(()), AMD64, WITHOUT);
        assert_eq!(decision.accel, Accel::Tcg);
        assert!(decision.note.unwrap().contains("neither vmx nor svm"));
    }

    #[test]
    fn auto_without_device_is_tcg_with_note() {
        let decision = decide(
            AccelChoice::Auto,
            Err("no permission".into()),
            AMD64,
            WITH_VMX,
        );
        assert_eq!(decision.accel, Accel::Tcg);
        assert!(decision.note.unwrap().contains("no permission"));
    }

    #[test]
    fn explicit_choice_has_no_note() {
        let kvm = decide(AccelChoice::Kvm, Err("gone".into()), AMD64, WITHOUT);
        assert_eq!((kvm.accel, kvm.note), (Accel::Kvm, None));
        let tcg = decide(AccelChoice::Tcg, Ok(()), AMD64, WITHOUT);
        assert_eq!((tcg.accel, tcg.note), (Accel::Tcg, None));
    }
}
