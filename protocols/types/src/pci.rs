//! PCI paths: the slots from the root bus to a card.

use std::fmt;

use super::InvalidValue;

/// Slot (0 to 31) and function (0 to 7) of a device on its bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PciAddress(u8);

impl PciAddress {
    /// Checks slot and function.
    ///
    /// # Errors
    /// A slot over 31 or a function over 7: PCI has five and three bits for them.
    pub fn new(slot: u8, function: u8) -> Result<Self, InvalidValue> {
        if slot < 32 && function < 8 {
            Ok(Self(slot << 3 | function))
        } else {
            let rule = "a PCI address is slot 0x00 to 0x1f and function 0 to 7";
            Err(InvalidValue::new(&format!("{slot:02x}.{function:x}"), rule))
        }
    }

    /// Converts PCI's and QEMU's devfn byte; all 256 are valid.
    #[must_use]
    pub fn from_devfn(devfn: u8) -> Self {
        Self(devfn)
    }

    /// Returns `slot << 3 | function`.
    #[must_use]
    pub fn devfn(self) -> u8 {
        self.0
    }

    /// Returns the slot, 0 to 31.
    #[must_use]
    pub fn slot(self) -> u8 {
        self.0 >> 3
    }

    /// Returns the function, 0 to 7.
    #[must_use]
    pub fn function(self) -> u8 {
        self.0 & 7
    }
}

/// Power of the slot of a card that is unplugged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotPower {
    /// The guest's hot-plug controller decides.
    Keep,
    /// The agent powers the slot off. A native controller otherwise waits 5 s for an operator.
    Off,
}

/// Devices from the root bus to a card, the card last.
///
/// Bus numbers are the guest's choice, slots are not, so a path of slots is the only name that host
/// and guest share.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PciPath(Vec<PciAddress>);

/// Maximum depth. A root port with a bridge has three levels.
const MAX_DEPTH: usize = 8;

impl PciPath {
    /// Checks the devices, root bus first.
    ///
    /// # Errors
    /// An empty path, or more than eight levels.
    pub fn new(steps: Vec<PciAddress>) -> Result<Self, InvalidValue> {
        if (1..=MAX_DEPTH).contains(&steps.len()) {
            Ok(Self(steps))
        } else {
            let rule = "a PCI path has 1 to 8 levels";
            Err(InvalidValue::new(&format!("{} levels", steps.len()), rule))
        }
    }

    /// Returns the devices, root bus first.
    #[must_use]
    pub fn steps(&self) -> &[PciAddress] {
        &self.0
    }
}

impl fmt::Display for PciPath {
    /// Prints `SS.F/…/SS` in hex, without the card's own function, which is always 0: the
    /// incumbent's `pciAddr`, extended to any depth.
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
    fn pci_path_text_is_the_incumbents() {
        assert_eq!(path(&[(1, 0), (0, 0)]).to_string(), "01.0/00");
        assert_eq!(path(&[(2, 0), (0x19, 0)]).to_string(), "02.0/19");
        assert_eq!(path(&[(1, 7), (0, 0)]).to_string(), "01.7/00");
        assert_eq!(path(&[(5, 0)]).to_string(), "05");
    }

    #[test]
    fn pci_address_out_of_range_is_refused() {
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
