//! Documents of operators: an accepted one crosses the wire unchanged, and its echo parses to the same
//! value.

use std::fmt::Debug;
use std::path::Path;

use patchbay::fuzz;
use patchbay_types::failure::Failure;
use patchbay_types::{LinkChange, LinkSpec, PciAddress, PciPath};
use patchbay_wire::convert::{
    configure_request, delete_request, neighbors_request, new_neighbors, patterns, routes_request,
    specs, update_request,
};
use serde_json::Value;

use crate::scratch::Scratch;
use crate::{harmless, pick};

/// The first byte selects the kind of document.
pub(crate) fn run(data: &[u8]) {
    thread_local!(static SCRATCH: Scratch = Scratch::new());
    let (kind, bytes) = pick(data);
    SCRATCH.with(|scratch| {
        let file = scratch.write("document.json", bytes);
        match kind {
            b'0' => card(&file),
            b'1' => change(&file),
            b'2' => drop(fuzz::name(&file)),
            b'3' => {
                let read = fuzz::routes_to_add(&file);
                if let Some(read) = echoed(scratch, read, fuzz::routes_to_add) {
                    assert_eq!(specs(&routes_request(&read)), Ok(read));
                }
            }
            b'4' => {
                let read = fuzz::routes_to_delete(&file);
                if let Some(read) = echoed(scratch, read, fuzz::routes_to_delete) {
                    assert_eq!(patterns(&delete_request(&read)), Ok(read));
                }
            }
            b'6' => neighbors(scratch, &file),
            b'7' => networks(scratch, &file),
            b'5' => {
                let Ok(Some(read)) = fuzz::routes_wanted(&file) else {
                    return;
                };
                let again = |file: &Path| fuzz::routes_wanted(file).map(Option::unwrap_or_default);
                if let Some(read) = echoed(scratch, Ok(read), again) {
                    assert_eq!(specs(&routes_request(&read)), Ok(read));
                }
            }
            _ => {}
        }
    });
}

fn echoed<T: PartialEq + Debug>(
    scratch: &Scratch,
    read: Result<(Vec<T>, Value), Failure>,
    again: impl Fn(&Path) -> Result<(Vec<T>, Value), Failure>,
) -> Option<Vec<T>> {
    let (read, echo) = read.inspect_err(harmless::failure).ok()?;
    let echo = serde_json::to_vec(&echo).expect("an echo is JSON");
    // The echo has every key and can exceed the size limit of a document.
    if echo.len() < 1 << 20 {
        let (second, _) = again(&scratch.write("echo.json", &echo)).expect("an echo is accepted");
        assert_eq!(second, read);
    }
    Some(read)
}

fn neighbors(scratch: &Scratch, file: &Path) {
    drop(fuzz::neighbors_to_delete(file));
    let (read, echo) = match fuzz::neighbors_to_add(file) {
        Ok(read) => read,
        Err(failure) => return harmless::failure(&failure),
    };
    assert_eq!(new_neighbors(&neighbors_request(&read)).as_ref(), Ok(&read));
    let echo = serde_json::to_vec(&echo).expect("an echo is JSON");
    if echo.len() < 1 << 20 {
        let again = fuzz::neighbors_to_add(&scratch.write("echo.json", &echo));
        assert_eq!(again.expect("an echo is accepted").0, read);
    }
}

/// The text of a document in either format is a document of the same network.
fn networks(scratch: &Scratch, file: &Path) {
    let documents = match fuzz::networks(file) {
        Ok(documents) => documents,
        Err(failure) => return harmless::failure(&failure),
    };
    for (_, texts) in documents {
        for text in &texts {
            let again = fuzz::networks(&scratch.write("again", text.as_bytes()));
            let again = again.expect("the text of a document is accepted");
            let again = again.iter().map(|(_, texts)| texts);
            assert!(again.eq([&texts]), "{text}");
        }
    }
}

fn card(file: &Path) {
    let spec = match fuzz::card(file) {
        Ok(spec) => spec,
        Err(failure) => return harmless::failure(&failure),
    };
    let path = PciPath::new(vec![PciAddress::from_devfn(8)]).expect("a path");
    let sent = configure_request(&path, &spec);
    let read = <(PciPath, LinkSpec)>::try_from(&sent);
    assert_eq!(read, Ok((path, spec)));
}

fn change(file: &Path) {
    let change = match fuzz::change(file) {
        Ok(change) => change,
        Err(failure) => return harmless::failure(&failure),
    };
    let read = LinkChange::try_from(&update_request(&change));
    assert_eq!(read, Ok(change));
}
