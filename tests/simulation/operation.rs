//! Operations of the commands, and the states to which they may lead.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use crate::process::End;

/// A card as it is requested.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Card {
    pub(crate) name: &'static str,
    pub(crate) device: &'static str,
    pub(crate) mac: String,
    pub(crate) mtu: u32,
    /// Last byte of the address `172.16.0.N`, whose prefix has 16 bits.
    pub(crate) address: u8,
}

/// Operation of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Operation {
    Plug(Card),
    Unplug(&'static str),
    /// Changes MTU and address.
    Update(&'static str, u32, u8),
    Gc,
    List,
}

/// State of a card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    Absent,
    Plugged(Card),
    /// No command waits for its removal any more. Until then it can be changed.
    Removing(Card),
}

/// States that each card can have after the commands so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expected(pub(crate) BTreeMap<&'static str, Vec<State>>);

impl Operation {
    /// Returns the command.
    pub(crate) fn command(&self, run_dir: &Path) -> Command {
        let examples = std::env::current_exe().unwrap();
        let mut folders = examples.ancestors().skip(1);
        let program = folders.find_map(|folder| {
            let program = folder.join("simulated-command");
            program.exists().then_some(program)
        });
        let mut command = Command::new(program.expect("no simulated-command"));
        command.arg(run_dir).args(self.words());
        command
    }

    pub(crate) fn words(&self) -> Vec<String> {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        match self {
            Self::Plug(card) => {
                let (mtu, address) = (card.mtu.to_string(), address(card.address));
                words(&["plug", card.name, card.device, &card.mac, &mtu, &address])
            }
            Self::Unplug(name) => words(&["unplug", name]),
            Self::Update(name, mtu, last) => {
                words(&["update", name, &mtu.to_string(), &address(*last)])
            }
            Self::Gc => words(&["gc"]),
            Self::List => words(&["list"]),
        }
    }
}

fn address(last: u8) -> String {
    format!("172.16.0.{last}")
}

impl Expected {
    /// Notes the end of commands that ran at the same time.
    pub(crate) fn note(&mut self, operations: &[Operation], ends: &[End]) {
        for (name, states) in &mut self.0 {
            let ended = operations.iter().zip(ends);
            let ended: Vec<_> = ended.filter(|(own, _)| own.card() == Some(*name)).collect();
            *states = outcomes(states, &ended);
        }
    }
}

/// Returns the states after operations on one card in any order.
fn outcomes(before: &[State], ended: &[(&Operation, &End)]) -> Vec<State> {
    if ended.is_empty() {
        return before.to_vec();
    }
    let mut after = Vec::new();
    for first in 0..ended.len() {
        let mut rest = ended.to_vec();
        let (operation, end) = rest.remove(first);
        for state in outcomes(&operation.states(before, end), &rest) {
            if !after.contains(&state) {
                after.push(state);
            }
        }
    }
    after
}

impl Operation {
    /// Returns the name of the card that changes.
    fn card(&self) -> Option<&'static str> {
        match self {
            Self::Plug(card) => Some(card.name),
            Self::Unplug(name) | Self::Update(name, ..) => Some(name),
            Self::Gc | Self::List => None,
        }
    }

    /// Returns the states to which the operation may lead.
    fn states(&self, before: &[State], end: &End) -> Vec<State> {
        let has_succeeded = matches!(end, End::Exited(0, _));
        let mut states = if has_succeeded {
            Vec::new()
        } else {
            before.to_vec()
        };
        for state in before {
            match (self, state) {
                (Self::Plug(card), State::Plugged(present)) if has_succeeded && card != present => {
                }
                (Self::Plug(card), _) if has_succeeded => states.push(State::Plugged(card.clone())),
                (Self::Plug(card), State::Absent | State::Removing(_)) if *end == End::Killed => {
                    // The next command can begin to remove it.
                    states.push(State::Removing(card.clone()));
                    states.push(State::Plugged(card.clone()));
                }
                (Self::Unplug(_), _) if has_succeeded => states.push(State::Absent),
                (Self::Unplug(_), State::Plugged(card)) => {
                    states.push(State::Removing(card.clone()));
                }
                (Self::Update(_, mtu, address), State::Plugged(card)) => {
                    states.push(State::Plugged(card.updated(*mtu, *address)));
                }
                (Self::Update(_, mtu, address), State::Removing(card)) => {
                    states.push(State::Removing(card.updated(*mtu, *address)));
                }
                _ => {}
            }
        }
        states
    }
}

impl Card {
    fn updated(&self, mtu: u32, address: u8) -> Self {
        Self {
            mtu,
            address,
            ..self.clone()
        }
    }
}
