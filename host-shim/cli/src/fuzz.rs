//! Thin wrappers that open private parsers to the fuzz targets.

use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::path::Path;

use patchbay_grammar::ipvsadm::Names;
use patchbay_grammar::{NoNames, Resolver};
use patchbay_types::failure::Failure;
use patchbay_types::ipvs::{MaxRules, Protocol};
use patchbay_types::{
    IfName, LinkChange, LinkSpec, Neighbor, NeighborPattern, RoutePattern, RouteSpec,
};
use serde_json::Value;

use crate::input::network::NetworkDocument;
use crate::input::route::{self, RouteText};
use crate::input::{self, neighbor};
use crate::name_service::HostsAndServices;
use crate::output;
use crate::output::DocumentFormat;
use patchbay_host::card::CardRequest;
use patchbay_host::document::Wanted;

/// Reads the document of `add-iface`.
pub fn card(file: &Path) -> Result<LinkSpec, Failure> {
    Ok(CardRequest::try_from(input::interface(file)?)?.link)
}

/// Reads the document of `update-iface`.
pub fn change(file: &Path) -> Result<LinkChange, Failure> {
    LinkChange::try_from(input::interface(file)?)
}

/// Reads the document of `del-iface`.
pub fn name(file: &Path) -> Result<String, Failure> {
    Ok(input::interface(file)?.name::<IfName>()?.to_string())
}

fn echoes<T>(read: Vec<(T, RouteText)>) -> (Vec<T>, Value) {
    let (read, echoes): (Vec<T>, Vec<RouteText>) = read.into_iter().unzip();
    (read, serde_json::to_value(echoes).unwrap_or_default())
}

/// Reads the document of `add-route` and returns it with its echo.
pub fn routes_to_add(file: &Path) -> Result<(Vec<RouteSpec>, Value), Failure> {
    route::to_add(file).map(echoes)
}

/// Reads the document of `del-route` and returns it with its echo.
pub fn routes_to_delete(file: &Path) -> Result<(Vec<RoutePattern>, Value), Failure> {
    route::to_delete(file).map(echoes)
}

/// Reads the document of `update-routes` and returns it with its echo.
pub fn routes_wanted(file: &Path) -> Result<Option<(Vec<RouteSpec>, Value)>, Failure> {
    Ok(route::wanted(file)?.map(echoes))
}

/// Reads the document of `add-neighbor` and returns it with its echo.
pub fn neighbors_to_add(file: &Path) -> Result<(Vec<Neighbor>, Value), Failure> {
    let neighbors = neighbor::to_add(file)?;
    let echo = neighbors.iter().map(output::neighbors::document).collect();
    Ok((neighbors, echo))
}

/// Reads the document of `del-neighbor`.
pub fn neighbors_to_delete(file: &Path) -> Result<Vec<NeighborPattern>, Failure> {
    neighbor::to_delete(file)
}

/// Reads documents of networks, and returns each with its text as YAML and as JSON.
pub fn networks(file: &Path) -> Result<Vec<(Wanted, [String; 2])>, Failure> {
    let documents = input::network::read(file, &NoNames, MaxRules(u32::MAX))?;
    let with_texts = |document: NetworkDocument| {
        let wanted = document.wanted;
        let [yaml, json] = [DocumentFormat::Yaml, DocumentFormat::Json]
            .map(|format| output::network::document(&wanted, format));
        Ok((wanted, [yaml?, json?]))
    };
    documents.into_iter().map(with_texts).collect()
}

/// Parses the environment and the standard input of the CNI plugin. Returns the result of ADD, or the
/// document of the error.
pub fn cni(variable: &dyn Fn(&str) -> Option<OsString>, input: &[u8]) -> Result<String, String> {
    crate::cni::parse(variable, input)
}

/// Looks up `wanted` in the contents of `/etc/hosts` and `/etc/services`.
#[must_use]
pub fn names(hosts: &str, services: &str, wanted: &str) -> (Option<Ipv4Addr>, Option<u16>) {
    let files = HostsAndServices::parse(hosts, services, hosts);
    let found = (files.host(wanted), files.service(wanted, "tcp"));
    if let (Some(host), Some(port)) = found {
        files.show(Names::Resolved, Some(Protocol::Tcp), host.into(), port);
    }
    found
}
