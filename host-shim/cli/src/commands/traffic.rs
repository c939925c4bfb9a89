//! `nic list --all`.

use std::io::{self, Write};
use std::thread;
use std::time::Instant;

use patchbay_host::ops::{self, CardOnHost};
use patchbay_host::sandbox::{self, Sandbox};
use patchbay_types::failure::Failure;

use crate::args::{GlobalArgs, NicListArgs};
use crate::output::traffic::{COLUMNS, TrafficRow};
use crate::output::unprinted;

/// Lists the cards of a sandbox, or of all, once or again and again.
pub(super) fn list(
    global: &GlobalArgs,
    sandbox: Option<&Sandbox>,
    args: &NicListArgs,
) -> Result<String, Failure> {
    let read = || match sandbox {
        Some(sandbox) => ops::list_on_host(sandbox),
        None => ops::list_all_on_host(&global.lookup_all()?),
    };
    if sandbox.is_none() {
        sandbox::warn_of_left_out(&global.lookup_all()?)?;
    }
    let format = args.format.format();
    let mut earlier: Option<(Vec<CardOnHost>, Instant)> = None;
    loop {
        let begun = Instant::now();
        let cards = read()?;
        let before = earlier
            .as_ref()
            .map(|(cards, then)| (&cards[..], begun - *then));
        let rows = cards.iter().map(|card| TrafficRow::new(card, before));
        let text = format.render(COLUMNS, &rows.collect::<Vec<_>>())?;
        let Some(interval) = args.watch else {
            return Ok(text);
        };
        let mut out = io::stdout();
        let printed = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        printed.map_err(|error| unprinted(&error))?;
        earlier = Some((cards, begun));
        thread::sleep(interval.saturating_sub(begun.elapsed()));
    }
}
