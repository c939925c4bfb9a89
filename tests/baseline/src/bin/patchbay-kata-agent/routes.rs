//! `UpdateRoutes` and `ListRoutes`.

use patchbay_wire::proto::kata as wire;
use serde_json::Value;

use super::Updates;
use super::iproute::{rows, run, text};

/// Adds routes, those without a gateway first.
pub(super) fn update(wanted: &wire::Routes, updates: Updates) -> Result<(), String> {
    if updates == Updates::Replace {
        delete_all()?;
    }
    let (direct, via): (Vec<_>, Vec<_>) = wanted
        .Routes
        .iter()
        .partition(|route| route.gateway.is_empty());
    for route in direct.into_iter().chain(via) {
        let family = match route.family.enum_value_or_default() {
            wire::IPFamily::v4 => "-4",
            wire::IPFamily::v6 => "-6",
        };
        let dest = if route.dest.is_empty() {
            "default"
        } else {
            &route.dest
        };
        let option = |word: &str, value: &str| match value {
            "" => String::new(),
            value => format!(" {word} {value}"),
        };
        // A prefix length other than 0 makes Kata's source one of packets, which IPv4 ignores.
        let source = route.source.strip_suffix("/0").unwrap_or_default();
        let mtu = if route.mtu == 0 {
            String::new()
        } else {
            route.mtu.to_string()
        };
        let onlink = if route.flags & 4 == 0 { "" } else { " onlink" };
        let words = format!(
            "{family} route replace {dest}{} dev {} proto boot scope {}{}{}{onlink}",
            option("via", &route.gateway),
            route.device,
            route.scope,
            option("src", source),
            option("mtu", &mtu),
        );
        run(&words)?;
    }
    Ok(())
}

/// Deletes all routes but those of the kernel and the loopback.
fn delete_all() -> Result<(), String> {
    for family in ["-4", "-6"] {
        for route in rows(&format!("{family} route show table main"))? {
            let (dest, device) = (text(&route, "dst"), text(&route, "dev"));
            if text(&route, "protocol") == "2" || device.is_empty() || device.contains("lo") {
                continue;
            }
            run(&format!("{family} route del {dest} dev {device}"))?;
        }
    }
    Ok(())
}

/// Lists the routes. A gateway overwrites the destination, as in Kata's code.
pub(super) fn list() -> Result<wire::Routes, String> {
    let mut routes = Vec::new();
    for (family, bits, unspecified) in [("-4", 32, "0.0.0.0"), ("-6", 128, "::1")] {
        for row in rows(&format!("{family} route show table main"))? {
            routes.extend(listed(&row, bits, unspecified));
        }
    }
    Ok(wire::Routes {
        Routes: routes,
        ..wire::Routes::default()
    })
}

/// Returns `None` for a route without destination and gateway, which Kata omits.
fn listed(row: &Value, bits: u8, unspecified: &str) -> Option<wire::Route> {
    let (dest, gateway) = (text(row, "dst"), text(row, "gateway"));
    let dest = match (dest.as_str(), gateway.as_str()) {
        ("default", "") => return None,
        (_, "") if dest.contains('/') => dest,
        (_, "") => format!("{dest}/{bits}"),
        _ => unspecified.to_owned(),
    };
    Some(wire::Route {
        dest,
        gateway,
        device: text(row, "dev"),
        scope: row["scope"]
            .as_str()
            .and_then(|scope| scope.parse().ok())
            .unwrap_or_default(),
        ..wire::Route::default()
    })
}
