//! An agent that was taken over: it lies, floods, stalls and hangs up. The command ends in time, with
//! a typed error, in bounded memory, and prints nothing that a terminal would obey.

#![allow(clippy::unwrap_used)]

mod answers;
mod case;
mod introduction;
mod tables;
