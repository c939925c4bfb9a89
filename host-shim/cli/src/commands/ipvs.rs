//! `kata-ipvs ipvsadm` and `ipvs`: ipvsadm's words, carried out in a guest that has no ipvsadm.

use std::io::{self, Read};

use patchbay_grammar::ipvsadm::{
    Format, Grammar, IpvsCommand, SaveFormat, View, help, parse, read_rules,
};
use patchbay_grammar::split;
use patchbay_types::failure::{Failure, Kind};
use patchbay_types::ipvs::{Detail, Forward, MaxRules, RestoreMode, Table};

use super::connect;
use crate::args::{FormatArg, GlobalArgs, IpvsArgs, IpvsOptions, IpvsadmArgs, SandboxArg};
use crate::name_service::HostsAndServices;
use crate::output::{OutputFormat, RestoreProgress, ipvs, ipvs_json, ipvs_table, json_line, table};
use patchbay_host::agent::Agent;

/// What ipvsadm 1.31 says of itself: scripts look for it.
const VERSION: &str = "ipvsadm v1.31 2019/12/24 (compiled with popt and IPVS v1.2.1)\n";

/// Largest rule file that is read, in bytes: a million rules.
const MAX_FILE: u64 = 128 << 20;

/// One line of words, or a rule file; `--restore` wins if both are given.
pub(super) fn ipvsadm(global: &GlobalArgs, args: &IpvsadmArgs) -> Result<String, Failure> {
    let files = HostsAndServices::read();
    let command = match (&args.restore, &args.parameters) {
        (Some(place), _) if place == "-" => IpvsCommand::Restore,
        (Some(_), _) => {
            let rule = "--restore reads standard input only: use --restore -";
            return Err(Failure::new(Kind::Invalid, rule).with_field("--restore"));
        }
        (None, Some(words)) => {
            let words = split(words).map_err(|open| Failure::of(Kind::Invalid, &open))?;
            read_words(&words, &files)?
        }
        (None, None) => {
            let rule = "--parameters with ipvsadm's words, or --restore -, is needed";
            return Err(Failure::new(Kind::Invalid, rule));
        }
    };
    let asked = Asked {
        options: &args.options,
        saved: SaveFormat::Ipvsadm,
        tables: Tables::Ipvsadm,
        files: &files,
    };
    run(global, &args.sandbox, &asked, &command)
}

/// The same words one by one; what is saved is whole.
pub(super) fn native(global: &GlobalArgs, args: &IpvsArgs) -> Result<String, Failure> {
    let files = HostsAndServices::read();
    let command = read_words(&args.words, &files)?;
    let asked = Asked {
        options: &args.options,
        saved: SaveFormat::Whole,
        tables: match (FormatArg {
            json: args.options.json,
        })
        .format()
        {
            OutputFormat::Table => Tables::People,
            OutputFormat::Json => Tables::Ipvsadm,
        },
        files: &files,
    };
    run(global, &args.sandbox, &asked, &command)
}

/// How the whole table is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tables {
    /// Byte for byte as ipvsadm does.
    Ipvsadm,
    /// In columns that are as wide as what is in them.
    People,
}

/// How words are carried out.
struct Asked<'a> {
    options: &'a IpvsOptions,
    saved: SaveFormat,
    tables: Tables,
    files: &'a HostsAndServices,
}

fn read_words(words: &[String], files: &HostsAndServices) -> Result<IpvsCommand, Failure> {
    // The user guide: a single server is reached by NAT if nothing else is said.
    let grammar = Grammar {
        names: files,
        forward: Forward::Masquerade,
    };
    Ok(parse(&grammar, &words)?)
}

fn run(
    global: &GlobalArgs,
    sandbox: &SandboxArg,
    asked: &Asked<'_>,
    command: &IpvsCommand,
) -> Result<String, Failure> {
    let Asked { options, files, .. } = *asked;
    let connect = || connect(global, sandbox);
    match command {
        IpvsCommand::Help => Ok(help()),
        IpvsCommand::Version => Ok(VERSION.to_owned()),
        IpvsCommand::Change(change) => {
            connect()?.ipvs_change(change, options.max_rules)?;
            Ok(String::new())
        }
        IpvsCommand::View(view) if options.json => json(&connect()?, view),
        IpvsCommand::View(view) => text(&connect()?, view, asked),
        IpvsCommand::Restore => {
            let grammar = Grammar {
                names: files,
                forward: Forward::Route,
            };
            let lines = read_rules(&grammar, &standard_input()?)?;
            let mode = mode(options);
            // What a file makes of no rules is known before the guest is asked.
            if mode != RestoreMode::Merge {
                Table::of_file(&lines, MaxRules(options.max_rules))?;
            }
            let agent = connect()?;
            let progress = RestoreProgress::new(lines.len());
            let sent = &mut |rules| progress.set_sent(rules);
            agent.ipvs_restore(&lines, mode, options.max_rules, sent)?;
            Ok(String::new())
        }
    }
}

fn mode(options: &IpvsOptions) -> RestoreMode {
    if options.replace {
        RestoreMode::Replace
    } else if options.merge {
        RestoreMode::Merge
    } else {
        RestoreMode::Empty
    }
}

fn standard_input() -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let read = io::stdin()
        .lock()
        .take(MAX_FILE + 1)
        .read_to_end(&mut bytes);
    read.map_err(|error| {
        Failure::of(Kind::Other, &error).context("could not read standard input")
    })?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(Failure::new(
            Kind::Invalid,
            "the rule file has more than 128 MiB",
        ));
    }
    // Text that is no UTF-8 is in no legal rule; the line that has it will be named.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// What the columns need.
fn detail(format: Format) -> Detail {
    match format {
        Format::Rules | Format::Tunnels | Format::Thresholds | Format::Persistence => Detail::Rules,
        Format::Stats | Format::Rates => Detail::Full,
    }
}

fn text(agent: &Agent, view: &View, asked: &Asked<'_>) -> Result<String, Failure> {
    let files = asked.files;
    let text = match view {
        View::Table(view) if view.service.is_none() && asked.tables == Tables::People => {
            let table = agent.ipvs_table(None, detail(view.format))?;
            return Ok(table::render(&ipvs_table::rows(view, table, files)));
        }
        View::Table(view) => {
            let header = match view.service {
                None => Some(agent.ipvs_status()?),
                Some(_) => None,
            };
            let table = agent.ipvs_table(view.service, detail(view.format))?;
            ipvs::table(view, header.as_ref(), table, files)
        }
        View::Connections(view) => ipvs::connections(view, &agent.ipvs_connections()?, files),
        View::Timeouts => ipvs::timeouts(agent.ipvs_status()?.timeouts),
        View::Daemons => ipvs::daemons(&agent.ipvs_status()?.daemons),
        View::Save(names) => {
            let table = agent.ipvs_table(None, Detail::Rules)?;
            ipvs::save(*names, asked.saved, table, files)
        }
    };
    Ok(text)
}

fn json(agent: &Agent, view: &View) -> Result<String, Failure> {
    let sorted = |service| {
        let mut table = agent.ipvs_table(service, Detail::Full)?;
        ipvs::sort(&mut table);
        Ok::<_, Failure>(ipvs_json::table(&table))
    };
    json_line(&match view {
        View::Table(view) => sorted(view.service)?,
        View::Save(_) => sorted(None)?,
        View::Connections(..) => ipvs_json::connections(&agent.ipvs_connections()?),
        View::Timeouts | View::Daemons => ipvs_json::status(&agent.ipvs_status()?),
    })
}
