use super::*;

#[test]
fn sysctl_numbers_and_names_agree() {
    for (number, sysctl) in (0..).zip(Sysctl::all()) {
        assert_eq!(sysctl.number(), number, "{}", sysctl.name());
        assert_eq!(Sysctl::try_from(number), Ok(sysctl));
        assert_eq!(sysctl.name().parse(), Ok(sysctl));
    }
    let (ipvs, others) = TABLE.split_at(IPVS);
    assert!(ipvs.is_sorted_by_key(|(name, ..)| name));
    assert!(others.is_sorted_by_key(|(name, ..)| name));
    assert!(Sysctl::try_from(46).is_err());
    // Numbers on the wire.
    assert_eq!("net.ipv4.vs.conntrack".parse(), Ok(Sysctl(5)));
    assert_eq!("sync_version".parse(), Ok(Sysctl(26)));
    for (sysctl, name) in [
        (Sysctl::IPVS_CONNTRACK, "net.ipv4.vs.conntrack"),
        (Sysctl::EXPIRE_NODEST_CONN, "net.ipv4.vs.expire_nodest_conn"),
        (Sysctl::IP_FORWARD, "net.ipv4.ip_forward"),
        (Sysctl::CONNTRACK_MAX, "net.netfilter.nf_conntrack_max"),
        (Sysctl::IP6_FORWARD, "net.ipv6.conf.all.forwarding"),
    ] {
        assert_eq!(name.parse(), Ok(sysctl));
        assert_eq!(sysctl.full_name(), name);
    }
    for name in [
        "",
        "../conntrack",
        "ip_forward",
        "net.ipv4.vs.net.ipv4.ip_forward",
        "net.ipv4.conf.all.rp_filter",
        "debug_level",
    ] {
        let error = name.parse::<Sysctl>().unwrap_err();
        assert!(error.to_string().contains("an IPVS setting"), "{error}");
    }
}

fn set(name: &str, value: &str) -> Result<Setting, InvalidValue> {
    let (sysctl, value) = (name.parse()?, value.parse()?);
    Setting::new(Reading { sysctl, value })
}

#[test]
fn setting_outside_its_range_is_refused() {
    for (name, value) in [
        ("conntrack", "1"),
        ("drop_entry", "3"),
        ("sync_ports", "8"),
        ("sync_threshold", "3 50"),
        ("sync_threshold", "3\t0\n"),
        ("amemthresh", "2147483647"),
        ("net.netfilter.nf_conntrack_max", "0"),
        ("net.netfilter.nf_conntrack_buckets", "4194304"),
        ("net.netfilter.nf_conntrack_udp_timeout", "1"),
    ] {
        assert!(set(name, value).is_ok(), "{name} {value}");
    }
    for (name, value, rule) in [
        ("conntrack", "2", "conntrack is 0 or 1"),
        ("conntrack", "0 1", "conntrack is 0 or 1"),
        ("conntrack", "-1", "conntrack is 0 or 1"),
        ("drop_entry", "4", "drop_entry is 0 to 3"),
        ("sync_ports", "3", "a power of two"),
        ("sync_ports", "0", "a power of two"),
        ("sync_threshold", "50", "THRESHOLD PERIOD"),
        ("sync_threshold", "50 3", "THRESHOLD below PERIOD"),
        ("sync_threshold", "-1 3", "THRESHOLD PERIOD"),
        ("amemthresh", "2147483648", "0 to 2147483647"),
        ("net.ipv4.ip_forward", "2", "net.ipv4.ip_forward is 0 or 1"),
        ("net.ipv6.conf.all.forwarding", "2", "0 or 1"),
        ("net.netfilter.nf_conntrack_max", "2147483648", "0 to"),
        (
            "net.netfilter.nf_conntrack_buckets",
            "513",
            "multiple of 512",
        ),
        ("net.netfilter.nf_conntrack_buckets", "0", "multiple of 512"),
        (
            "net.netfilter.nf_conntrack_udp_timeout",
            "0",
            "1 to 2147483",
        ),
        ("conntrack", "yes", "a whole number, or two"),
        ("conntrack", "", "a whole number, or two"),
        ("conntrack", "1 2 3", "a whole number, or two"),
    ] {
        let error = set(name, value).unwrap_err();
        assert!(error.to_string().contains(rule), "{name} {value}: {error}");
    }
}
