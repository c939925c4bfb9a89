//! Address family of a document, which its addresses imply.

use std::net::IpAddr;

use patchbay_types::InvalidValue;
use patchbay_types::ipvs::Family;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Value of `family`: `AF_INET` (2) or `AF_INET6` (10), or Kata's `IPFamily` by name (`v4`, `v6`) or
/// number (0, 1). Since Go can't distinguish 0 from an absent number, it allows both families.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(transparent)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct FamilyText(Value);

impl FamilyText {
    /// Returns the family; `None` if both are allowed.
    pub(super) fn family(&self) -> Result<Option<Family>, InvalidValue> {
        let name = self.0.as_str().map(str::to_ascii_lowercase);
        match (name.as_deref(), self.0.as_u64()) {
            (_, Some(0)) => Ok(None),
            (Some("v4"), _) | (_, Some(2)) => Ok(Some(Family::V4)),
            (Some("v6"), _) | (_, Some(1 | 10)) => Ok(Some(Family::V6)),
            _ => {
                let rule = "it must be 2 or \"v4\" for IPv4, and 10, 1 or \"v6\" for IPv6";
                Err(InvalidValue::new(&self.0, rule))
            }
        }
    }

    /// Checks that the addresses are of the family.
    pub(super) fn check(
        &self,
        addresses: impl IntoIterator<Item = IpAddr>,
    ) -> Result<(), InvalidValue> {
        let family = self.family()?;
        let differs = |ip: IpAddr| family.is_some_and(|family| family != Family::of(ip));
        if addresses.into_iter().any(differs) {
            let rule = "it must be the family of the addresses";
            return Err(InvalidValue::new(&self.0, rule));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn family_spellings_are_read() {
        let family = |value: Value| FamilyText(value).family();
        assert_eq!(family(json!(0)), Ok(None));
        for value in [json!(2), json!("v4"), json!("V4")] {
            assert_eq!(family(value), Ok(Some(Family::V4)));
        }
        for value in [json!(10), json!(1), json!("v6")] {
            assert_eq!(family(value), Ok(Some(Family::V6)));
        }
        for value in [
            json!(3),
            json!(-1),
            json!("2"),
            json!(true),
            json!([2]),
            json!({}),
        ] {
            assert!(family(value.clone()).is_err(), "{value}");
        }
    }

    #[test]
    fn check_other_family_is_rejected() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let v6 = FamilyText(json!(1));
        assert!(v6.check([ip("fd00::1")]).is_ok());
        assert!(v6.check([ip("fd00::1"), ip("10.0.0.1")]).is_err());
        assert!(
            FamilyText(json!(0))
                .check([ip("fd00::1"), ip("10.0.0.1")])
                .is_ok()
        );
    }
}
