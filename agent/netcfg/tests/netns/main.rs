//! Operations on a real kernel, in a network namespace for each test, judged by iproute2.

#![allow(clippy::unwrap_used)]

mod agent_ops;
mod bench;
mod random;
mod routes;
mod update;
