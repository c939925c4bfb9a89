//! Many pods of a node at once, and pods of a real runtime.

use std::sync::Arc;
use std::thread;

use patchbay_tests::{Cni, Containerd, Guest, Netns, Pod, temp_dir};
use serde_json::{Value, json};

/// Pods that start at the same time.
const PODS: usize = 30;

/// Returns the namespace and the attachment of a pod that is starting or has no machine.
fn pod_without_machine(number: usize) -> (Netns, Pod) {
    let netns = Netns::new();
    let pod = Pod {
        container: format!("pod-{number}"),
        netns: format!("/run/netns/{}", netns.name()),
        ifname: "net1".to_owned(),
        capabilities: Value::Null,
    };
    (netns, pod)
}

/// Two of the pods have machines, which reach each other.
#[test]
fn thirty_pods_at_once_get_network() {
    let node = Arc::new(temp_dir());
    let guests = [(); 2].map(|()| Guest::start_on(&node, Netns::new(), &[]));
    let cni = Cni::new(node.path());
    let plugins = json!([cni.bridge(&["10.88.0.0/24"]), Cni::patchbay()]);
    let (_netns, mut pods): (Vec<_>, Vec<_>) =
        (guests.len()..PODS).map(pod_without_machine).unzip();
    pods.extend(guests.iter().map(|guest| Pod::of(guest, "net1")));
    let all = |command: &str| {
        thread::scope(|scope| {
            let (cni, plugins) = (&cni, &plugins);
            let run = |pod| scope.spawn(move || cni.run(command, plugins, pod));
            let running: Vec<_> = pods.iter().map(run).collect();
            let done = running.into_iter().map(|done| done.join().unwrap().ok());
            done.collect::<Vec<_>>()
        })
    };
    let added = all("add");
    let address = |number: usize| -> String {
        let result: Value = serde_json::from_str(&added[number]).unwrap();
        let address = result["ips"][0]["address"].as_str().unwrap();
        address.split_once('/').unwrap().0.to_owned()
    };
    for (guest, other) in [(0, PODS - 1), (1, PODS - 2), (0, 0)] {
        let ping = format!("ping -c 2 -W 5 {}", address(other));
        guests[guest].exec(&ping).ok();
    }
    all("del");
    for guest in &guests {
        assert_eq!(guest.journal(), Vec::<String>::new());
        assert_eq!(guest.netns().links(), Vec::<String>::new());
    }
}

/// A network of the pod's start, which containerd adds, and one that comes while the machine runs.
#[test]
fn sandbox_of_containerd_gets_network() {
    let node = Arc::new(temp_dir());
    let cni = Cni::new(node.path());
    let containerd = Containerd::start();
    let plugins = json!([cni.bridge(&["10.88.0.0/24"]), Cni::patchbay()]);
    let (container, pid) = containerd.run(&cni, "pod-1", &plugins);
    let guest = Guest::start_on(&node, Netns::of_process(pid), &[]);
    assert_eq!(guest.netns().links(), ["eth0"]);
    let pod = Pod {
        container: Containerd::runtime_id(&container),
        ..Pod::of(&guest, "net1")
    };
    let mut bridge = cni.bridge(&["10.89.0.0/24"]);
    bridge["bridge"] = json!("br2");
    let plugins = json!([bridge, Cni::patchbay()]);
    cni.run("add", &plugins, &pod).ok();
    guest.exec("ping -c 2 -W 5 10.89.0.1").ok();
    cni.run("check", &plugins, &pod).ok();
    assert_eq!(guest.journal(), ["net1.json"]);
    // A runtime stops the machine first.
    guest.sandbox(&["stop", guest.id()]).ok();
    containerd.stop(container);
    cni.run("del", &plugins, &pod).ok();
    assert_eq!(guest.journal(), Vec::<String>::new());
    let leases = cni.leases();
    assert_eq!(leases, [""; 0]);
}
