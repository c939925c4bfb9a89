//! Routes: the `kata-network` commands, and `route` with flags instead of JSON.

use patchbay_types::failure::Failure;
use patchbay_types::{Route, RouteSpec};

use super::or_nothing;
use crate::args::{Plain, RouteCommand, Target, WithFile};
use crate::input::route::{self, RouteText};
use crate::output::{Ended, Output};
use patchbay_host::agent::Agent;
use patchbay_host::sandbox::{self, Lock};

/// `kata-network add-route`.
pub(super) fn add(target: &Target, args: &WithFile) -> Result<Output, Failure> {
    change(
        target,
        &args.id,
        route::to_add(&args.file)?,
        Agent::add_routes,
    )
}

/// `kata-network del-route`.
pub(super) fn delete(target: &Target, args: &WithFile) -> Result<Output, Failure> {
    change(
        target,
        &args.id,
        route::to_delete(&args.file)?,
        Agent::delete_routes,
    )
}

/// `kata-network list-routes`.
pub(super) fn list(target: &Target, args: &Plain) -> Result<Output, Failure> {
    let routes = read(target, &args.id)?.into_iter();
    Ok(Output::routes(routes.map(RouteText::from).collect()))
}

/// `kata-network update-routes`. An empty array removes every route that patchbay manages; `null`
/// changes nothing, but needs a sandbox with an agent.
pub(super) fn update(target: &Target, args: &WithFile) -> Result<Output, Failure> {
    match route::wanted(&args.file)? {
        Some(routes) => change(target, &args.id, routes, Agent::replace_routes),
        None => change::<RouteSpec>(target, &args.id, Vec::new(), |_, _| Ok(())),
    }
}

/// `route`.
pub(super) fn native(target: &Target, command: &RouteCommand) -> Ended {
    let (done, printing) = match command {
        RouteCommand::Add(args) => {
            let route = args.route.new_route();
            let done = route
                .map_err(Failure::from)
                .and_then(|route| change(target, &args.id, vec![route], Agent::add_routes));
            (done, &args.printing)
        }
        RouteCommand::Del(args) => {
            let pattern = args.route.pattern();
            let done = pattern
                .map_err(Failure::from)
                .and_then(|pattern| change(target, &args.id, vec![pattern], Agent::delete_routes));
            (done, &args.printing)
        }
        RouteCommand::List(args) => {
            let routes = read(target, &args.id);
            let rows = routes.map(|routes| routes.into_iter().map(RouteText::complete).collect());
            (rows.map(Output::Routes), &args.printing)
        }
    };
    or_nothing(done).printed(printing)
}

fn read(target: &Target, id: &str) -> Result<Vec<Route>, Failure> {
    let sandbox = sandbox::find(&target.lookup(), id)?;
    Agent::connect(&sandbox.agent)?.routes()
}

/// Changes the routes of a sandbox while holding its lock, and returns their echo.
fn change<T>(
    target: &Target,
    id: &str,
    routes: Vec<(T, RouteText)>,
    send: impl FnOnce(&Agent, &[T]) -> Result<(), Failure>,
) -> Result<Output, Failure> {
    let sandbox = sandbox::find(&target.lookup(), id)?;
    let _lock = Lock::take(&sandbox.state)?;
    let (routes, echo): (Vec<_>, Vec<_>) = routes.into_iter().unzip();
    send(&Agent::connect(&sandbox.agent)?, &routes)?;
    Ok(Output::routes(echo))
}
