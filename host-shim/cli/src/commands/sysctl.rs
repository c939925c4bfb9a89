//! `sysctl`: the settings of IPVS in a guest.

use patchbay_types::InvalidValue;
use patchbay_types::failure::Failure;
use patchbay_types::ipvs::{Reading, Setting, Sysctl};

use super::or_nothing;
use crate::args::{NativeList, SysctlSet, SysctlWords, Target};
use crate::output::{Ended, Output, SysctlRow};
use patchbay_host::agent::Agent;
use patchbay_host::sandbox;

pub(super) fn run(target: &Target, words: &SysctlWords) -> Ended {
    match words {
        SysctlWords::List(words) => or_nothing(list(target, words)).printed(&words.printing),
        SysctlWords::Set(words) => or_nothing(set(target, words)),
    }
}

fn list(target: &Target, words: &NativeList) -> Result<Output, Failure> {
    let agent = Agent::connect(&sandbox::find(&target.lookup(), &words.id)?.agent)?;
    let readings = agent.sysctls()?;
    Ok(Output::Sysctls(
        readings.iter().map(SysctlRow::from).collect(),
    ))
}

fn set(target: &Target, words: &SysctlSet) -> Result<Output, Failure> {
    let sysctl: Sysctl = words.name.parse().map_err(|bad| field(bad, "NAME"))?;
    let value = words
        .value
        .join(" ")
        .parse()
        .map_err(|bad| field(bad, "VALUE"))?;
    let setting = Setting::new(Reading { sysctl, value }).map_err(|bad| field(bad, "VALUE"))?;
    Agent::connect(&sandbox::find(&target.lookup(), &words.id)?.agent)?.set_sysctl(&setting)?;
    Ok(Output::Nothing)
}

fn field(bad: InvalidValue, name: &str) -> Failure {
    bad.in_field(name).into()
}
