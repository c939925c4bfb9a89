//! Settings.

use super::reader::{put_number, strange};
use super::{Layered, Packed, Reader};
use patchbay_types::ipvs::{Reading, Setting, Sysctl, SysctlValue};
use patchbay_types::{FieldError, InvalidValue};

/// Layout that this build writes where layout 0 doesn't suffice. It has the bytes of layout 0, whose
/// readers know the settings of IPVS only.
pub(crate) const LAYOUT: u32 = 1;

/// Additions of each layout, from 1.
pub(crate) const ADDITIONS: [&str; LAYOUT as usize] = ["settings of forwarding and conntrack"];

impl Layered for Reading {
    fn layout(&self) -> u32 {
        u32::from(!self.sysctl.is_ipvs())
    }
}

impl Packed for Reading {
    fn pack(&self, out: &mut Vec<u8>) {
        out.push(self.sysctl.number());
        match self.value {
            SysctlValue::One(number) => {
                out.push(1);
                put_number(out, number.cast_unsigned());
            }
            SysctlValue::Two(first, second) => {
                out.push(2);
                put_number(out, first.cast_unsigned());
                put_number(out, second.cast_unsigned());
            }
        }
    }

    fn unpack(reader: &mut Reader<'_>) -> Result<Self, FieldError> {
        let sysctl = Sysctl::try_from(reader.byte("sysctl")?);
        let sysctl = sysctl.map_err(|bad: InvalidValue| bad.in_field("sysctl"))?;
        let count = reader.byte("value")?;
        let mut number = || reader.u64("value").map(u64::cast_signed);
        let value = match count {
            1 => SysctlValue::One(number()?),
            2 => SysctlValue::Two(number()?, number()?),
            count => return Err(strange(count, "a setting is one number or two", "value")),
        };
        Ok(Self { sysctl, value })
    }
}

impl Packed for Setting {
    fn pack(&self, out: &mut Vec<u8>) {
        self.get().pack(out);
    }

    fn unpack(reader: &mut Reader<'_>) -> Result<Self, FieldError> {
        Self::new(Reading::unpack(reader)?).map_err(|bad| bad.in_field("value"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{pack, unpack};

    #[test]
    fn reading_round_trips_and_setting_checks_range() {
        for value in [
            SysctlValue::One(1),
            SysctlValue::One(-1),
            SysctlValue::One(i64::MAX),
            SysctlValue::Two(3, 50),
        ] {
            let sysctl = Sysctl::try_from(5).unwrap();
            let reading = Reading { sysctl, value };
            assert_eq!(unpack::<Reading>(&pack(&reading)), Ok(reading));
            let set = unpack::<Setting>(&pack(&reading)).map(|set| set.get());
            match value {
                SysctlValue::One(1) => assert_eq!(set, Ok(reading)),
                _ => assert_eq!(set.unwrap_err().field(), "value"),
            }
        }
        for (bytes, field) in [
            (&[46, 1, 0][..], "sysctl"),
            (&[0, 3, 0], "value"),
            (&[0, 2, 0], "value"),
            (&[], "sysctl"),
        ] {
            assert_eq!(unpack::<Reading>(bytes).unwrap_err().field(), field);
        }
        for (sysctl, layout) in [(Sysctl::IPVS_CONNTRACK, 0), (Sysctl::IP_FORWARD, 1)] {
            let value = SysctlValue::One(1);
            assert_eq!(Reading { sysctl, value }.layout(), layout);
        }
    }
}
