//! `patchbay-baseline`: what a piece of work needs at least, for `make bench` to compare with. Requests
//! are encoded before the clock starts, answers are not looked into, nothing is formatted.
//!
//! Times are printed in microseconds.

mod client;
mod conntrack;
mod error;
mod ipvs;
mod raw;
mod routes;
mod serve;

use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use error::Error;

const USAGE: &str = "\
patchbay-baseline time PROGRAM [WORD]...            run it, output thrown away
patchbay-baseline ipvs-fill FILE                    make the rules of a file of ipvsadm's
patchbay-baseline ipvs-read                         read the table
patchbay-baseline packed FILE                       bytes of these rules, to the agent and back
patchbay-baseline routes-fill COUNT DEVICE GATEWAY  make routes 20.0.0.0/32 and on
patchbay-baseline conntrack-fill COUNT ADDRESS      make flows to this address
patchbay-baseline serve PORT                        answer on vsock
patchbay-baseline client SOCKET PORT echo|send|receive BYTES";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(Some(time)) => println!("{}", time.as_micros()),
        Ok(None) => {}
        Err(error) => {
            eprintln!("patchbay-baseline: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// The time that is to be told, if the caller doesn't measure by itself.
fn run(words: &[&str]) -> Result<Option<Duration>, Error> {
    match words {
        ["time", program, words @ ..] => time(program, words).map(Some),
        ["ipvs-fill", file] => ipvs::fill(file).map(Some),
        ["ipvs-read"] => ipvs::read().map(Some),
        ["packed", file] => {
            let (sent, received) = ipvs::packed(file)?;
            println!("{sent} {received}");
            Ok(None)
        }
        ["routes-fill", count, device, gateway] => {
            routes::fill(parsed(count)?, device, parsed(gateway)?).map(Some)
        }
        ["conntrack-fill", count, address] => {
            conntrack::fill(parsed(count)?, parsed(address)?).map(Some)
        }
        ["serve", port] => serve::serve(parsed(port)?),
        ["client", socket, port, work, bytes] => {
            client::run(socket, parsed(port)?, work.parse()?, parsed(bytes)?).map(|()| None)
        }
        _ => Err(Error::Usage),
    }
}

fn parsed<T: std::str::FromStr>(word: &str) -> Result<T, Error> {
    word.parse().map_err(|_| Error::Usage)
}

fn time(program: &str, words: &[&str]) -> Result<Duration, Error> {
    let start = Instant::now();
    let status = Command::new(program)
        .args(words)
        .stdout(Stdio::null())
        .status()?;
    let time = start.elapsed();
    if status.success() {
        Ok(time)
    } else {
        Err(Error::Program(status))
    }
}
