//! `patchbay watch` with networks of real container engines, judged by iproute2 in the guest. A machine
//! of `patchbay-sandbox` in the namespace of a container takes the place of Kata's.

use std::sync::Arc;

use patchbay_tests::{Endpoint, Engine, Guest, Netns, await_value, temp_dir};
use serde_json::Value;

use super::watch_service::Service;

/// Returns the names and addresses of the guest's interfaces with this MAC address.
fn interfaces(guest: &Guest, mac: &str) -> Vec<(String, Vec<String>)> {
    let shown = guest.ip("-4 addr show");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let shown = shown.as_array().unwrap().iter();
    let found = shown.filter(|link| link["address"] == mac);
    let found = found.map(|link| {
        let infos = link["addr_info"].as_array().unwrap().iter();
        let addresses = infos.map(|info| format!("{}/{}", text(&info["local"]), info["prefixlen"]));
        (text(&link["ifname"]), addresses.collect())
    });
    found.collect()
}

/// Returns the gateways of the default routes of the guest.
fn default_gateways(guest: &Guest) -> Vec<String> {
    let shown = guest.ip("route show default");
    let routes = shown.as_array().unwrap().iter();
    let gateways = routes.map(|route| route["gateway"].as_str().unwrap().to_owned());
    gateways.collect()
}

/// Name of the container.
const WEB: &str = "web";

/// Container of an engine, with a guest in its namespace.
struct Web<'a> {
    engine: &'a Engine,
    guest: Guest,
}

impl Web<'_> {
    /// Connects the container, and waits until the guest has a card with this name, and the address and MAC
    /// address of the engine.
    fn connect(&self, network: &str, name: &str) -> Endpoint {
        self.engine.network("connect", network, WEB);
        self.await_card(network, name)
    }

    fn await_card(&self, network: &str, name: &str) -> Endpoint {
        let endpoint = self.engine.endpoint(network, WEB);
        let card = (name.to_owned(), vec![endpoint.address.clone()]);
        await_value(&vec![card], || interfaces(&self.guest, &endpoint.mac));
        endpoint
    }

    /// Disconnects the container, and waits until the guest has lost the card.
    fn disconnect(&self, network: &str) {
        let mac = self.engine.endpoint(network, WEB).mac;
        self.engine.network("disconnect", network, WEB);
        await_value(&vec![], || interfaces(&self.guest, &mac));
    }

    /// The namespace can't answer for the addresses of the engine's bridges.
    fn ping(&self, endpoint: &Endpoint) {
        let ping = format!("ping -c 2 -W 5 {}", endpoint.gateway);
        self.guest.exec(&ping).ok();
    }

    /// Waits until the guest's only default route is that through this network.
    fn await_default_route(&self, through: &Endpoint) {
        let expected = vec![through.gateway.clone()];
        await_value(&expected, || default_gateways(&self.guest));
    }
}

/// Networks that come and go while the container runs; `second` is the link of one that is connected again, and
/// `default` the network whose default route rules beside the other.
fn guest_follows_networks_of(engine: &Engine, second: &str, default: &str) {
    engine.create_network("red", "10.77.0.0/24");
    engine.create_network("blue", "10.78.0.0/24");
    let pid = engine.start_container(WEB, "red");
    let node = Arc::new(temp_dir());
    let service = Service::start(node.path(), &[]);
    let guest = Guest::start_on(&node, Netns::of_process(pid), &[]);
    let web = Web { engine, guest };
    let red = web.await_card("red", "eth0");
    web.await_default_route(&red);
    let connect_blue = |link| {
        let blue = web.connect("blue", link);
        web.ping(&blue);
        web.ping(&red);
        web.await_default_route(if default == "blue" { &blue } else { &red });
        blue
    };
    connect_blue("eth1");
    web.disconnect("blue");
    web.await_default_route(&red);
    web.ping(&red);
    // The default route through the network that remains replaces that of the container's first one.
    let blue = connect_blue(second);
    web.disconnect("red");
    web.await_default_route(&blue);
    web.ping(&blue);
    web.disconnect("blue");
    await_value(&Vec::<String>::new(), || default_gateways(&web.guest));
    await_value(&Vec::<String>::new(), || web.guest.journal());
    service.stop();
}

/// Docker gives the default route to the network whose name comes first, and numbers links on.
#[test]
fn watch_follows_networks_of_docker() {
    guest_follows_networks_of(&Engine::docker(), "eth2", "blue");
}

/// Podman gives a default route to each network, with the same metric; the guest keeps its first one.
#[test]
fn watch_follows_networks_of_podman() {
    guest_follows_networks_of(&Engine::podman(), "eth1", "red");
}
