//! One message for each request, reply and stream of the API, with every field set.

use patchbay_codec::pack;
use patchbay_types::failure::{Failure, Kind};
use patchbay_types::ipvs::{Change, Detail, RestoreMode, Restored, RuleLine};
use patchbay_types::{DadPolicy, LinkChange, Mtu, Route, RouteSpec};
use patchbay_wire::convert;
use patchbay_wire::proto::{agent, conntrack as conntrack_wire, ipvs as ipvs_wire};
use protobuf::Message;

use super::values::*;

/// The messages by name; of a stream a single one.
pub(crate) fn all() -> Vec<(String, Vec<u8>)> {
    let mut messages = Vec::new();
    let mut add = |name: &str, bytes: Vec<u8>| messages.push((name.to_owned(), bytes));
    handshake_messages(&mut add);
    interface_messages(&mut add);
    route_messages(&mut add);
    conntrack_messages(&mut add);
    ipvs_change_messages(&mut add);
    ipvs_list_messages(&mut add);
    sysctl_messages(&mut add);
    messages
}

fn bytes(message: &impl Message) -> Vec<u8> {
    message.write_to_bytes().unwrap()
}

fn handshake_messages(add: &mut impl FnMut(&str, Vec<u8>)) {
    add(
        "Hello.request",
        bytes(&agent::HelloRequest {
            api_version: 1,
            ..Default::default()
        }),
    );
    add(
        "Hello.reply",
        bytes(&agent::HelloReply {
            api_version: 1,
            agent_version: "0.1.0".to_owned(),
            kernel: "6.1.0-49-cloud-amd64".to_owned(),
            features: [
                "interfaces",
                "routes",
                "ipvs",
                "conntrack",
                "ethtool-netlink",
            ]
            .map(str::to_owned)
            .to_vec(),
            ..Default::default()
        }),
    );
    let failure = Failure::new(Kind::Exists, "could not rename eth0")
        .with_field("name")
        .with_errno(17)
        .with_cause("the name is taken");
    let ttrpc::Error::RpcStatus(status) = patchbay_wire::status::from_failure(&failure) else {
        unreachable!()
    };
    add("failure", bytes(&status));
}

fn interface_messages(add: &mut impl FnMut(&str, Vec<u8>)) {
    let mut configure = convert::configure_request(&path(), &link());
    configure.wait_ms = 30_000;
    add("ConfigureInterface.request", bytes(&configure));
    add(
        "ConfigureInterface.reply",
        bytes(&agent::Configured {
            interface: Some((&interface()).into()).into(),
            discovery_us: 20_000,
            netlink_us: 700,
            ..Default::default()
        }),
    );
    add(
        "ListInterfaces.request",
        bytes(&agent::ListInterfacesRequest::default()),
    );
    add(
        "ListInterfaces.reply",
        bytes(&agent::ListInterfacesReply {
            interfaces: [loopback(), interface()].iter().map(Into::into).collect(),
            ..Default::default()
        }),
    );
    let addresses = vec![address("172.16.0.4", 16)];
    let mtu = Mtu::try_from(1500).ok();
    let update =
        LinkChange::new("eth1".parse().unwrap(), Some(addresses), mtu, "addresses").unwrap();
    let update = convert::update_request(&update.with_dad(DadPolicy::Detect));
    add("UpdateInterface.request", bytes(&update));
    add(
        "UpdateInterface.reply",
        bytes(&agent::Interface::from(&interface())),
    );
}

fn route_messages(add: &mut impl FnMut(&str, Vec<u8>)) {
    add(
        "AddRoutes.request",
        bytes(&convert::routes_request(&specs())),
    );
    add("AddRoutes.reply", bytes(&agent::RoutesReply::default()));
    add(
        "ReplaceRoutes.request",
        bytes(&convert::routes_request(&[])),
    );
    add("ReplaceRoutes.reply", bytes(&agent::RoutesReply::default()));
    add(
        "DeleteRoutes.request",
        bytes(&convert::delete_request(&patterns())),
    );
    add("DeleteRoutes.reply", bytes(&agent::RoutesReply::default()));
    add(
        "ListRoutes.request",
        bytes(&agent::ListRoutesRequest::default()),
    );
    let routes: Vec<Route> = specs().iter().map(RouteSpec::resolve).collect();
    add(
        "ListRoutes.reply",
        bytes(&convert::routes_reply(&routes, 0)),
    );
}

fn conntrack_messages(add: &mut impl FnMut(&str, Vec<u8>)) {
    add(
        "Conntrack.Delete.request",
        bytes(&conntrack_wire::DeleteRequest::from(&filter())),
    );
    add(
        "Conntrack.Delete.reply",
        bytes(&conntrack_wire::DeleteReply {
            deleted: 300,
            ..Default::default()
        }),
    );
    add(
        "Conntrack.List.request",
        bytes(&in_layout_0(convert::conntrack::list_request(Some(
            &filter(),
        )))),
    );
    add(
        "Conntrack.List.reply",
        bytes(&conntrack_wire::ListChunk {
            rows: flows_in_layout_0(),
            ..Default::default()
        }),
    );
}

fn ipvs_change_messages(add: &mut impl FnMut(&str, Vec<u8>)) {
    for (command, number) in COMMANDS.into_iter().zip(1..) {
        let request = convert::ipvs::change_request(&change(command), 20_000);
        add(&format!("Ipvs.Change.request.{number}"), bytes(&request));
    }
    add(
        "Ipvs.Change.reply",
        bytes(&ipvs_wire::ChangeReply::default()),
    );
    let lines = COMMANDS
        .into_iter()
        .zip(1..)
        .map(|(command, number)| RuleLine {
            number,
            change: change(command),
        });
    add(
        "Ipvs.Restore.request",
        bytes(&ipvs_wire::RestoreChunk {
            mode: convert::ipvs::mode_number(RestoreMode::Merge),
            max_rules: 20_000,
            rules: concat(lines),
            last: true,
            ..Default::default()
        }),
    );
    let restored = Restored {
        added: 300,
        edited: 2,
        deleted: 1,
    };
    add(
        "Ipvs.Restore.reply",
        bytes(&ipvs_wire::RestoreReply::from(restored)),
    );
}

fn ipvs_list_messages(add: &mut impl FnMut(&str, Vec<u8>)) {
    let Change::DeleteService(id) = change(COMMANDS[3]) else {
        unreachable!()
    };
    add(
        "Ipvs.Table.request",
        bytes(&convert::ipvs::table_request(Some(id), Detail::Full)),
    );
    add(
        "Ipvs.Table.reply",
        bytes(&ipvs_wire::TableChunk {
            rows: table(),
            ..Default::default()
        }),
    );
    add(
        "Ipvs.Status.request",
        bytes(&ipvs_wire::StatusRequest::default()),
    );
    add(
        "Ipvs.Status.reply",
        bytes(&ipvs_wire::StatusReply::from(&status())),
    );
    add(
        "Ipvs.Connections.request",
        bytes(&ipvs_wire::ConnectionsRequest::default()),
    );
    add(
        "Ipvs.Connections.reply",
        bytes(&ipvs_wire::ConnectionsChunk {
            connections: connections().iter().map(Into::into).collect(),
            ..Default::default()
        }),
    );
}

fn sysctl_messages(add: &mut impl FnMut(&str, Vec<u8>)) {
    let (readings, setting) = settings();
    add(
        "Ipvs.Sysctls.request",
        bytes(&ipvs_wire::SysctlsRequest::default()),
    );
    add(
        "Ipvs.Sysctls.reply",
        bytes(&ipvs_wire::SysctlsReply {
            readings: concat(readings),
            ..Default::default()
        }),
    );
    add(
        "Ipvs.SetSysctl.request",
        bytes(&ipvs_wire::SetSysctlRequest {
            setting: pack(&setting),
            ..Default::default()
        }),
    );
    add(
        "Ipvs.SetSysctl.reply",
        bytes(&ipvs_wire::SetSysctlReply::default()),
    );
}
