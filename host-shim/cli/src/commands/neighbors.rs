//! `neighbor` and the neighbor commands of `kata-network`.

use patchbay_host::agent::GuestAgent;
use patchbay_host::ops::{self, OnDevice};
use patchbay_types::failure::Failure;
use patchbay_types::{Neighbor, NeighborPattern};
use serde_json::Value;

use super::connect;
use crate::args::{FileArgs, GlobalArgs, NeighborCommand, SandboxArg};
use crate::input::neighbor;
use crate::output::{json_line_or_null, neighbors};

/// `kata-network add-neighbor`.
pub(super) fn add(global: &GlobalArgs, args: &FileArgs) -> Result<String, Failure> {
    let wanted = neighbor::to_add(&args.file)?;
    change(global, &args.sandbox, &wanted, |agent, values| {
        agent.add_neighbors(values)
    })?;
    json_line_or_null(&wanted.iter().map(neighbors::document).collect::<Vec<_>>())
}

/// `kata-network del-neighbor`.
pub(super) fn delete(global: &GlobalArgs, args: &FileArgs) -> Result<String, Failure> {
    let patterns = neighbor::to_delete(&args.file)?;
    change(global, &args.sandbox, &patterns, |agent, values| {
        agent.delete_neighbors(values)
    })?;
    json_line_or_null(&patterns.iter().map(neighbors::pattern).collect::<Vec<_>>())
}

/// `kata-network list-neighbors`.
pub(super) fn list(global: &GlobalArgs, sandbox: &SandboxArg) -> Result<String, Failure> {
    let listed = connect(global, sandbox)?.neighbors()?;
    json_line_or_null(&listed.iter().map(neighbors::document).collect::<Vec<_>>())
}

/// `neighbor`.
pub(super) fn native(global: &GlobalArgs, command: &NeighborCommand) -> Result<String, Failure> {
    let (rows, format): (Vec<Value>, _) = match command {
        NeighborCommand::Add(args) => {
            let wanted = [Neighbor {
                ip: args.address,
                lladdr: args.lladdr,
                device: args.dev.clone(),
            }];
            change(global, &args.sandbox, &wanted, |agent, values| {
                agent.add_neighbors(values)
            })?;
            (wanted.iter().map(neighbors::row).collect(), &args.format)
        }
        NeighborCommand::Del(args) => {
            let pattern = NeighborPattern {
                ip: args.address,
                lladdr: args.lladdr,
                device: args.dev.clone(),
            };
            change(global, &args.sandbox, &[pattern], |agent, values| {
                agent.delete_neighbors(values)
            })?;
            return Ok(String::new());
        }
        NeighborCommand::List(args) => {
            let listed = connect(global, &args.sandbox)?.neighbors()?;
            (listed.iter().map(neighbors::row).collect(), &args.format)
        }
    };
    format.format().render(neighbors::NEIGHBORS, &rows)
}

/// Changes the neighbors of a sandbox while holding its lock.
fn change<T: OnDevice>(
    global: &GlobalArgs,
    sandbox: &SandboxArg,
    values: &[T],
    send: impl Fn(&dyn GuestAgent, &[T]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    ops::change_on_devices(&global.find(sandbox)?, values, send)
}
