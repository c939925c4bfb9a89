//! Scopes of routes.

use super::InvalidValue;

/// Scope of a route (`RT_SCOPE_*`): 0 universe, 200 site, 253 link, 254 host. Numbers between are user
/// defined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Scope(u8);

impl Scope {
    /// Anywhere, as a rule through a gateway.
    pub const UNIVERSE: Scope = Scope(0);
    /// On the link.
    pub const LINK: Scope = Scope(253);

    /// Returns the number, 0 to 254.
    #[must_use]
    pub fn get(self) -> u8 {
        self.0
    }
}

impl TryFrom<u64> for Scope {
    type Error = InvalidValue;

    /// Rejects 255 (`RT_SCOPE_NOWHERE`), which marks a destination that doesn't exist.
    fn try_from(number: u64) -> Result<Self, InvalidValue> {
        u8::try_from(number)
            .ok()
            .filter(|number| *number < 255)
            .map(Self)
            .ok_or_else(|| InvalidValue::new(&number.to_string(), "a scope is 0 to 254"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scope_out_of_range_is_rejected() {
        for number in [0, 200, 253, 254] {
            assert_eq!(u64::from(Scope::try_from(number).unwrap().get()), number);
        }
        for number in [255, 256, u64::MAX] {
            let error = Scope::try_from(number).unwrap_err().to_string();
            assert!(error.contains("0 to 254"), "{error}");
        }
    }
}
