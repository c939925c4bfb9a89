//! Arguments of conntrack: an accepted filter crosses the wire unchanged.

use patchbay_grammar::conntrack::parse;
use patchbay_grammar::split;
use patchbay_types::conntrack::Filter;
use patchbay_wire::proto::conntrack as wire;

use crate::harmless;
use crate::names::Names;

/// The data is a line of arguments.
pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(words) = split(text) else { return };
    match parse(&Names, &words) {
        Ok(filter) => {
            let sent = wire::DeleteRequest::from(&filter);
            assert_eq!(Filter::try_from(&sent), Ok(filter));
        }
        Err(refused) => harmless::text(&refused.to_string()),
    }
}
