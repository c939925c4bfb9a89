//! Versions of Kata's agent and their differences.

use patchbay_types::failure::{Failure, Kind};
use patchbay_types::text::escape_controls;

/// Maximum length of a version that is shown, in characters.
const MAX_SHOWN: usize = 32;

/// Effect of `UpdateInterface` and `UpdateRoutes` on what the request doesn't have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Updates {
    /// Until 3.14 it is removed.
    Replace,
    /// It stays.
    Add,
}

/// Version of an agent. One that can't be read is taken for a present one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) text: String,
    pub(super) updates: Updates,
    /// Whether routes can have an MTU.
    pub(super) has_route_mtu: bool,
}

impl Version {
    /// Reads a version such as `3.19.1` or `4.0.0-rc1`.
    pub(super) fn new(text: &str) -> Self {
        let number = release(text).unwrap_or((u32::MAX, 0));
        Self {
            text: escape_controls(text).chars().take(MAX_SHOWN).collect(),
            updates: if number < (3, 15) {
                Updates::Replace
            } else {
                Updates::Add
            },
            has_route_mtu: number >= (3, 17),
        }
    }

    pub(super) fn lacks(&self, missing: &str) -> Failure {
        let version = &self.text;
        let message =
            format!("the guest's agent is Kata's (version '{version}'), which lacks {missing}");
        let failure = Failure::new(Kind::Unsupported, message);
        failure.with_cause(
            "this needs patchbay-agent in the guest (docs/kata.md shows how to install it)",
        )
    }
}

/// Returns the first two numbers of a version.
fn release(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split('.').map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_decides_what_updates_remove() {
        for (text, updates, has_route_mtu) in [
            ("2.5.0", Updates::Replace, false),
            ("3.14.0", Updates::Replace, false),
            ("3.15.0", Updates::Add, false),
            ("3.17.0", Updates::Add, true),
            ("4.0.0-rc1", Updates::Add, true),
            ("10.1.0", Updates::Add, true),
            ("", Updates::Add, true),
            ("3", Updates::Add, true),
            ("3.x", Updates::Add, true),
            ("99999999999.1", Updates::Add, true),
        ] {
            let version = Version::new(text);
            assert_eq!(
                (version.updates, version.has_route_mtu),
                (updates, has_route_mtu),
                "{text}"
            );
        }
    }

    #[test]
    fn version_of_hostile_agent_is_bounded_and_escaped() {
        let version = Version::new(&"\x1b[2J".repeat(1000));
        assert_eq!(version.text.chars().count(), MAX_SHOWN);
        assert!(!version.text.contains('\x1b'));
    }
}
