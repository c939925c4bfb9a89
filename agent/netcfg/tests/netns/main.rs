//! Operations on the real kernel, each test in a new network namespace; iproute2 judges.

#![expect(clippy::unwrap_used, reason = "tests")]

mod cancel;
mod configure;
mod costs;
mod dumps;
mod events;
mod flags;
mod harness;
mod model;
mod names;
mod neighbors;
mod others;
mod point_to_point;
mod route_lists;
mod routes;
mod update;
