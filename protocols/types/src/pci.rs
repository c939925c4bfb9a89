//! Where a card sits: the slots on the way from the root bus.

use std::fmt;

use super::InvalidValue;

/// Slot (0..=31) and function (0..=7) of a device on its bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PciAddress(u8);

impl PciAddress {
    /// From slot and function.
    ///
    /// # Errors
    /// A slot over 31 or a function over 7: PCI gives them five and three bits.
    pub fn new(slot: u8, function: u8) -> Result<Self, InvalidValue> {
        if slot < 32 && function < 8 {
            Ok(Self(slot << 3 | function))
        } else {
            let rule = "a PCI address is slot 0x00 to 0x1f and function 0 to 7";
            Err(InvalidValue::new(&format!("{slot:02x}.{function:x}"), rule))
        }
    }

    /// From the byte that PCI and QEMU's QOM call devfn; each of the 256 is legal.
    #[must_use]
    pub fn from_devfn(devfn: u8) -> Self {
        Self(devfn)
    }

    /// `slot << 3 | function`.
    #[must_use]
    pub fn devfn(self) -> u8 {
        self.0
    }

    /// The slot, 0..=31.
    #[must_use]
    pub fn slot(self) -> u8 {
        self.0 >> 3
    }

    /// The function, 0..=7.
    #[must_use]
    pub fn function(self) -> u8 {
        self.0 & 7
    }
}

/// The devices from the root bus down to a card, the card last.
///
/// Bus numbers are the guest's choice, slots are not: that makes this the one name of a place that
/// host and guest agree on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PciPath(Vec<PciAddress>);

/// Deepest path that is taken; a root port with a bridge behind it has three levels.
const MAX_DEPTH: usize = 8;

impl PciPath {
    /// From the steps of the way, root bus first.
    ///
    /// # Errors
    /// No step, or more than eight.
    pub fn new(steps: Vec<PciAddress>) -> Result<Self, InvalidValue> {
        if (1..=MAX_DEPTH).contains(&steps.len()) {
            Ok(Self(steps))
        } else {
            let rule = "a PCI path has 1 to 8 levels";
            Err(InvalidValue::new(&format!("{} levels", steps.len()), rule))
        }
    }

    /// The steps of the way, root bus first.
    #[must_use]
    pub fn steps(&self) -> &[PciAddress] {
        &self.0
    }
}

impl fmt::Display for PciPath {
    /// `SS.F/…/SS` in hex: the function of the card itself, always 0, is left out. This is the
    /// form of the incumbent's `pciAddr`, carried on to any depth.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (card, way) = self.0.split_last().ok_or(fmt::Error)?;
        for step in way {
            write!(f, "{:02x}.{:x}/", step.slot(), step.function())?;
        }
        write!(f, "{:02x}", card.slot())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(steps: &[(u8, u8)]) -> PciPath {
        let steps = steps.iter().map(|(s, f)| PciAddress::new(*s, *f).unwrap());
        PciPath::new(steps.collect()).unwrap()
    }

    #[test]
    fn text_is_the_incumbents() {
        assert_eq!(path(&[(1, 0), (0, 0)]).to_string(), "01.0/00");
        assert_eq!(path(&[(2, 0), (0x19, 0)]).to_string(), "02.0/19");
        assert_eq!(path(&[(1, 7), (0, 0)]).to_string(), "01.7/00");
        assert_eq!(path(&[(5, 0)]).to_string(), "05");
    }

    #[test]
    fn what_pci_cannot_have_is_refused() {
        assert!(
            PciAddress::new(32, 0)
                .unwrap_err()
                .to_string()
                .contains("0x1f")
        );
        assert!(
            PciAddress::new(0, 8)
                .unwrap_err()
                .to_string()
                .contains("function 0 to 7")
        );
        for steps in [vec![], vec![PciAddress::from_devfn(0); 9]] {
            assert!(
                PciPath::new(steps)
                    .unwrap_err()
                    .to_string()
                    .contains("1 to 8 levels")
            );
        }
    }
}
