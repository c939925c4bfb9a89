//! `kata-ipvs ipvsadm` and `ipvs`: ipvsadm's options, applied by the agent.

use std::io::Read;

use patchbay_grammar::ipvsadm::{
    Format, Grammar, IpvsCommand, SaveFormat, View, help, parse, read_rules,
};
use patchbay_grammar::split;
use patchbay_types::failure::{Failure, Kind};
use patchbay_types::ipvs::{Change, Detail, Forward, MaxRules, RestoreMode, RuleLine, Table};

use super::{connect_in_netns, connections};
use crate::args::{ConnectionsCommand, GlobalArgs, IpvsArgs, IpvsOptions, IpvsadmArgs, SandboxArg};
use crate::input;
use crate::name_service::HostsAndServices;
use crate::output::{OutputFormat, RestoreProgress, ipvs, ipvs_json, ipvs_table, table};
use patchbay_host::agent::Agent;
use serde_json::Value;

/// Output of `ipvsadm --version`, which scripts parse.
const VERSION: &str = "ipvsadm v1.31 2019/12/24 (compiled with popt and IPVS v1.2.1)\n";

/// Enough for a million rules.
const MAX_RULE_FILE_BYTES: u64 = 128 << 20;

/// Runs `kata-ipvs ipvsadm`; `--restore` wins over `--parameters`.
pub(super) fn ipvsadm(global: &GlobalArgs, args: &IpvsadmArgs) -> Result<String, Failure> {
    let invocation = Invocation {
        global,
        sandbox: &args.sandbox,
        options: &args.options,
        format: OutputFormat::Json,
        save: SaveFormat::Ipvsadm,
        names: HostsAndServices::of_machine(),
    };
    let command = match (&args.restore, &args.parameters) {
        (Some(path), _) if path == "-" => IpvsCommand::Restore,
        (Some(_), _) => {
            let rule = "--restore reads standard input only: use --restore -";
            return Err(Failure::new(Kind::Invalid, rule).with_field("--restore"));
        }
        (None, Some(words)) => {
            let words = split(words).map_err(|error| Failure::of(Kind::Invalid, &error))?;
            parse(&invocation.grammar(Forward::Masquerade), &words)?
        }
        (None, None) => {
            let rule = "missing --parameters with options of ipvsadm, or --restore -";
            return Err(Failure::new(Kind::Invalid, rule));
        }
    };
    invocation.run(&command)
}

/// Runs `ipvs`, which saves every option and prints tables for people on a terminal.
pub(super) fn native(global: &GlobalArgs, args: &IpvsArgs) -> Result<String, Failure> {
    if let Some(command) = ConnectionsCommand::parse_words(&args.words) {
        return connections::run(global, args, &command);
    }
    let invocation = Invocation {
        global,
        sandbox: &args.sandbox,
        options: &args.options,
        format: args.options.format.format(),
        save: SaveFormat::Whole,
        names: HostsAndServices::of_machine(),
    };
    let command = parse(&invocation.grammar(Forward::Masquerade), &args.words)?;
    invocation.run(&command)
}

/// Parameters of a command besides ipvsadm's options.
struct Invocation<'a> {
    global: &'a GlobalArgs,
    sandbox: &'a SandboxArg,
    options: &'a IpvsOptions,
    /// [`OutputFormat::Table`] replaces ipvsadm's text of the whole table.
    format: OutputFormat,
    save: SaveFormat,
    names: HostsAndServices,
}

impl Invocation<'_> {
    /// The default forwarding method is NAT on a command line, by the user guide, and direct
    /// routing in a rule file, by ipvsadm.
    fn grammar(&self, forward: Forward) -> Grammar<'_> {
        Grammar {
            names: &self.names,
            forward,
        }
    }

    fn run(&self, command: &IpvsCommand) -> Result<String, Failure> {
        let connect = || connect_in_netns(self.global, self.sandbox);
        match command {
            IpvsCommand::Help => return Ok(help()),
            IpvsCommand::Version => return Ok(VERSION.to_owned()),
            IpvsCommand::View(view) => {
                return match self.options.format.data() {
                    Some(format) => format.render(&data(&connect()?, view)?),
                    None => self.text(&connect()?, view),
                };
            }
            IpvsCommand::Change(change) => {
                let agent = connect()?;
                agent.ipvs_change(change, self.options.max_rules)?;
                if let Change::DeleteServer(of, server) = change {
                    let command = connections::ipvs_command(self.global, self.sandbox)?;
                    connections::warn_of_deleted(&agent, &command, *of, *server);
                }
            }
            IpvsCommand::Restore => self.restore(connect)?,
        }
        Ok(String::new())
    }

    fn restore(&self, connect: impl FnOnce() -> Result<Agent, Failure>) -> Result<(), Failure> {
        let mut lines = read_rules(&self.grammar(Forward::Route), &read_rule_file()?)?;
        let (mode, max_rules) = (mode(self.options, &lines), self.options.max_rules);
        if lines.is_empty() && mode == RestoreMode::Replace {
            // An empty table, for which agents need a rule.
            lines.push(RuleLine {
                number: 1,
                change: Change::Clear,
            });
        }
        // Except for a merge, the resulting table does not depend on the guest: check it first.
        if mode != RestoreMode::Merge {
            Table::of_file(&lines, MaxRules(max_rules))?;
        }
        let agent = connect()?;
        let bar = RestoreProgress::new(lines.len());
        let mut set = |state| bar.set(state);
        let watch = bar.is_shown().then_some(&mut set as &mut dyn FnMut(_));
        agent.ipvs_restore(&lines, mode, max_rules, watch)?;
        bar.finish();
        Ok(())
    }

    fn text(&self, agent: &Agent, view: &View) -> Result<String, Failure> {
        let names = &self.names;
        Ok(match view {
            View::Table(view) => {
                let detail = match view.format {
                    Format::Stats | Format::Rates => Detail::Full,
                    Format::Thresholds | Format::Persistence => Detail::Rules,
                    Format::Rules | Format::Tunnels => Detail::Brief,
                };
                if view.service.is_none() && self.format == OutputFormat::Table {
                    let table = agent.ipvs_table(None, detail)?;
                    return Ok(table::render(&ipvs_table::rows(view, table, names)));
                }
                // As in ipvsadm, a list of one service has no header.
                let header = match view.service {
                    None => Some(agent.ipvs_status()?),
                    Some(_) => None,
                };
                let table = agent.ipvs_table(view.service, detail)?;
                ipvs::table(view, header.as_ref(), table, names)
            }
            View::Connections(view) => ipvs::connections(view, &agent.ipvs_connections()?, names),
            View::Timeouts => ipvs::timeouts(agent.ipvs_status()?.timeouts),
            View::Daemons => ipvs::daemons(&agent.ipvs_status()?.daemons),
            View::Save(shown) => {
                let detail = match self.save {
                    SaveFormat::Ipvsadm => Detail::Brief,
                    SaveFormat::Whole => Detail::Rules,
                };
                let table = agent.ipvs_table(None, detail)?;
                ipvs::save(*shown, self.save, table, names)
            }
        })
    }
}

/// Returns the mode. A file that begins by clearing the table replaces it.
fn mode(options: &IpvsOptions, lines: &[RuleLine]) -> RestoreMode {
    let clears = lines
        .first()
        .is_some_and(|line| line.change == Change::Clear);
    if options.merge {
        RestoreMode::Merge
    } else if options.replace || clears {
        RestoreMode::Replace
    } else {
        RestoreMode::Empty
    }
}

fn read_rule_file() -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let mut stdin = input::stdin("the rules").take(MAX_RULE_FILE_BYTES + 1);
    stdin.read_to_end(&mut bytes).map_err(|error| {
        Failure::of(Kind::Other, &error).context("could not read standard input")
    })?;
    if bytes.len() as u64 > MAX_RULE_FILE_BYTES {
        let rule = "the rule file has more than 128 MiB";
        return Err(Failure::new(Kind::Invalid, rule));
    }
    // No rule contains the replacement character, so the parser names the line.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn data(agent: &Agent, view: &View) -> Result<Value, Failure> {
    let sorted = |service| {
        let mut table = agent.ipvs_table(service, Detail::Full)?;
        ipvs::sort(&mut table);
        Ok::<_, Failure>(ipvs_json::table(&table))
    };
    Ok(match view {
        View::Table(view) => sorted(view.service)?,
        View::Save(_) => sorted(None)?,
        View::Connections(..) => ipvs_json::connections(&agent.ipvs_connections()?),
        View::Timeouts | View::Daemons => ipvs_json::status(&agent.ipvs_status()?),
    })
}
