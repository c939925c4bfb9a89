//! Failures as ttrpc statuses: the whole failure travels in the details of the status, so neither
//! side parses prose.

use patchbay_types::failure::{Failure, Kind};
use protobuf::{EnumOrUnknown, Message};
use ttrpc::Code;
use ttrpc::proto::{Any, Status};

use crate::proto::failure::Failure as WireFailure;

/// Maximum number of causes accepted from a peer; the guest is hostile to the host.
const MAX_CAUSES: usize = 16;

/// Name of the message in a status's details (`google.protobuf.Any.type_url`).
const TYPE_URL: &str = "patchbay.v1.Failure";

/// Encodes a failure as the status of a call.
#[must_use]
pub fn from_failure(failure: &Failure) -> ttrpc::Error {
    let message = failure.to_string();
    let mut status = Status::new();
    status.code = EnumOrUnknown::new(code(failure.kind()));
    status.message.clone_from(&message);
    let wire = WireFailure {
        kind: u32::from(failure.kind().exit_code()),
        message,
        field: failure.field().unwrap_or_default().to_owned(),
        errno: failure.errno().unwrap_or_default(),
        chain: failure.chain().map(str::to_owned).collect(),
        ..WireFailure::default()
    };
    if let Ok(value) = wire.write_to_bytes() {
        status.details.push(Any {
            type_url: TYPE_URL.to_owned(),
            value,
            ..Any::default()
        });
    }
    ttrpc::Error::RpcStatus(status)
}

/// Decodes the failure that the agent sent; any other error is one of the connection itself.
#[must_use]
pub fn to_failure(error: ttrpc::Error) -> Failure {
    let ttrpc::Error::RpcStatus(status) = error else {
        let cause = error.to_string();
        return Failure::new(Kind::Other, "connection to the agent lost").with_cause(cause);
    };
    let sent = status
        .details
        .iter()
        .find(|any| any.type_url == TYPE_URL)
        .and_then(|any| WireFailure::parse_from_bytes(&any.value).ok());
    if let Some(wire) = sent {
        return decode(&wire);
    }
    let kind = match status.code.enum_value_or_default() {
        // ttrpc's server answers a method that it doesn't have with either of these.
        Code::UNIMPLEMENTED | Code::NOT_FOUND => Kind::Unsupported,
        Code::DEADLINE_EXCEEDED => Kind::Timeout,
        _ => Kind::Other,
    };
    Failure::new(kind, "the agent did not carry out the request").with_cause(&status.message)
}

/// Decodes the details of a status; the guest is not trusted, so texts and causes are bounded.
#[must_use]
pub fn decode(wire: &WireFailure) -> Failure {
    let WireFailure {
        kind,
        message,
        field,
        errno,
        chain,
        special_fields: _,
    } = wire;
    let kind = Kind::ALL
        .into_iter()
        .find(|k| u32::from(k.exit_code()) == *kind);
    let mut failure = Failure::new(kind.unwrap_or(Kind::Other), message);
    if !field.is_empty() {
        failure = failure.with_field(field);
    }
    if *errno != 0 {
        failure = failure.with_errno(*errno);
    }
    let causes = chain.iter().take(MAX_CAUSES);
    causes.fold(failure, Failure::with_cause)
}

fn code(kind: Kind) -> Code {
    match kind {
        Kind::Other => Code::UNKNOWN,
        Kind::Invalid => Code::INVALID_ARGUMENT,
        Kind::NotFound => Code::NOT_FOUND,
        Kind::Exists => Code::ALREADY_EXISTS,
        Kind::NotYet => Code::UNAVAILABLE,
        Kind::Denied => Code::PERMISSION_DENIED,
        Kind::Unsupported => Code::UNIMPLEMENTED,
        Kind::Kernel => Code::INTERNAL,
        Kind::Timeout => Code::DEADLINE_EXCEEDED,
    }
}

#[cfg(test)]
mod tests {
    use patchbay_types::failure::MAX_TEXT;

    use super::*;

    #[test]
    fn failure_survives_the_wire() {
        for kind in Kind::ALL {
            let sent = Failure::new(kind, "could not rename eth0")
                .with_field("name")
                .with_errno(17)
                .with_cause("ipv4: Address already assigned");
            assert_eq!(to_failure(from_failure(&sent)), sent);
        }
    }

    #[test]
    fn failure_from_guest_is_bounded_and_escaped() {
        let failure = decode(&WireFailure {
            kind: 4711,
            message: "\x1b[2J".to_owned() + &"x".repeat(5000),
            chain: vec!["a\r\nb".to_owned(); 1000],
            ..WireFailure::default()
        });
        assert_eq!(failure.kind(), Kind::Other);
        assert_eq!(failure.to_string().chars().count(), MAX_TEXT);
        assert!(!failure.to_string().contains('\x1b'));
        assert_eq!(failure.chain().count(), MAX_CAUSES);
        let has_controls = |cause: &str| cause.contains(char::is_control);
        assert!(!failure.chain().any(has_controls));
    }

    #[test]
    fn status_without_details_keeps_its_kind() {
        let status = ttrpc::get_status(Code::UNIMPLEMENTED, "no such method");
        let failure = to_failure(ttrpc::Error::RpcStatus(status));
        assert_eq!(failure.kind(), Kind::Unsupported);
        let failure = to_failure(ttrpc::Error::RemoteClosed);
        assert_eq!(failure.kind(), Kind::Other);
    }
}
