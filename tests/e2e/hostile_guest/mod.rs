//! A compromised agent, which sends malformed replies, floods, stalls and hangs up. The command fails
//! in time, with a typed error, in bounded memory, and prints no terminal control characters.

mod answers;
mod case;
mod handshake;
mod tables;
