//! `ipvs ID drain`, `ipvs ID end-connections`, and the warning about connections that remain.

use std::num::NonZeroU16;
use std::time::{Duration, Instant};

use patchbay_host::agent::Agent;
use patchbay_types::conntrack::{Filter, Masked};
use patchbay_types::failure::Failure;
use patchbay_types::ipvs::{ServerFilter, ServerId, ServiceFilter, ServiceId, Target};
use serde_json::json;

use super::connect;
use crate::args::{ConnectionsCommand, GlobalArgs, IpvsArgs, SandboxArg, ServersArgs};
use crate::output::{DrainProgressBar, json_line};

/// Runs `drain` or `end-connections`.
pub(super) fn run(
    global: &GlobalArgs,
    args: &IpvsArgs,
    command: &ConnectionsCommand,
) -> Result<String, Failure> {
    let (servers, drain): (&ServersArgs, Option<Duration>) = match command {
        ConnectionsCommand::Drain(args) => (&args.servers, Some(args.timeout)),
        ConnectionsCommand::EndConnections(servers) => (servers, None),
    };
    let agent = connect(global, &args.sandbox)?;
    let bar = DrainProgressBar::new(servers.names());
    let end = Instant::now() + drain.unwrap_or_default();
    let ended = agent.end_connections(&servers.filters(), drain, &mut |state| {
        bar.set(state, end.saturating_duration_since(Instant::now()));
    })?;
    if args.options.json {
        return json_line(&json!({ "ended": ended }));
    }
    Ok(format!("{ended} connections have been ended.\n"))
}

/// Warns of the connections of a server that was deleted from a service.
pub(super) fn warn_of_deleted(
    agent: &Agent,
    sandbox: &SandboxArg,
    service: ServiceId,
    server: ServerId,
) {
    let target = |address, port| Target {
        address,
        port: NonZeroU16::new(port),
    };
    let service = match service {
        ServiceId::Mark { mark, .. } => ServiceFilter::Mark(mark),
        ServiceId::Address {
            protocol,
            address,
            port,
        } => ServiceFilter::Address(Some(protocol), target(address, port)),
    };
    let filter = ServerFilter {
        server: target(server.address, server.port),
        service: Some(service),
    };
    warn(agent, sandbox, filter);
}

/// Warns of the connections of the server that a filter of flows names: IPVS keeps them in a table of its
/// own.
pub(super) fn warn_of_filtered(agent: &Agent, sandbox: &SandboxArg, filter: &Filter) {
    let parts = filter.parts();
    let named = [
        (parts.orig.dst, parts.orig.dst_port),
        (parts.reply.src, parts.reply.src_port),
    ];
    for (net, port) in named {
        let single = net.filter(|net| *net == Masked::host(net.address()));
        if let Some(address) = single.map(|net| net.address()) {
            let port = port.and_then(NonZeroU16::new);
            let server = Target { address, port };
            let service = None;
            warn(agent, sandbox, ServerFilter { server, service });
        }
    }
}

/// Warns of connections that remain. A failure to count them doesn't change the outcome of a command.
fn warn(agent: &Agent, sandbox: &SandboxArg, filter: ServerFilter) {
    let Ok(Some(count)) = agent.count_connections(&[filter]) else {
        return;
    };
    if count.connections == 0 || count.ending {
        return;
    }
    let (server, id) = (filter.server, &sandbox.id);
    let least = if count.partial { "at least " } else { "" };
    let plural = if count.connections == 1 { "" } else { "s" };
    tracing::warn!(
        "IPVS keeps {least}{} connection{plural} of {server} until they expire; \
         'patchbay ipvs {id} end-connections --server {server}' ends them",
        count.connections
    );
}
