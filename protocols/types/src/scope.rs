//! Scopes of routes.

use super::InvalidValue;

/// How far a destination is, as rtnetlink counts it: 0 universe, 200 site, 253 link, 254 host; the
/// numbers between are the administrator's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Scope(u8);

impl Scope {
    /// Through a gateway, to anywhere.
    pub const UNIVERSE: Scope = Scope(0);
    /// On the link itself.
    pub const LINK: Scope = Scope(253);

    /// `RT_SCOPE_*`, 0..=254.
    #[must_use]
    pub fn get(self) -> u8 {
        self.0
    }
}

impl TryFrom<u64> for Scope {
    type Error = InvalidValue;

    /// 255 (`RT_SCOPE_NOWHERE`) says that a destination doesn't exist.
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
    fn the_range_is_exact() {
        for number in [0, 200, 253, 254] {
            assert_eq!(u64::from(Scope::try_from(number).unwrap().get()), number);
        }
        for number in [255, 256, u64::MAX] {
            let error = Scope::try_from(number).unwrap_err().to_string();
            assert!(error.contains("0 to 254"), "{error}");
        }
    }
}
