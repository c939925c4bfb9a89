//! `patchbay-intruder UID ACTION ...`: plays a process of the guest that wants to answer the host in the
//! agent's place.
//!
//! * `squat PORT...` tries to bind each vsock port until standard input ends, and prints those that it got.
//! * `confined ARGUMENT...` gives up the agent's privileges, as the agent of these arguments does, and prints
//!   the result of each attempt to go beyond them.
//! * `exhaust` takes all memory in a file without a mapping, which the OOM killer doesn't count.

mod confined;

use std::error::Error;
use std::io::{Read as _, Write as _};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use vsock::{VMADDR_CID_ANY, VsockListener};

const USAGE: &str = "usage: patchbay-intruder UID squat PORT... | confined ARGUMENT... | exhaust";
/// Small, so that the agent is the better victim.
const CHUNK_BYTES: usize = 4096;

fn main() -> ExitCode {
    match run(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("patchbay-intruder: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[String]) -> Result<(), Box<dyn Error>> {
    let [uid, action, rest @ ..] = words else {
        return Err(USAGE.into());
    };
    become_user(uid.parse()?)?;
    match action.as_str() {
        "squat" => {
            let ports: Result<Vec<u32>, _> = rest.iter().map(|port| port.parse()).collect();
            squat(&ports?)
        }
        "confined" => confined::run(rest),
        "exhaust" => exhaust(),
        _ => Err(USAGE.into()),
    }
}

fn become_user(id: u32) -> nix::Result<()> {
    let (uid, gid) = (Uid::from_raw(id), Gid::from_raw(id));
    setgroups(&[])?;
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)
}

fn squat(ports: &[u32]) -> Result<(), Box<dyn Error>> {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for port in ports {
            let over = &over;
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    if let Ok(_listener) = VsockListener::bind_with_cid_port(VMADDR_CID_ANY, *port)
                    {
                        println!("bound {port}");
                        return;
                    }
                    thread::yield_now();
                }
            });
        }
        let waited = std::io::stdin().read_to_end(&mut Vec::new());
        over.store(true, Ordering::Relaxed);
        waited
    })?;
    println!("over");
    Ok(())
}

fn exhaust() -> Result<(), Box<dyn Error>> {
    let mut memory = std::fs::File::from(memfd_create(c"memory", MFdFlags::empty())?);
    let chunk = [1; CHUNK_BYTES];
    loop {
        memory.write_all(&chunk)?;
    }
}
