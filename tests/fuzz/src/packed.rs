//! Encoded rules, routes and rows: a decoded value encodes to bytes that decode to the same value.

use std::fmt::Debug;

use patchbay_codec::{Packed, Reader, TableRow, TableRowRef, pack, pack_flow, unpack, unpack_flow};
use patchbay_types::ipvs::{Change, Reading, RuleLine, Setting};
use patchbay_types::{NetEvent, Route, RoutePattern, RouteSpec};

use crate::{harmless, pick};

/// The first byte selects the type of the rest.
pub(crate) fn run(data: &[u8]) {
    let (kind, bytes) = pick(data);
    let mut reader = Reader::new(bytes);
    match kind {
        b'0' => each::<RuleLine>(&mut reader),
        b'1' => {
            while let Some(row) = next(&mut reader, TableRow::unpack) {
                carried(&row);
            }
        }
        b'2' => {
            if let Ok(change) = unpack::<Change>(bytes) {
                kept(&change);
            }
        }
        b'3' => flows(&mut reader, 0),
        b'4' => {
            while let Some(reading) = next(&mut reader, Reading::unpack) {
                kept(&reading);
                if let Ok(setting) = Setting::new(reading) {
                    kept(&setting);
                }
            }
        }
        b'5' => each::<RouteSpec>(&mut reader),
        b'6' => each::<Route>(&mut reader),
        b'7' => each::<RoutePattern>(&mut reader),
        b'8' => flows(&mut reader, 1),
        b'9' => each::<NetEvent>(&mut reader),
        _ => {}
    }
}

fn each<T: Packed + PartialEq + Debug>(reader: &mut Reader<'_>) {
    while let Some(value) = next(reader, T::unpack) {
        kept(&value);
    }
}

fn flows(reader: &mut Reader<'_>, layout: u32) {
    while let Some(flow) = next(reader, |reader| unpack_flow(reader, layout)) {
        let mut bytes = Vec::new();
        pack_flow(&flow, layout, &mut bytes);
        let mut again = Reader::new(&bytes);
        // Layout 0 has the state of TCP only.
        if layout > 0 || flow.state.is_none() || flow.protocol == 6 {
            assert_eq!(unpack_flow(&mut again, layout).as_ref(), Ok(&flow));
        }
    }
}

fn next<'a, T, E: ToString>(
    reader: &mut Reader<'a>,
    read: impl Fn(&mut Reader<'a>) -> Result<T, E>,
) -> Option<T> {
    if reader.is_empty() {
        return None;
    }
    read(reader)
        .map_err(|refused| harmless::text(&refused.to_string()))
        .ok()
}

fn kept<T: Packed + PartialEq + Debug>(value: &T) {
    assert_eq!(unpack::<T>(&pack(value)).as_ref(), Ok(value));
}

/// Asserts that a row crosses the wire unchanged.
pub(crate) fn carried(row: &TableRow) {
    let mut bytes = Vec::new();
    match row {
        TableRow::Service(listed) => TableRowRef::Service(&listed.service, &listed.stats),
        TableRow::Server(listed) => TableRowRef::Server(listed),
    }
    .pack(&mut bytes);
    assert_eq!(TableRow::unpack(&mut Reader::new(&bytes)).as_ref(), Ok(row));
}
