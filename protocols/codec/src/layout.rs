//! Layout numbers of bulk values.

use patchbay_types::{FieldError, InvalidValue};

use super::{change, flow, route, sysctl};

/// Kind of bulk value. Each has a separate layout number, which travels beside its bytes, so that
/// a layout can change while agents and hosts of several releases talk to each other
/// (docs/compatibility.md).
///
/// ```
/// use patchbay_codec::Bulk;
///
/// assert!(Bulk::Routes.check(0).is_ok());
/// assert_eq!(Bulk::Routes.check(7).unwrap_err().field(), "layout");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bulk {
    /// Changes of the IPVS table, rule files, services, timeouts and sync daemons.
    Rules,
    /// Rows of the IPVS table.
    Rows,
    /// Tracked flows.
    Flows,
    /// Routes and patterns of routes.
    Routes,
    /// Settings of IPVS, forwarding and conntrack.
    Settings,
    /// Events of the network. The host sends none, so an agent announces no layout of them.
    Events,
}

impl Bulk {
    /// Highest layout number that this build writes and reads.
    #[must_use]
    pub const fn layout(self) -> u32 {
        match self {
            Self::Flows => flow::LAYOUT,
            Self::Routes => route::LAYOUT,
            Self::Rules => change::LAYOUT,
            Self::Settings => sysctl::LAYOUT,
            Self::Rows | Self::Events => 0,
        }
    }

    /// Returns the names of the fields that a layout added, for messages.
    #[must_use]
    pub fn additions(self, layout: u32) -> &'static str {
        let of_kind: &[&str] = match self {
            Self::Rules => &change::ADDITIONS,
            Self::Settings => &sysctl::ADDITIONS,
            Self::Rows | Self::Events => &[],
            Self::Flows => &flow::ADDITIONS,
            Self::Routes => &route::ADDITIONS,
        };
        let from_one = (1..).zip(of_kind).find(|(number, _)| *number == layout);
        from_one.map_or("", |(_, names)| names)
    }

    /// Checks that this build can read a layout.
    ///
    /// # Errors
    /// A higher number than [`Bulk::layout`].
    pub fn check(self, layout: u32) -> Result<(), FieldError> {
        if layout <= self.layout() {
            return Ok(());
        }
        let rule = format!("{self} are read up to layout {}", self.layout());
        Err(InvalidValue::new(&layout, rule).in_field("layout"))
    }
}

impl std::fmt::Display for Bulk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Rules => "IPVS rules",
            Self::Rows => "rows of the IPVS table",
            Self::Flows => "flows",
            Self::Routes => "routes",
            Self::Settings => "settings",
            Self::Events => "events",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Layouts are part of the protocol: a new one needs an addition, and a row of docs/compatibility.md.
    #[test]
    fn layout_is_checked_and_its_additions_are_named() {
        for (bulk, layout, additions, name) in [
            (
                Bulk::Rules,
                change::LAYOUT,
                &change::ADDITIONS[..],
                "IPVS rules",
            ),
            (Bulk::Rows, 0, &[], "rows of the IPVS table"),
            (Bulk::Flows, flow::LAYOUT, &flow::ADDITIONS[..], "flows"),
            (Bulk::Routes, route::LAYOUT, &route::ADDITIONS[..], "routes"),
            (
                Bulk::Settings,
                sysctl::LAYOUT,
                &sysctl::ADDITIONS[..],
                "settings",
            ),
            (Bulk::Events, 0, &[], "events"),
        ] {
            assert_eq!(bulk.layout(), layout, "{bulk}");
            assert_eq!(bulk.check(layout), Ok(()), "{bulk}");
            let refused = bulk.check(layout + 1).unwrap_err();
            assert_eq!(refused.field(), "layout");
            let rule = format!("{name} are read up to layout {layout}");
            assert!(refused.to_string().contains(&rule), "{refused}");
            let named = (0..=layout + 1).map(|number| bulk.additions(number));
            let expected = [""]
                .into_iter()
                .chain(additions.iter().copied())
                .chain([""]);
            assert!(named.eq(expected), "{bulk}");
        }
    }
}
