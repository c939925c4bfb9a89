//! Arguments of ipvsadm: an accepted command is saved as a line that parses to the same command.

use patchbay_grammar::ipvsadm::{
    Grammar, IpvsCommand, SaveFormat, numeric, parse, server_line, service_line,
};
use patchbay_grammar::split;
use patchbay_types::ipvs::Change;

use crate::harmless;
use crate::names::grammars;

/// The data is a line of arguments, parsed by each grammar.
pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(words) = split(text) else { return };
    for grammar in grammars() {
        match parse(&grammar, &words) {
            Ok(IpvsCommand::Change(change)) => saved_is_read(&grammar, &change),
            Ok(_) => {}
            Err(refused) => harmless::text(&refused.to_string()),
        }
    }
}

/// Parses the line that saves this change, if there is one.
pub(crate) fn saved_is_read(grammar: &Grammar<'_>, change: &Change) {
    let (line, meant) = match change {
        Change::AddService(service) | Change::EditService(service) => (
            service_line(service, &numeric, SaveFormat::Whole),
            Change::AddService(service.clone()),
        ),
        Change::AddServer(id, server) | Change::EditServer(id, server) => (
            server_line(*id, server, &numeric, SaveFormat::Whole),
            Change::AddServer(*id, *server),
        ),
        _ => return,
    };
    let words: Vec<&str> = line.split(' ').collect();
    let read = parse(grammar, &words);
    assert_eq!(read, Ok(IpvsCommand::Change(meant)), "{line}");
}
