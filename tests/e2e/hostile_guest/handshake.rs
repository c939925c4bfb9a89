//! Malformed handshakes.

#![expect(clippy::unnecessary_wraps, reason = "each function is a `Respond`")]

use std::iter;

use patchbay_tests::raw_agent::{RawReply, RawRequest, error_reply, frame, reply, reply_bytes};
use patchbay_types::failure::{Failure, Kind};
use patchbay_wire::proto::agent::HelloReply;
use ttrpc::proto::{MESSAGE_TYPE_DATA, MESSAGE_TYPE_RESPONSE};

use super::case::{
    CONTROLS, Case, ROUTES, Respond, dripping, endless, once, run_all, then_silence,
};

const SILENT: &str = "gave no answer in 5 s";
const ABSENT: &str = "the sandbox's agent does not answer at";
const MUCH: &str = "the agent sends more than an answer may have";

fn silence(_: &RawRequest) -> Option<RawReply> {
    Some(then_silence(Vec::new()))
}

fn drip(request: &RawRequest) -> Option<RawReply> {
    let message = HelloReply {
        agent_version: "1".repeat(100),
        ..HelloReply::default()
    };
    Some(dripping(reply(request, &message)))
}

fn hang_up(_: &RawRequest) -> Option<RawReply> {
    Some(once(Vec::new()))
}

fn half_a_header(_: &RawRequest) -> Option<RawReply> {
    Some(then_silence(vec![0; 5]))
}

fn half_a_header_and_hang_up(_: &RawRequest) -> Option<RawReply> {
    Some(once(vec![0; 5]))
}

fn half_a_reply(request: &RawRequest) -> Option<RawReply> {
    let bytes = reply(request, &HelloReply::default());
    Some(then_silence(bytes[..9].to_vec()))
}

fn claim(request: &RawRequest, length: u32) -> Vec<u8> {
    frame(length, request.stream, MESSAGE_TYPE_RESPONSE, &[])
}

fn claim_4_gib(request: &RawRequest) -> Option<RawReply> {
    Some(then_silence(claim(request, u32::MAX)))
}

fn send_4_gib(request: &RawRequest) -> Option<RawReply> {
    let begin = iter::once(claim(request, u32::MAX));
    Some(Box::new(begin.chain(endless(vec![0; 1 << 16]))))
}

fn send_64_mib(request: &RawRequest) -> Option<RawReply> {
    let begin = iter::once(claim(request, 64 << 20));
    Some(Box::new(begin.chain(endless(vec![b'x'; 1 << 16]))))
}

fn noise(_: &RawRequest) -> Option<RawReply> {
    Some(endless(vec![0xa5; 1 << 16]))
}

fn answer_nobody(_: &RawRequest) -> Option<RawReply> {
    Some(endless(frame(0, 4711, MESSAGE_TYPE_DATA, &[])))
}

fn another_type(request: &RawRequest) -> Option<RawReply> {
    Some(then_silence(reply_bytes(request, vec![0xff; 100])))
}

fn another_interface(request: &RawRequest) -> Option<RawReply> {
    let message = HelloReply {
        api_version: 4711,
        ..HelloReply::default()
    };
    Some(then_silence(reply(request, &message)))
}

fn without_routes(request: &RawRequest) -> Option<RawReply> {
    let message = HelloReply {
        api_version: patchbay_wire::API_VERSION,
        features: vec!["interfaces".to_owned()],
        ..HelloReply::default()
    };
    Some(then_silence(reply(request, &message)))
}

fn refuse(request: &RawRequest) -> Option<RawReply> {
    let failure = Failure::new(Kind::Denied, CONTROLS).with_field(CONTROLS);
    let failure = (0..100).fold(failure, |failure, _| failure.with_cause(CONTROLS));
    Some(then_silence(error_reply(
        request,
        patchbay_wire::status::from_failure(&failure),
    )))
}

#[test]
fn malformed_handshakes_fail_in_time() {
    let another = "the agent speaks version 4711 of the interface";
    let lacks = "lacks the feature 'routes'";
    let cases: [(&str, Respond, Kind, &str); 15] = [
        ("silence", silence, Kind::Timeout, SILENT),
        ("a greeting by drops", drip, Kind::Timeout, SILENT),
        ("the end", hang_up, Kind::NotFound, ABSENT),
        ("half a header", half_a_header, Kind::Timeout, SILENT),
        (
            "half, and the end",
            half_a_header_and_hang_up,
            Kind::NotFound,
            ABSENT,
        ),
        ("half a reply", half_a_reply, Kind::Timeout, SILENT),
        ("4 GiB claimed", claim_4_gib, Kind::Timeout, SILENT),
        ("4 GiB sent", send_4_gib, Kind::NotFound, MUCH),
        ("64 MiB sent", send_64_mib, Kind::NotFound, MUCH),
        ("noise", noise, Kind::NotFound, MUCH),
        ("answers for nobody", answer_nobody, Kind::NotFound, MUCH),
        ("another type", another_type, Kind::NotFound, ABSENT),
        (
            "another interface",
            another_interface,
            Kind::Unsupported,
            another,
        ),
        ("no routes", without_routes, Kind::Unsupported, lacks),
        ("a refusal to be obeyed", refuse, Kind::Denied, "root#"),
    ];
    run_all(
        &cases.map(|(name, respond, kind, output)| {
            Case::refused(name, ROUTES, respond, kind, output)
        }),
    );
}
