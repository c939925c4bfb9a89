//! `patchbay-baseline`: measures lower bounds for `make bench`. Requests are encoded before the clock
//! starts, replies are not decoded, nothing is formatted.
//!
//! Prints times in microseconds.

mod client;
mod conntrack;
mod dump;
mod error;
mod ipvs;
mod raw;
mod routes;
mod serve;

use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use error::Error;

const USAGE: &str = "\
usage: patchbay-baseline time PROGRAM [ARG]...            run a program without its output
       patchbay-baseline ipvs-fill FILE                   create the rules of an ipvsadm file
       patchbay-baseline ipvs-read                        read the IPVS table
       patchbay-baseline packed FILE                      print the encoded size of rules and table
       patchbay-baseline routes-fill COUNT DEVICE GATEWAY create routes from 20.0.0.0/32 on
       patchbay-baseline dump routes|addresses            read a table of all links
       patchbay-baseline conntrack-fill COUNT ADDRESS     create flows to an address
       patchbay-baseline serve PORT                       serve byte exchanges on vsock
       patchbay-baseline client SOCKET PORT echo|send|receive BYTES";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match run(&args) {
        Ok(Some(time)) => println!("{}", time.as_micros()),
        Ok(None) => {}
        Err(error) => {
            eprintln!("patchbay-baseline: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// Runs a subcommand; returns the time unless the caller measures it.
fn run(args: &[&str]) -> Result<Option<Duration>, Error> {
    match args {
        ["time", program, args @ ..] => time(program, args).map(Some),
        ["ipvs-fill", file] => ipvs::fill(file).map(Some),
        ["ipvs-read"] => ipvs::read().map(Some),
        ["packed", file] => {
            let (sent, received) = ipvs::packed(file)?;
            println!("{sent} {received}");
            Ok(None)
        }
        ["routes-fill", count, device, gateway] => {
            routes::fill(parse(count)?, device, parse(gateway)?).map(Some)
        }
        ["dump", table] => dump::read(table.parse()?).map(Some),
        ["conntrack-fill", count, address] => {
            conntrack::fill(parse(count)?, parse(address)?).map(Some)
        }
        ["serve", port] => serve::serve(parse(port)?),
        ["client", socket, port, exchange, bytes] => {
            client::run(socket, parse(port)?, exchange.parse()?, parse(bytes)?).map(|()| None)
        }
        _ => Err(Error::Usage),
    }
}

fn parse<T: std::str::FromStr>(arg: &str) -> Result<T, Error> {
    arg.parse().map_err(|_| Error::Usage)
}

fn time(program: &str, args: &[&str]) -> Result<Duration, Error> {
    let start = Instant::now();
    let status = Command::new(program)
        .args(args)
        .stdout(Stdio::null())
        .status()?;
    let time = start.elapsed();
    if status.success() {
        Ok(time)
    } else {
        Err(Error::Program(status))
    }
}
