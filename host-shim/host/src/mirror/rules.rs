//! Policy routing rules of a namespace. Plugins such as `sbr` make them for a link; they stay in the
//! namespace, and the card is routed by the guest's own rules.

use std::io;

use ipnet::IpNet;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::rule::{RuleAttribute, RuleMessage};
use patchbay_types::LinkName;

use super::addresses::SourceAddress;
use crate::netns::Rtnetlink;

/// Warns if the namespace has rules for a link or its addresses.
pub(super) fn warn(
    rtnl: &Rtnetlink,
    link: &LinkName,
    addresses: &[SourceAddress],
) -> io::Result<()> {
    let selectors = selectors(rtnl, link, addresses)?;
    if let Some(first) = selectors.first() {
        tracing::warn!(
            "the namespace has {} routing rules (ip rule) for the link {link}, the first with '{first}': \
             the guest gets neither them nor the routes of their tables",
            selectors.len()
        );
    }
    Ok(())
}

/// Lists the selectors of the rules for a link or its addresses.
pub(super) fn selectors(
    rtnl: &Rtnetlink,
    link: &LinkName,
    addresses: &[SourceAddress],
) -> io::Result<Vec<String>> {
    let request = RouteNetlinkMessage::GetRule(RuleMessage::default());
    let listed: Vec<RouteNetlinkMessage> = rtnl.dump(&request)?;
    let selectors = listed.iter().filter_map(|message| match message {
        RouteNetlinkMessage::NewRule(rule) => selector(rule, link, addresses),
        _ => None,
    });
    Ok(selectors.collect())
}

/// Returns the selector of a rule, as `ip rule` shows it, if it selects packets of the link.
pub(super) fn selector(
    rule: &RuleMessage,
    link: &LinkName,
    addresses: &[SourceAddress],
) -> Option<String> {
    let name = link.to_string();
    rule.attributes
        .iter()
        .find_map(|attribute| match attribute {
            RuleAttribute::Source(ip) => {
                let from = IpNet::new(*ip, rule.header.src_len).ok()?;
                let is_own = addresses.iter().any(|own| from.contains(&own.address.ip()));
                is_own.then(|| format!("from {from}"))
            }
            RuleAttribute::Iifname(iif) => (*iif == name).then(|| format!("iif {iif}")),
            RuleAttribute::Oifname(oif) => (*oif == name).then(|| format!("oif {oif}")),
            _ => None,
        })
}
