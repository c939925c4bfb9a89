//! Faults that the simulation injects.

use fastrand::Rng;
use nix::errno::Errno;

use crate::memory::SECOND;

/// Fault of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The command is killed before the step.
    Crash,
    /// The step fails without effect.
    Refusal,
    /// The connection ends in place of the reply.
    HangUp,
    /// The step, or its result, is late.
    Delay,
}

impl Fault {
    pub(crate) const ALL: [Self; 4] = [Self::Crash, Self::Refusal, Self::HangUp, Self::Delay];
}

/// Faults of a time of the simulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Faults {
    None,
    /// One step in this many has a fault.
    Random(u32),
    /// Only the step with this number, counted down, has one.
    Planned(u64, Fault),
}

impl Faults {
    /// Returns the fault of the next step.
    pub(crate) fn next(&mut self, rng: &mut Rng) -> Option<Fault> {
        match self {
            Self::None => None,
            Self::Random(one_in) => (rng.u32(..*one_in) == 0).then(|| random_fault(rng)),
            Self::Planned(0, fault) => {
                let fault = *fault;
                *self = Self::None;
                Some(fault)
            }
            Self::Planned(left, _) => {
                *left -= 1;
                None
            }
        }
    }
}

fn random_fault(rng: &mut Rng) -> Fault {
    match rng.u8(..8) {
        0..3 => Fault::Crash,
        3..5 => Fault::Refusal,
        5 => Fault::HangUp,
        _ => Fault::Delay,
    }
}

/// Returns an error that the step with this label can have; `None` for one that has none.
pub(crate) fn errno(label: &str, rng: &mut Rng) -> Option<Errno> {
    let errors: &[Errno] = match label.split(' ').next().unwrap() {
        "create" | "mkdir" | "rename" | "write" => &[Errno::ENOSPC, Errno::EIO],
        "fsync" | "unlink" => &[Errno::EIO],
        "connect" => &[Errno::ECONNREFUSED, Errno::ENOMEM],
        "flock" => &[Errno::ENOLCK],
        "send" | "TUNSETIFF" => &[Errno::ENOMEM, Errno::EIO],
        _ => &[],
    };
    (!errors.is_empty()).then(|| *rng.choice(errors).unwrap())
}

/// Returns the length of a delay: often one that no timeout notices, sometimes a long one.
pub(crate) fn delay(rng: &mut Rng) -> u64 {
    let longest = rng
        .choice([SECOND / 100, SECOND, 12 * SECOND, 40 * SECOND])
        .unwrap();
    rng.u64(..longest)
}
