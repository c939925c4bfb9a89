//! `route` and the route commands of `kata-network`.

use patchbay_host::agent::GuestAgent;
use patchbay_host::ops::{self, OnDevice};
use patchbay_types::RouteSpec;
use patchbay_types::failure::Failure;

use super::connect;
use crate::args::{FileArgs, GlobalArgs, RouteCommand, SandboxArg};
use crate::input::route::{self, RouteText};
use crate::output::json_line_or_null;
use crate::output::routes::ROUTES;

/// `kata-network add-route`.
pub(super) fn add(global: &GlobalArgs, args: &FileArgs) -> Result<String, Failure> {
    let routes = route::to_add(&args.file)?;
    json_line_or_null(&change(global, &args.sandbox, routes, |agent, routes| {
        agent.add_routes(routes)
    })?)
}

/// `kata-network del-route`.
pub(super) fn delete(global: &GlobalArgs, args: &FileArgs) -> Result<String, Failure> {
    let routes = route::to_delete(&args.file)?;
    json_line_or_null(&change(global, &args.sandbox, routes, |agent, routes| {
        agent.delete_routes(routes)
    })?)
}

/// `kata-network list-routes`.
pub(super) fn list(global: &GlobalArgs, sandbox: &SandboxArg) -> Result<String, Failure> {
    let routes = connect(global, sandbox)?.routes()?;
    json_line_or_null(&routes.iter().map(RouteText::from).collect::<Vec<_>>())
}

/// `kata-network update-routes`. An empty array removes every route that patchbay manages; `null`
/// changes nothing, but needs a sandbox with an agent.
pub(super) fn update(global: &GlobalArgs, args: &FileArgs) -> Result<String, Failure> {
    let echo = match route::wanted(&args.file)? {
        Some(routes) => change(global, &args.sandbox, routes, |agent, routes| {
            agent.replace_routes(routes)
        })?,
        None => change::<RouteSpec>(global, &args.sandbox, Vec::new(), |_, _| Ok(()))?,
    };
    json_line_or_null(&echo)
}

/// `route`.
pub(super) fn native(global: &GlobalArgs, command: &RouteCommand) -> Result<String, Failure> {
    let (routes, format) = match command {
        RouteCommand::Add(args) => {
            let routes = vec![args.route.new_route()?];
            let echo = change(global, &args.sandbox, routes, |agent, routes| {
                agent.add_routes(routes)
            })?;
            (echo, &args.format)
        }
        RouteCommand::Del(args) => {
            let patterns = vec![args.route.pattern()?];
            let echo = change(global, &args.sandbox, patterns, |agent, routes| {
                agent.delete_routes(routes)
            })?;
            (echo, &args.format)
        }
        RouteCommand::List(args) => {
            let routes = connect(global, &args.sandbox)?.routes()?;
            let routes = routes.iter().map(RouteText::complete);
            (routes.collect(), &args.format)
        }
    };
    format.format().render(ROUTES, &routes)
}

/// Changes the routes of a sandbox while holding its lock, and returns their echo.
fn change<T: OnDevice>(
    global: &GlobalArgs,
    sandbox: &SandboxArg,
    routes: Vec<(T, RouteText)>,
    send: impl Fn(&dyn GuestAgent, &[T]) -> Result<(), Failure>,
) -> Result<Vec<RouteText>, Failure> {
    let (routes, echo): (Vec<_>, Vec<_>) = routes.into_iter().unzip();
    ops::change_on_devices(&global.find(sandbox)?, &routes, send)?;
    Ok(echo)
}
