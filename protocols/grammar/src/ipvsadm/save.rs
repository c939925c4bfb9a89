//! Rules as `ipvsadm -S` prints them.

use patchbay_types::ipvs::{Server, Service, ServiceId};

use super::options::SAVED;
use super::saved_rule::{EndpointText, SaveFormat, SavedRule};
use crate::option::ValueKind;

/// Returns the line that adds a service.
#[must_use]
pub fn service_line(service: &Service, endpoint: EndpointText<'_>, format: SaveFormat) -> String {
    let rule = SavedRule {
        id: service.id,
        service: Some(service),
        server: None,
        endpoint,
        format,
    };
    line(&rule, "-A")
}

/// Returns the line that adds a server to a service.
#[must_use]
pub fn server_line(
    service: ServiceId,
    server: &Server,
    endpoint: EndpointText<'_>,
    format: SaveFormat,
) -> String {
    let rule = SavedRule {
        id: service,
        service: None,
        server: Some(server),
        endpoint,
        format,
    };
    line(&rule, "-a")
}

fn line(rule: &SavedRule<'_>, command: &str) -> String {
    let mut line = command.to_owned();
    for option in SAVED.iter().copied().flatten() {
        let Some(value) = (option.action.print)(rule) else {
            continue;
        };
        line.push(' ');
        line += &option.spelling.word();
        if option.value != ValueKind::None {
            line.push(' ');
            line += &value;
        }
    }
    line
}
