//! `sysctl`: the guest's `net.ipv4.vs` settings.

use patchbay_types::InvalidValue;
use patchbay_types::failure::Failure;
use patchbay_types::ipvs::{Reading, Setting, Sysctl};

use super::connect;
use crate::args::{GlobalArgs, NativeListArgs, SysctlCommand, SysctlSetArgs};
use crate::output::SysctlJson;

pub(super) fn run(global: &GlobalArgs, command: &SysctlCommand) -> Result<String, Failure> {
    match command {
        SysctlCommand::List(args) => list(global, args),
        SysctlCommand::Set(args) => set(global, args),
    }
}

fn list(global: &GlobalArgs, args: &NativeListArgs) -> Result<String, Failure> {
    let readings = connect(global, &args.sandbox)?.sysctls()?;
    let settings: Vec<SysctlJson> = readings.iter().map(SysctlJson::from).collect();
    args.format.format().render(&settings)
}

fn set(global: &GlobalArgs, args: &SysctlSetArgs) -> Result<String, Failure> {
    let sysctl: Sysctl = args.name.parse().map_err(|bad| field(bad, "NAME"))?;
    let value = args.value.join(" ").parse();
    let setting = value.and_then(|value| Setting::new(Reading { sysctl, value }));
    let setting = setting.map_err(|bad| field(bad, "VALUE"))?;
    connect(global, &args.sandbox)?.set_sysctl(&setting)?;
    Ok(String::new())
}

fn field(bad: InvalidValue, name: &str) -> Failure {
    bad.in_field(name).into()
}
