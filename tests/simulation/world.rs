//! The simulated world: commands, QEMU and the guest, of which the scheduler lets one take a step at a time.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;

use fastrand::Rng;
use patchbay_types::failure::{Failure, Kind};
use serde_json::json;

use crate::agent::Port;
use crate::backend::Backend;
use crate::clock::Clock;
use crate::events::{Choice, Due};
use crate::faults::{self, Fault, Faults};
use crate::guest::{Answer, Guest, Waiting};
use crate::memory::SECOND;
use crate::monitor::Monitor;
use crate::process::{End, Process};
use crate::qemu::{Hotplug, Qemu, Refused};
use crate::scenario::SOCKET;

/// World of one machine.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) rng: Rng,
    pub(crate) clock: Clock,
    pub(crate) faults: Faults,
    pub(crate) qemu: Qemu,
    pub(crate) guest: Guest,
    monitor: Monitor,
    /// Time until which QEMU's main loop is blocked.
    pub(crate) busy_until: u64,
    port: Port,
    backend: Backend,
    processes: Vec<Process>,
    timers: BTreeMap<(u64, u64), Due>,
    last_timer: u64,
    /// Threads that don't run before a time.
    delayed: BTreeMap<(usize, usize), u64>,
    pub(crate) trace: Vec<String>,
    folder: String,
    /// Name of the machine's folder: device and inode of the monitor's socket.
    machine: String,
    pub(crate) steps: u64,
}

/// Virtual time after which a command that has not ended hangs.
const LONGEST: u64 = 600 * SECOND;

impl World {
    /// Creates the world of a machine whose sockets are in a folder.
    pub(crate) fn new(seed: u64, folder: &Path) -> Self {
        let mut rng = Rng::with_seed(seed);
        let socket = folder.join("qmp.sock");
        let monitor = Monitor::bind(&socket);
        let socket = socket.metadata().unwrap();
        let hotplug = rng.choice([Hotplug::Acpi, Hotplug::Native]).unwrap();
        Self {
            clock: Clock::new(rng.u64(..)),
            rng,
            faults: Faults::None,
            qemu: Qemu::new(hotplug),
            guest: Guest::new(),
            monitor,
            busy_until: 0,
            port: Port::bind(&folder.join("agent.sock")),
            backend: Backend::bind(&folder.join(SOCKET)),
            processes: Vec::new(),
            timers: BTreeMap::new(),
            last_timer: 0,
            delayed: BTreeMap::new(),
            trace: Vec::new(),
            folder: folder.display().to_string(),
            machine: format!("{}-{}", socket.dev(), socket.ino()),
            steps: 0,
        }
    }

    /// Runs commands at the same time until all have ended.
    pub(crate) fn run(&mut self, commands: &[Command]) -> Vec<End> {
        self.processes = commands.iter().map(Process::start).collect();
        self.delayed.clear();
        let begun = self.clock.now();
        while self.processes.iter().any(|process| process.end().is_none()) {
            self.step();
            assert!(self.clock.now() - begun < LONGEST, "a command hangs");
        }
        let ended = std::mem::take(&mut self.processes);
        ended
            .iter()
            .map(|process| process.end().unwrap().clone())
            .collect()
    }

    /// Lets time pass without commands.
    pub(crate) fn rest(&mut self, until: u64) {
        self.pump();
        while let Some(choice) = self.choose(Some(until)) {
            self.take(choice);
            self.pump();
        }
        self.clock.advance(until);
    }

    fn step(&mut self) {
        self.pump();
        for process in &mut self.processes {
            process.wake(&mut self.clock);
        }
        let choice = self
            .choose(None)
            .expect("every command waits without a limit");
        self.take(choice);
    }

    fn pump(&mut self) {
        if self.busy_until <= self.clock.now() {
            self.monitor.pump();
        }
        self.port.pump();
        self.backend.pump();
    }

    /// Chooses one of the possible steps; if there is none now, lets time pass until a later one, but not
    /// beyond a limit.
    fn choose(&mut self, limit: Option<u64>) -> Option<Choice> {
        let choices = self.choices();
        if !choices.is_empty() {
            return Some(choices[self.rng.usize(..choices.len())]);
        }
        let deadlines = self.processes.iter().filter_map(Process::deadline);
        let waiting = self.guest.waiting.iter().map(|waiting| waiting.deadline);
        let due = self.timers.keys().map(|(due, _)| *due);
        let busy = Some(self.busy_until).filter(|until| *until > self.clock.now());
        let delayed = self.delayed.values().copied();
        let moments = deadlines
            .chain(waiting)
            .chain(due)
            .chain(busy)
            .chain(delayed);
        let next = moments
            .min()
            .filter(|next| limit.is_none_or(|limit| *next <= limit))?;
        self.clock.advance(next);
        for process in &mut self.processes {
            process.wake(&mut self.clock);
        }
        self.choose(limit)
    }

    fn choices(&mut self) -> Vec<Choice> {
        let now = self.clock.now();
        self.delayed.retain(|_, until| *until > now);
        let mut choices = Vec::new();
        for (index, process) in self.processes.iter().enumerate() {
            let ready = process
                .ready()
                .into_iter()
                .map(|(thread, _)| (index, thread));
            let ready = ready.filter(|key| !self.delayed.contains_key(key));
            choices.extend(ready.map(|(index, thread)| Choice::Thread(index, thread)));
        }
        if self.monitor.has_request() && self.busy_until <= now {
            choices.push(Choice::Request);
        }
        choices.extend(self.port.callers().into_iter().map(Choice::Call));
        choices.extend(self.backend.clients().into_iter().map(Choice::Backend));
        for index in 0..self.guest.waiting.len() {
            let waiting = &self.guest.waiting[index];
            if waiting.deadline <= now || self.guest.is_answerable(&waiting.request) {
                choices.push(Choice::Waiting(index));
            }
        }
        let due = self.timers.range(..=(now, u64::MAX));
        choices.extend(due.map(|(key, _)| Choice::Timer(*key)));
        choices
    }

    fn take(&mut self, choice: Choice) {
        match choice {
            Choice::Thread(process, thread) => self.run_thread(process, thread),
            Choice::Request => self.serve_request(),
            Choice::Call(connection) => self.serve_call(connection),
            Choice::Backend(client) => self.serve_backend(client),
            Choice::Waiting(index) => self.end_wait(index),
            Choice::Timer(key) => self.ring(key),
        }
    }

    /// Chooses the fault of a step, and notes both.
    fn begin_step(&mut self, line: &str) -> Option<Fault> {
        let fault = self.faults.next(&mut self.rng);
        let shown = fault.map(|fault| format!(" {fault:?}")).unwrap_or_default();
        self.note(&format!("{line}{shown}"));
        fault
    }

    fn note(&mut self, line: &str) {
        self.steps += 1;
        let time = self.clock.now() / 1_000;
        self.trace(&format!("{time:>11} {line}"));
    }

    /// Adds a line without the names that differ between two runs.
    pub(crate) fn trace(&mut self, line: &str) {
        let line = line
            .replace(&self.folder, "")
            .replace(&self.machine, "MACHINE");
        self.trace.push(line);
    }

    fn run_thread(&mut self, index: usize, thread: usize) {
        let mut ready = self.processes[index].ready().into_iter();
        let (_, label) = ready.find(|(own, _)| *own == thread).unwrap();
        let Some(label) = label.map(str::to_owned) else {
            self.processes[index].run(thread, &mut self.clock);
            return;
        };
        let fault = self.begin_step(&format!("command {index}.{thread} {label}"));
        match fault {
            Some(Fault::Crash) => {
                self.processes[index].kill();
                return;
            }
            Some(Fault::Refusal | Fault::HangUp) => {
                if let Some(errno) = faults::errno(&label, &mut self.rng) {
                    self.processes[index].refuse(thread, errno);
                }
            }
            Some(Fault::Delay) => {
                let until = self.clock.now() + faults::delay(&mut self.rng);
                self.delayed.insert((index, thread), until);
                return;
            }
            None => {}
        }
        self.processes[index].run(thread, &mut self.clock);
    }

    fn set_timer(&mut self, after: u64, due: Due) {
        self.last_timer += 1;
        self.timers
            .insert((self.clock.now() + after, self.last_timer), due);
    }

    /// Kills the command that is connected to the monitor or the agent: one of those that run.
    fn crash(&mut self) {
        let running = self
            .processes
            .iter_mut()
            .filter(|process| process.end().is_none());
        let mut running: Vec<_> = running.collect();
        if !running.is_empty() {
            let index = self.rng.usize(..running.len());
            running[index].kill();
        }
    }

    fn serve_request(&mut self) {
        let mut request = self.monitor.take();
        let id = request.text("id").to_owned();
        let fault = self.begin_step(&format!("qemu {} {id}", request.command));
        let result = match fault {
            Some(Fault::Refusal | Fault::HangUp) => {
                Err(Refused::new("GenericError", "the simulation refuses it"))
            }
            _ => self.qemu.execute(&mut request),
        };
        if result.is_ok() {
            self.follow(&request.command, &id);
        }
        let reply = match result {
            Ok(value) => json!({"return": value, "id": request.id}),
            Err(refused) => json!({"error": refused.message(), "id": request.id}),
        };
        match fault {
            Some(Fault::Crash) => self.crash(),
            Some(Fault::Delay) => {
                let after = faults::delay(&mut self.rng);
                self.busy_until = self.clock.now() + after;
                self.set_timer(after, Due::Reply(self.monitor.client(), reply));
                return;
            }
            _ => {}
        }
        self.monitor.send(&reply);
    }

    /// Schedules what follows from a command of QEMU.
    fn follow(&mut self, command: &str, id: &str) {
        match command {
            "device_add" => {
                let after = self.rng.u64(..SECOND / 2);
                self.set_timer(after, Due::Detect(id.to_owned()));
            }
            "device_del" => {
                let longest = match self.faults {
                    Faults::Random(_) if self.rng.u8(..8) == 0 => 60,
                    _ => 7,
                };
                let after = self.rng.u64(..longest * SECOND);
                self.set_timer(after, Due::Release(id.to_owned()));
            }
            _ => {}
        }
    }

    fn serve_call(&mut self, connection: usize) {
        let call = self.port.take(connection);
        let fault = self.begin_step(&format!("agent {}", call.method));
        let answer = match fault {
            Some(Fault::Refusal) => Answer::Reply(Err(refusal())),
            Some(Fault::HangUp) if self.rng.bool() => return self.port.hang_up(connection),
            _ => self.guest.carry_out(&call),
        };
        match fault {
            Some(Fault::Crash) => self.crash(),
            Some(Fault::HangUp) => self.port.hang_up(connection),
            _ => {}
        }
        match answer {
            Answer::Reply(result) if fault == Some(Fault::Delay) => {
                let after = faults::delay(&mut self.rng);
                self.set_timer(after, Due::Answer(call.caller, result));
            }
            Answer::Reply(result) => self.port.reply(&call.caller, result),
            Answer::Wait(milliseconds, request) => {
                let deadline = self.clock.now() + u64::from(milliseconds) * (SECOND / 1_000);
                let caller = call.caller;
                self.guest.waiting.push(Waiting {
                    caller,
                    deadline,
                    request,
                });
            }
        }
    }

    fn serve_backend(&mut self, client: usize) {
        let request = self.backend.take(client);
        match self.begin_step(&format!("backend request {request}")) {
            Some(Fault::Crash) => self.crash(),
            Some(Fault::Refusal | Fault::HangUp) => self.backend.hang_up(client),
            // The client's timeout is short: a late reply is as none.
            Some(Fault::Delay) => {}
            None => self.backend.reply(client, request),
        }
    }

    fn end_wait(&mut self, index: usize) {
        let waiting = self.guest.waiting.remove(index);
        let result = self.guest.answer(&waiting.request);
        let outcome = if result.is_ok() { "done" } else { "failed" };
        let fault = self.begin_step(&format!("agent replies {outcome}"));
        match fault {
            Some(Fault::Crash) => self.crash(),
            Some(Fault::HangUp) => self.port.hang_up(waiting.caller.connection),
            Some(Fault::Delay) => {
                let after = faults::delay(&mut self.rng);
                return self.set_timer(after, Due::Answer(waiting.caller, result));
            }
            _ => {}
        }
        self.port.reply(&waiting.caller, result);
    }

    fn ring(&mut self, key: (u64, u64)) {
        match self.timers.remove(&key).unwrap() {
            Due::Reply(client, reply) if client == self.monitor.client() => {
                self.monitor.send(&reply);
            }
            Due::Reply(..) => {}
            Due::Answer(caller, result) => self.port.reply(&caller, result),
            Due::Detect(id) => {
                self.note(&format!("guest detects {id}"));
                if let Some(device) = self.qemu.devices.get(&id) {
                    self.guest.detect(self.qemu.path(device), &device.mac);
                }
            }
            Due::Release(id) => {
                self.note(&format!("guest releases {id}"));
                if let Some(device) = self.qemu.devices.remove(&id) {
                    self.guest.links.remove(&self.qemu.path(&device));
                    let data = json!({"device": id, "path": format!("/machine/peripheral/{id}")});
                    self.monitor
                        .send(&json!({"event": "DEVICE_DELETED", "data": data}));
                }
            }
        }
    }
}

fn refusal() -> Failure {
    Failure::new(Kind::Kernel, "the simulation refuses it")
}
