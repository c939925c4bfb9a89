//! A guest with Debian, where udevd and networkd handle each card, too.

use patchbay_tests::{Card, Guest};

#[test]
fn plug_beside_udevd_and_networkd_keeps_configuration() {
    let guest = Guest::start_debian(&[]);
    let card = Card::named("eth-test").address("172.16.0.3/16").queues(2);
    guest.plug(&card).ok();
    assert_eq!(guest.networkd_state("eth-test"), "unmanaged");
    let link = &guest.ip("addr show dev eth-test")[0];
    assert!(link["flags"].as_array().unwrap().contains(&"UP".into()));
    let address = &link["addr_info"][0];
    assert_eq!(
        (&address["local"], &address["prefixlen"]),
        (&"172.16.0.3".into(), &16.into())
    );
    guest.netns().ip("addr add 172.16.0.1/16 dev tap-test").ok();
    guest.netns().exec("ping -c 1 -W 5 172.16.0.3").ok();
    guest.unplug(&card).assert_null();
    assert_eq!(guest.netns().links(), Vec::<String>::new());
}
