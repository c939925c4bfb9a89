//! `sysctl`: the guest's `net.ipv4.vs` settings.

use patchbay_types::InvalidValue;
use patchbay_types::failure::Failure;
use patchbay_types::ipvs::{Reading, Setting, Sysctl};

use super::connect_in_netns;
use crate::args::{GlobalArgs, SysctlCommand, SysctlSetArgs};
use crate::output::{DocumentFormat, OutputFormat, sysctls};

pub(super) fn run(global: &GlobalArgs, command: &SysctlCommand) -> Result<String, Failure> {
    match command {
        SysctlCommand::List(args) => {
            let readings = connect_in_netns(global, &args.sandbox)?.sysctls()?;
            let settings = readings.iter().map(sysctls::setting);
            let settings: Vec<_> = settings.collect();
            match args.format.format() {
                OutputFormat::Table => Ok(sysctls::text(&readings)),
                OutputFormat::Json => DocumentFormat::Json.render(&settings),
                OutputFormat::Yaml => DocumentFormat::Yaml.render(&settings),
            }
        }
        SysctlCommand::Set(args) => set(global, args),
    }
}

fn set(global: &GlobalArgs, args: &SysctlSetArgs) -> Result<String, Failure> {
    let sysctl: Sysctl = args.name.parse().map_err(|bad| field(bad, "NAME"))?;
    let value = args.value.join(" ").parse();
    let setting = value.and_then(|value| Setting::new(Reading { sysctl, value }));
    let setting = setting.map_err(|bad| field(bad, "VALUE"))?;
    connect_in_netns(global, &args.sandbox)?.set_sysctl(&setting)?;
    Ok(String::new())
}

fn field(bad: InvalidValue, name: &str) -> Failure {
    bad.in_field(name).into()
}
