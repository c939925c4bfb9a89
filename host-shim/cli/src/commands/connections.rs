//! `ipvs ID drain`, `ipvs ID end-connections`, and the warning about connections that remain.

use std::num::NonZeroU16;
use std::time::{Duration, Instant};

use patchbay_host::agent::Agent;
use patchbay_types::conntrack::{Filter, Masked};
use patchbay_types::failure::Failure;
use patchbay_types::ipvs::{ServerFilter, ServerId, ServiceFilter, ServiceId, Target};
use serde_json::json;

use super::connect_in_netns;
use crate::args::{ConnectionsCommand, GlobalArgs, IpvsArgs, SandboxArg, ServersArgs};
use crate::output::DrainProgressBar;

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
    let agent = connect_in_netns(global, &args.sandbox)?;
    let bar = DrainProgressBar::new(servers.names());
    let end = Instant::now() + drain.unwrap_or_default();
    let ended = agent.end_connections(&servers.filters(), drain, &mut |state| {
        bar.set(state, end.saturating_duration_since(Instant::now()));
    })?;
    if let Some(format) = args.options.format.data() {
        return format.render(&json!({ "ended": ended }));
    }
    Ok(format!("{ended} connections have been ended.\n"))
}

/// Returns the `ipvs` command for a sandbox and its namespace, for advice.
pub(super) fn ipvs_command(global: &GlobalArgs, sandbox: &SandboxArg) -> Result<String, Failure> {
    let netns = global.guest_netns()?;
    let option = netns.map_or_else(String::new, |netns| format!(" --guest-netns {netns}"));
    Ok(format!("patchbay ipvs {}{option}", sandbox.id))
}

/// Warns of the connections of a server that was deleted from a service.
pub(super) fn warn_of_deleted(agent: &Agent, command: &str, service: ServiceId, server: ServerId) {
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
    warn(agent, command, filter);
}

/// Warns of the connections of the server that a filter of flows names: IPVS keeps them in a table of its
/// own.
pub(super) fn warn_of_filtered(agent: &Agent, command: &str, filter: &Filter) {
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
            warn(agent, command, ServerFilter { server, service });
        }
    }
}

/// Warns of connections that remain. A failure to count them doesn't change the outcome of a command.
fn warn(agent: &Agent, command: &str, filter: ServerFilter) {
    let Ok(Some(count)) = agent.count_connections(&[filter]) else {
        return;
    };
    if count.connections == 0 || count.ending {
        return;
    }
    let server = filter.server;
    let least = if count.partial { "at least " } else { "" };
    let plural = if count.connections == 1 { "" } else { "s" };
    tracing::warn!(
        "IPVS keeps {least}{} connection{plural} of {server} until they expire; \
         '{command} end-connections --server {server}' ends them",
        count.connections
    );
}
