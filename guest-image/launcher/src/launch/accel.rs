//! Choosing between KVM and software emulation.

use std::fs::{self, OpenOptions};

/// What the user asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum AccelChoice {
    /// KVM where it can work, else software emulation.
    Auto,
    /// KVM.
    Kvm,
    /// Software emulation.
    Tcg,
}

/// What QEMU is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accel {
    /// Hardware virtualisation.
    Kvm,
    /// Software emulation.
    Tcg,
}

/// The decision, and a line for the user when it isn't the one that was hoped for.
#[derive(Debug, PartialEq, Eq)]
pub struct Decision {
    /// What to use.
    pub accel: Accel,
    /// Why it is not KVM.
    pub note: Option<String>,
}

/// Decides by this machine's `/dev/kvm` and `/proc/cpuinfo`.
#[must_use]
pub fn decide_here(choice: AccelChoice) -> Decision {
    let kvm = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/kvm")
        .map(drop)
        .map_err(|error| error.to_string());
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    decide(choice, kvm, &cpuinfo)
}

/// `kvm` says whether `/dev/kvm` opens, or why it doesn't.
///
/// The device node alone proves nothing: inside of some virtual machines it opens and no kernel
/// boots on it. The processor's own flag is the cheap second witness.
fn decide(choice: AccelChoice, kvm: Result<(), String>, cpuinfo: &str) -> Decision {
    let without_note = |accel| Decision { accel, note: None };
    let emulate = |reason: String| Decision {
        accel: Accel::Tcg,
        note: Some(format!("KVM is not used because {reason}.")),
    };
    match (choice, kvm) {
        (AccelChoice::Kvm, _) => without_note(Accel::Kvm),
        (AccelChoice::Tcg, _) => without_note(Accel::Tcg),
        (AccelChoice::Auto, Err(reason)) => emulate(format!("/dev/kvm can't be opened: {reason}")),
        (AccelChoice::Auto, Ok(())) if has_virtualisation(cpuinfo) => without_note(Accel::Kvm),
        (AccelChoice::Auto, Ok(())) => {
            emulate("the processor shows neither vmx nor svm".to_owned())
        }
    }
}

fn has_virtualisation(cpuinfo: &str) -> bool {
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

    const WITH_VMX: &str = "processor\t: 0\nflags\t\t: fpu vmx sse\n";
    const WITHOUT: &str = "model name\t: vmx svm\nflags\t\t: fpu vmx_like sse\nvmx flags\t: ept\n";

    #[test]
    fn device_and_flag_give_kvm() {
        let decision = decide(AccelChoice::Auto, Ok(()), WITH_VMX);
        assert_eq!((decision.accel, decision.note), (Accel::Kvm, None));
    }

    #[test]
    fn device_without_flag_gives_tcg_and_says_why() {
        let decision = decide(AccelChoice::Auto, Ok(()), WITHOUT);
        assert_eq!(decision.accel, Accel::Tcg);
        assert!(decision.note.unwrap().contains("neither vmx nor svm"));
    }

    #[test]
    fn closed_device_gives_tcg_and_says_why() {
        let decision = decide(AccelChoice::Auto, Err("no permission".into()), WITH_VMX);
        assert_eq!(decision.accel, Accel::Tcg);
        assert!(decision.note.unwrap().contains("no permission"));
    }

    #[test]
    fn forced_choice_is_obeyed_silently() {
        let kvm = decide(AccelChoice::Kvm, Err("gone".into()), WITHOUT);
        assert_eq!((kvm.accel, kvm.note), (Accel::Kvm, None));
        let tcg = decide(AccelChoice::Tcg, Ok(()), WITH_VMX);
        assert_eq!((tcg.accel, tcg.note), (Accel::Tcg, None));
    }
}
