//! Documents of whole networks: YAML or JSON, one for each sandbox.

mod rules;
#[cfg(test)]
mod schema;
#[cfg(test)]
mod tests;
mod yaml;

use std::collections::HashSet;
use std::path::Path;

use patchbay_grammar::Resolver;
use patchbay_host::card::PlugRequest;
use patchbay_host::document::{Section, Wanted};
use patchbay_host::json::Object;
use patchbay_types::failure::{Failure, Kind};
use patchbay_types::ipvs::{MaxRules, Reading, Setting, Sysctl};
use patchbay_types::{
    FieldError, InvalidValue, MAX_NEIGHBORS, MAX_ROUTES, Neighbor, RouteSpec, check_neighbors,
};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::InterfaceDocument;
use super::document::{self, Document, SizeLimits};
use super::neighbor::NeighborDocument;
use super::route::RouteText;
use yaml::{Content, Node, Place};

/// Size limits of a document: half a million rules.
const LIMITS: SizeLimits = SizeLimits {
    file: 32 << 20,
    stdin: 32 << 20,
};

/// Key with the id of the sandbox.
pub(crate) const SANDBOX: &str = "sandbox";

/// Document of a network.
#[derive(Debug)]
pub(crate) struct NetworkDocument {
    /// Sandbox that it is for.
    pub(crate) sandbox: Option<String>,
    /// Wanted network.
    pub(crate) wanted: Wanted,
    source: Source,
}

/// Text of a document, for error messages.
#[derive(Debug)]
struct Source {
    file: String,
    root: Node,
}

/// Network of a sandbox. A section that is absent is not managed, an empty one means none.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(deny_unknown_fields))]
struct Sections {
    /// ID of the sandbox, if the file has several documents.
    sandbox: Option<String>,
    /// Cards, in the form of add-iface.
    #[cfg_attr(test, schemars(with = "Option<Vec<InterfaceDocument>>"))]
    interfaces: Option<Vec<Object<InterfaceDocument>>>,
    /// Routes, in the form of add-route.
    #[cfg_attr(test, schemars(with = "Option<Vec<RouteText>>"))]
    routes: Option<Vec<Object<RouteText>>>,
    /// Static neighbors, in the form of add-neighbor.
    #[cfg_attr(test, schemars(with = "Option<Vec<NeighborDocument>>"))]
    neighbors: Option<Vec<Object<NeighborDocument>>>,
    /// IPVS services and servers: a block with the lines of ipvsadm-save, or an array of them.
    #[cfg_attr(test, schemars(with = "Option<schema::Rules>"))]
    ipvs: Option<IgnoredAny>,
    /// Settings by their names in 'patchbay sysctl list'.
    #[cfg_attr(
        test,
        schemars(with = "Option<std::collections::BTreeMap<String, schema::SysctlText>>")
    )]
    sysctls: Option<IgnoredAny>,
}

/// Reads the documents in the file at `path`, or in standard input for `-`.
pub(crate) fn read(
    path: &Path,
    names: &dyn Resolver,
    max_rules: MaxRules,
) -> Result<Vec<NetworkDocument>, Failure> {
    let (file, bytes) = document::read(path, LIMITS)?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let failure = Failure::new(Kind::Invalid, format!("could not read {file}"));
        failure.with_cause(error.to_string())
    })?;
    parse(&file, &text, names, max_rules)
}

fn parse(
    file: &str,
    text: &str,
    names: &dyn Resolver,
    max_rules: MaxRules,
) -> Result<Vec<NetworkDocument>, Failure> {
    let at = |place: Place| format!("{file}:{place}");
    let nodes = yaml::parse(text)
        .map_err(|error| Failure::new(Kind::Invalid, error.reason).context(at(error.place)))?;
    let given = nodes.into_iter().filter(|node| !node.is_null());
    let documents = given.map(|root| {
        let file = file.to_owned();
        NetworkDocument::new(Source { file, root }, names, max_rules)
    });
    let documents: Vec<_> = documents.collect::<Result<_, _>>()?;
    if documents.is_empty() {
        return Err(Failure::new(
            Kind::Invalid,
            format!("{file} has no document"),
        ));
    }
    Ok(documents)
}

impl NetworkDocument {
    fn new(source: Source, names: &dyn Resolver, max_rules: MaxRules) -> Result<Self, Failure> {
        source.check_keys()?;
        let document = Document::of(source.file.clone(), source.root.value());
        let sections: Sections = document
            .object("network")
            .map_err(|failure| source.locate(failure))?;
        let wanted = source.wanted(&sections, names, max_rules);
        Ok(Self {
            wanted: wanted.map_err(|fault| source.failure(fault))?,
            sandbox: sections.sandbox,
            source,
        })
    }

    /// Adds the place in the file to a failure that has a field of the document.
    pub(crate) fn locate(&self, failure: Failure) -> Failure {
        self.source.locate(failure)
    }
}

/// Fault of a document.
enum Fault {
    /// At the failure's field.
    InField(Failure),
    /// At a place of the text.
    At(Place, Failure),
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Self {
        Self::InField(failure)
    }
}

impl Source {
    fn wanted(
        &self,
        sections: &Sections,
        names: &dyn Resolver,
        max_rules: MaxRules,
    ) -> Result<Wanted, Fault> {
        let ipvs = self.root.member(Section::Ipvs.key());
        let ipvs = ipvs.map(|member| rules::read(&member.value, names, max_rules));
        let sysctls = self.root.member(Section::Sysctls.key());
        let sysctls = sysctls.map(|member| settings(&member.value));
        Ok(Wanted {
            interfaces: sections.interfaces.as_deref().map(interfaces).transpose()?,
            routes: sections.routes.as_deref().map(routes).transpose()?,
            neighbors: sections.neighbors.as_deref().map(neighbors).transpose()?,
            ipvs: ipvs.transpose()?,
            sysctls: sysctls.transpose()?,
        })
    }

    fn failure(&self, fault: Fault) -> Failure {
        match fault {
            Fault::InField(failure) => self.locate(failure),
            Fault::At(place, failure) => failure.context(format!("{}:{place}", self.file)),
        }
    }

    fn locate(&self, failure: Failure) -> Failure {
        match failure.field() {
            Some(field) => {
                let place = self.root.locate(field);
                failure.context(format!("{}:{place}", self.file))
            }
            None => failure,
        }
    }

    /// Checks the keys of the document itself: a section with a misspelt key would not be managed.
    fn check_keys(&self) -> Result<(), Failure> {
        let invalid = |place, message: String| {
            let failure = Failure::new(Kind::Invalid, message);
            Err(self.failure(Fault::At(place, failure)))
        };
        let Some(members) = self.root.members() else {
            return invalid(
                self.root.place,
                "the document must be a mapping of sections".to_owned(),
            );
        };
        let sections = Section::ALL.map(Section::key);
        for member in members {
            let key = member.key.as_str();
            if key != SANDBOX && !sections.contains(&key) {
                let known = sections.join(", ");
                let message = format!("unknown section '{key}': it must be {known} or sandbox");
                return invalid(member.place, message);
            }
            if member.value.is_null() {
                let rule = "[] means none, and without the key the section is not managed";
                return invalid(member.place, format!("{key} has no value: {rule}"));
            }
        }
        Ok(())
    }
}

fn settings(node: &Node) -> Result<Vec<Setting>, Fault> {
    let members = match &node.content {
        Content::Mapping(members) => &members[..],
        // As for the other sections.
        Content::Sequence(nodes) if nodes.is_empty() => &[],
        _ => {
            let message = "sysctls must be a mapping of names to values";
            return Err(Fault::At(node.place, Failure::new(Kind::Invalid, message)));
        }
    };
    let mut seen = HashSet::new();
    let mut settings = Vec::new();
    for member in members {
        let at = |place, bad: InvalidValue| {
            let field = format!("sysctls.{}", member.key);
            Fault::At(place, bad.in_field(field).into())
        };
        let name = |bad| at(member.place, bad);
        let sysctl: Sysctl = member.key.parse().map_err(name)?;
        if !seen.insert(sysctl.number()) {
            return Err(name(InvalidValue::new(&member.key, "it is given twice")));
        }
        let text = match &member.value.content {
            Content::Scalar(serde_json::Value::String(text)) => text.clone(),
            _ => member.value.value().to_string(),
        };
        let value = |bad| at(member.value.place, bad);
        let value_of = text.parse().map_err(value)?;
        let reading = Reading {
            sysctl,
            value: value_of,
        };
        settings.push(Setting::new(reading).map_err(value)?);
    }
    Ok(settings)
}

fn interfaces(documents: &[Object<InterfaceDocument>]) -> Result<Vec<PlugRequest>, Failure> {
    let mut seen = HashSet::new();
    let mut requests = Vec::new();
    for (index, Object(document)) in documents.iter().enumerate() {
        let at = format!("interfaces[{index}]");
        let nested = |failure: Failure| {
            let field = failure.field().map(|field| format!("{at}.{field}"));
            let field = field.unwrap_or_else(|| at.clone());
            failure.with_field(field)
        };
        let request = document.clone().request().map_err(nested)?;
        for (key, value) in identities(&request) {
            if !seen.insert((key, value.clone())) {
                let rule = "another card of the document has it";
                return Err(InvalidValue::new(&value, rule)
                    .in_field(format!("{at}.{key}"))
                    .into());
            }
        }
        requests.push(request);
    }
    Ok(requests)
}

/// Returns the keys and values that no two cards can have.
fn identities(request: &PlugRequest) -> Vec<(&'static str, String)> {
    let name = ("name", request.name().to_string());
    match request {
        PlugRequest::Card(card) => vec![
            name,
            ("device", card.device.to_string()),
            ("hwAddr", card.link.parts().mac.to_string()),
        ],
        PlugRequest::Mirror(mirror) => vec![name, ("link", mirror.link.to_string())],
    }
}

fn routes(texts: &[Object<RouteText>]) -> Result<Vec<RouteSpec>, Failure> {
    check_count(texts.len(), MAX_ROUTES, Section::Routes)?;
    let read = |(index, Object(text)): (usize, &Object<RouteText>)| {
        let at = |error: FieldError| error.nested_in(&format!("routes[{index}]"));
        text.new_route().map(|(spec, _)| spec).map_err(at)
    };
    let specs: Result<_, _> = texts.iter().enumerate().map(read).collect();
    Ok(specs?)
}

fn neighbors(documents: &[Object<NeighborDocument>]) -> Result<Vec<Neighbor>, Failure> {
    check_count(documents.len(), MAX_NEIGHBORS, Section::Neighbors)?;
    let read = |(index, Object(document)): (usize, &Object<NeighborDocument>)| {
        document.neighbor(&format!("neighbors[{index}]"))
    };
    let neighbors: Result<Vec<_>, _> = documents.iter().enumerate().map(read).collect();
    let neighbors = neighbors?;
    check_neighbors(&neighbors, MAX_NEIGHBORS, Section::Neighbors.key())?;
    Ok(neighbors)
}

fn check_count(count: usize, max: usize, section: Section) -> Result<(), Failure> {
    if count <= max {
        return Ok(());
    }
    let key = section.key();
    let message = format!("the document has {count} {key}, and a sandbox at most {max}");
    Err(Failure::new(Kind::Invalid, message).with_field(key))
}
