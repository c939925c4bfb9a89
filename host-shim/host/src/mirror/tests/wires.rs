//! Wires in network namespaces, judged by iproute2 and traffic.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::*;

fn ingress(link: &str) -> Value {
    json(&format!("tc -j filter show dev {link} ingress"))
}

fn has_ingress_qdisc(link: &str) -> bool {
    sh(&format!("tc qdisc show dev {link}")).contains("ingress")
}

#[test]
fn wire_redirects_both_ways_until_it_is_cut() {
    in_netns(&format!("{NET1}{TAP}"), |namespace| {
        let rtnl = Rtnetlink::open(namespace).unwrap();
        let (net1, tap) = (index("net1"), index("pbt9"));
        let wire = WireRecord::plan(&rtnl, net1).unwrap();
        wire.connect(&rtnl, tap).unwrap();
        assert!(wire.is_connected(&rtnl, tap).unwrap());
        for (from, to) in [("net1", "pbt9"), ("pbt9", "net1")] {
            let filters = ingress(from);
            let actions: Vec<_> = filters
                .as_array()
                .unwrap()
                .iter()
                .map(|f| &f["options"]["actions"][0])
                .collect();
            let action = actions.iter().find(|action| !action.is_null()).unwrap();
            assert_eq!(action["mirred_action"], json!("redirect"), "{filters}");
            assert_eq!(action["direction"], json!("egress"));
            assert_eq!(action["to_dev"], json!(to));
            assert_eq!(action["cookie"], json!("7061746368626179"));
        }
        let again = WireRecord::plan(&rtnl, net1).unwrap_err();
        assert_eq!((again.kind(), again.field()), (Kind::Exists, Some("link")));
        // The TAP ends first when a machine is killed.
        sh("ip link del pbt9");
        assert!(!wire.is_connected(&rtnl, tap).unwrap());
        for _ in 0..2 {
            wire.cut(&rtnl).unwrap();
            assert_eq!(ingress("net1"), json!([]));
            assert!(!has_ingress_qdisc("net1"));
        }
        sh("ip link del net1");
        wire.cut(&rtnl).unwrap();
    });
}

#[test]
fn wire_of_macvlan_reaches_tap() {
    let links = "ip link add up0 type veth peer up1; ip link set up0 up; ip link set up1 up; \
                 ip link add net1 link up0 address 02:00:00:00:00:11 type macvlan mode bridge; \
                 ip link set net1 up; ip addr add 10.1.0.2/24 dev net1;";
    in_netns(&format!("{links}{TAP}"), |namespace| {
        let card = super::read(namespace, &request("net1"), &[]).unwrap();
        assert_eq!(card.link.parts().mac.to_string(), "02:00:00:00:00:11");
        let rtnl = Rtnetlink::open(namespace).unwrap();
        let wire = WireRecord::plan(&rtnl, index("net1")).unwrap();
        wire.connect(&rtnl, index("pbt9")).unwrap();
        sh("ip link set pbt9 up");
        // The kernel looks for a neighbor by broadcasts, which macvlan passes on later.
        sh("ip addr add 10.9.0.9/24 dev up1; ping -c 1 -W 1 10.9.0.1 || true");
        let deadline = Instant::now() + Duration::from_secs(20);
        let passed = || json("tc -s -j filter show dev net1 ingress").to_string();
        while !passed().contains(r#""packets":"#) || passed().contains(r#""packets":0"#) {
            assert!(Instant::now() < deadline, "{}", passed());
        }
        wire.cut(&rtnl).unwrap();
        assert!(!has_ingress_qdisc("net1"));
    });
}

#[test]
fn wire_leaves_qdisc_of_others() {
    in_netns(
        &format!("{NET1}{TAP}tc qdisc add dev net1 clsact"),
        |namespace| {
            let rtnl = Rtnetlink::open(namespace).unwrap();
            let wire = WireRecord::plan(&rtnl, index("net1")).unwrap();
            wire.connect(&rtnl, index("pbt9")).unwrap();
            wire.cut(&rtnl).unwrap();
            assert_eq!(ingress("net1"), json!([]));
            assert!(sh("tc qdisc show dev net1").contains("clsact"));
        },
    );
}

#[test]
fn wire_leaves_filters_of_others() {
    let foreign = "tc filter add dev net1 ingress protocol ip pref 5 u32 match u8 0 0 flowid 1:1";
    in_netns(
        &format!("{NET1}{TAP}tc qdisc add dev net1 ingress; {foreign}"),
        |namespace| {
            let rtnl = Rtnetlink::open(namespace).unwrap();
            let refused = WireRecord::plan(&rtnl, index("net1")).unwrap_err();
            assert_eq!(refused.kind(), Kind::Exists);
            assert!(
                refused.to_string().contains("by another program"),
                "{refused}"
            );
            // As if the other program came later.
            sh("tc qdisc del dev net1 ingress");
            let wire = WireRecord::plan(&rtnl, index("net1")).unwrap();
            wire.connect(&rtnl, index("pbt9")).unwrap();
            sh(foreign);
            wire.cut(&rtnl).unwrap();
            assert!(has_ingress_qdisc("net1"));
            assert_eq!(ingress("net1")[0]["pref"], json!(5));
        },
    );
}
