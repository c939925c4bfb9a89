//! Networks as documents, and the changes between two.

use patchbay_grammar::ipvsadm::{SaveFormat, numeric, server_line, service_line};
use patchbay_host::card::{CardRequest, PlugRequest};
use patchbay_host::document::{
    Configure, Plan, Section, Step, SysctlChange, Unplug, Update, Wanted,
};
use patchbay_types::failure::{Failure, Kind};
use patchbay_types::ipvs::{Change, RuleLine, Setting};
use patchbay_types::{
    AdminState, Arp, DadPolicy, LinkFlags, LinkSpec, PrefixRoute, Promisc, QueuePairs, Route,
};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::data::DocumentFormat;
use super::json::without_nulls;
use super::{cards, neighbors};
use crate::input::route::RouteText;

/// Formats the document of a network.
pub(crate) fn document(wanted: &Wanted, format: DocumentFormat) -> Result<String, Failure> {
    let Wanted {
        interfaces,
        routes,
        neighbors,
        ipvs,
        sysctls,
    } = wanted;
    let failed = |error: serde_json::Error| Failure::of(Kind::Other, &error);
    let routes = routes.as_ref().map(|routes| {
        let texts = routes.iter().map(|spec| RouteText::from(&spec.resolve()));
        serde_json::to_value(texts.collect::<Vec<_>>())
    });
    let list = |values: Vec<Value>| Value::from(values);
    let sections = [
        (
            Section::Interfaces,
            interfaces
                .as_ref()
                .map(|all| list(all.iter().map(interface).collect())),
        ),
        (Section::Routes, routes.transpose().map_err(failed)?),
        (
            Section::Neighbors,
            neighbors
                .as_ref()
                .map(|all| list(all.iter().map(neighbors::row).collect())),
        ),
        (Section::Ipvs, ipvs.as_deref().map(rules)),
        (Section::Sysctls, sysctls.as_deref().map(settings)),
    ];
    let given = sections
        .into_iter()
        .filter_map(|(section, value)| Some((section.key().to_owned(), value?)));
    let document = Value::Object(given.collect());
    format.render(&document)
}

/// Formats a card as the document of add-iface.
fn interface(request: &PlugRequest) -> Value {
    match request {
        PlugRequest::Card(request) => card(request),
        PlugRequest::Mirror(mirror) => without_nulls(json!({
            "name": mirror.name.as_str(),
            "link": mirror.link.to_string(),
            "queues": mirror.queues.map(QueuePairs::get),
        })),
    }
}

fn card(request: &CardRequest) -> Value {
    let link = request.link.parts();
    let (socket, mode) = cards::vhost_user(&request.backend);
    without_nulls(json!({
        "device": request.device.to_string(),
        "name": link.name.as_str(),
        "hwAddr": link.mac.to_string(),
        "mtu": link.mtu.get(),
        "IPAddresses": addresses(&request.link),
        "queues": link.queues.map(QueuePairs::get),
        "rawFlags": (link.arp == Arp::Off).then_some(crate::input::IFF_NOARP),
        "vhostUserSocket": socket.map(ToString::to_string),
        "vhostUserMode": mode,
        "bridge": cards::bridge(&request.backend),
        "up": (request.link.state() == AdminState::Down).then_some(false),
        "promisc": request.link.promisc().map(cards::is_on),
        "dad": (request.link.duplicates() == DadPolicy::Detect).then_some(true),
        "neighbors": cards::neighbors_of(&request.link),
    }))
}

fn addresses(link: &LinkSpec) -> Value {
    let addresses = link.parts().addresses.iter().map(|address| {
        let absent = link.prefix_route(*address) == PrefixRoute::Absent;
        without_nulls(json!({
            "address": address.ip(),
            "mask": address.prefix().to_string(),
            "noPrefixRoute": absent.then_some(true),
        }))
    });
    addresses.collect()
}

/// Formats rules as a block of text, which an empty array replaces if there are none.
fn rules(lines: &[RuleLine]) -> Value {
    let mut text = String::new();
    for line in lines {
        text += &rule(&line.change);
        text.push('\n');
    }
    if text.is_empty() {
        json!([])
    } else {
        json!(text)
    }
}

fn settings(settings: &[Setting]) -> Value {
    let member = |setting: &Setting| (setting.get().sysctl.name().to_owned(), value(*setting));
    Value::Object(settings.iter().map(member).collect::<Map<_, _>>())
}

fn value(setting: Setting) -> Value {
    let text = setting.get().value.to_string();
    text.parse::<i64>()
        .map_or_else(|_| json!(text), |number| json!(number))
}

/// Formats a change of the IPVS table as a line of ipvsadm.
pub(super) fn rule(change: &Change) -> String {
    let format = SaveFormat::Whole;
    let edit = |line: String, letter: &str| format!("{letter}{}", &line[2..]);
    match change {
        Change::AddService(service) => service_line(service, &numeric, format),
        Change::EditService(service) => edit(service_line(service, &numeric, format), "-E"),
        Change::AddServer(of, server) => server_line(*of, server, &numeric, format),
        Change::EditServer(of, server) => edit(server_line(*of, server, &numeric, format), "-e"),
        Change::DeleteService(id) => format!("-D {id}"),
        Change::DeleteServer(of, server) => format!("-d {of} -r {server}"),
        _ => "-C".to_owned(),
    }
}

/// Change of a network.
#[derive(Debug, Serialize)]
pub(crate) struct ChangeRow {
    #[serde(skip_serializing_if = "Option::is_none")]
    sandbox: Option<String>,
    section: &'static str,
    action: Action,
    value: Value,
    #[serde(skip)]
    text: String,
}

/// Kind of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Action {
    Add,
    Change,
    Remove,
}

impl Action {
    fn sign(self) -> char {
        match self {
            Self::Add => '+',
            Self::Change => '~',
            Self::Remove => '-',
        }
    }
}

/// Format of a list of changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ChangesFormat {
    /// A line for each change
    Text,
    /// An array of objects
    Json,
    /// The same as YAML
    Yaml,
}

/// Renders changes.
pub(crate) fn render(rows: &[ChangeRow], format: ChangesFormat) -> Result<String, Failure> {
    match format {
        ChangesFormat::Json => return DocumentFormat::Json.render(&rows),
        ChangesFormat::Yaml => return DocumentFormat::Yaml.render(&rows),
        ChangesFormat::Text => {}
    }
    let line = |row: &ChangeRow| {
        let sandbox = row.sandbox.iter().map(|id| format!("{id}: "));
        let sandbox: String = sandbox.collect();
        format!("{sandbox}{} {}\n", row.action.sign(), row.text)
    };
    Ok(rows.iter().map(line).collect())
}

/// Returns the changes of a plan. `sandbox` is the id in a document for one of several.
pub(crate) fn changes(plan: &Plan, sandbox: Option<&str>) -> Vec<ChangeRow> {
    let mut rows: Vec<_> = plan.steps().iter().flat_map(rows_of).collect();
    for row in &mut rows {
        row.sandbox = sandbox.map(str::to_owned);
    }
    rows
}

fn rows_of(step: &Step) -> Vec<ChangeRow> {
    match step {
        Step::Unplug(unplug) => vec![unplugged(unplug)],
        Step::Plug(request) => {
            let text = format!("interface {}", request.name());
            vec![row(
                Section::Interfaces,
                Action::Add,
                interface(request),
                text,
            )]
        }
        Step::Configure(configure) => vec![configured(configure)],
        Step::Update(update) => vec![updated(update)],
        Step::Neighbors(step) => {
            let of = |action| {
                move |entry: &_| {
                    let text = format!("neighbor {entry}");
                    row(Section::Neighbors, action, neighbors::row(entry), text)
                }
            };
            let removed = step.difference.removed.iter().map(of(Action::Remove));
            removed
                .chain(step.difference.added.iter().map(of(Action::Add)))
                .collect()
        }
        Step::Routes(step) => {
            let of = |action| move |route: &_| route_row(action, route);
            let removed = step.difference.removed.iter().map(of(Action::Remove));
            removed
                .chain(step.difference.added.iter().map(of(Action::Add)))
                .collect()
        }
        Step::Ipvs(step) => step.changes.iter().map(rule_row).collect(),
        Step::Sysctls(changes) => changes.iter().map(setting_row).collect(),
    }
}

fn row(section: Section, action: Action, value: Value, text: String) -> ChangeRow {
    ChangeRow {
        sandbox: None,
        section: section.key(),
        action,
        value,
        text,
    }
}

fn unplugged(unplug: &Unplug) -> ChangeRow {
    let name = unplug.card.name();
    let why = unplug
        .difference
        .map(|difference| format!(" (another {difference})"));
    let text = format!("interface {name}{}", why.unwrap_or_default());
    row(
        Section::Interfaces,
        Action::Remove,
        interface(&unplug.card),
        text,
    )
}

fn configured(configure: &Configure) -> ChangeRow {
    let text = format!(
        "interface {}: {}",
        configure.card.name(),
        configure.difference
    );
    row(
        Section::Interfaces,
        Action::Change,
        interface(&configure.card),
        text,
    )
}

fn updated(update: &Update) -> ChangeRow {
    let change = &update.change;
    let mtu = change.mtu().map(|mtu| format!(" mtu {}", mtu.get()));
    let addresses = change.addresses().map(|addresses| match addresses {
        [] => " without addresses".to_owned(),
        addresses => {
            let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
            format!(" addresses {}", addresses.join(", "))
        }
    });
    let LinkFlags { state, promisc, .. } = change.flags();
    let state = state.map(|state| match state {
        AdminState::Up => " up".to_owned(),
        AdminState::Down => " down".to_owned(),
    });
    let promisc = promisc.map(|promisc| match promisc {
        Promisc::On => " promisc on".to_owned(),
        Promisc::Off => " promisc off".to_owned(),
    });
    let parts = mtu.into_iter().chain(addresses);
    let parts: String = parts.chain(state).chain(promisc).collect();
    let text = format!("interface {}:{parts}", change.name());
    row(
        Section::Interfaces,
        Action::Change,
        cards::updated(change),
        text,
    )
}

fn route_row(action: Action, route: &Route) -> ChangeRow {
    let metric = (route.metric != route.default_metric()).then_some(route.metric);
    let metric = metric.map(|metric| format!(" metric {metric}"));
    let text = format!("route {route}{}", metric.unwrap_or_default());
    let value = serde_json::to_value(RouteText::from(route)).unwrap_or_default();
    row(Section::Routes, action, value, text)
}

fn rule_row(change: &Change) -> ChangeRow {
    let action = match change {
        Change::AddService(_) | Change::AddServer(..) => Action::Add,
        Change::EditService(_) | Change::EditServer(..) => Action::Change,
        _ => Action::Remove,
    };
    let line = rule(change);
    row(Section::Ipvs, action, json!(line), format!("ipvs {line}"))
}

fn setting_row(change: &SysctlChange) -> ChangeRow {
    let SysctlChange { new, old } = change;
    let name = new.get().sysctl.name();
    let before = old.map(|old| format!("{} -> ", old.get().value));
    let text = format!(
        "sysctl {name}: {}{}",
        before.unwrap_or_default(),
        new.get().value
    );
    let value = json!({"name": name, "old": old.map(value), "new": value(*new)});
    row(Section::Sysctls, Action::Change, value, text)
}
