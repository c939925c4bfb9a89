//! Operations on the real kernel, each test in a new network namespace; iproute2 judges.

#![allow(clippy::unwrap_used)]

mod configure;
mod harness;
mod model;
mod routes;
mod update;
