//! Lists of tables of both families, which the agent reads in different ways: socket options, `/proc`,
//! netlink.

use patchbay_tests::{Guest, Machine, patchbay, run};

/// Every way of forwarding, real servers of the other family, a mark of both families.
const IPV6: &str = "\
-A -t [2001:db8::1]:80 -s rr
-a -t [2001:db8::1]:80 -r [2001:db8::2]:8080 -m -w 70000 -x 9 -y 5
-a -t [2001:db8::1]:80 -r [2001:db8::3]:80 -g -w 0
-a -t [2001:db8::1]:80 -r [::1]:80 -m -w 3
-A -u [2001:db8::1]:53 -s sh -b sh-port -o
-a -u [2001:db8::1]:53 -r [2001:db8::2]:53 -m -w 1
-a -u [2001:db8::1]:53 -r 10.0.0.4:53 -i -w 2 --tun-type gue --tun-port 6080 --tun-nocsum
-A -t [2001:db8::2]:443 -s wlc -p 60 -M 64
-a -t [2001:db8::2]:443 -r 10.0.0.5:443 -i -w 1 --tun-type gre --tun-csum
-a -t [2001:db8::2]:443 -r [2001:db8::6]:443 -i -w 1
-A --sctp-service [2001:db8::3]:99 -s rr
-A -t [2001:db8::4]:0 -s wrr -p 7 --pe sip
-a -t [2001:db8::4]:0 -r [2001:db8::7]:0 -g -w 9
-A -f 7 -6 -s rr
-a -f 7 -6 -r [2001:db8::8]:0 -g -w 4
-A -f 7 -s rr
-a -f 7 -r 10.0.0.8:0 -g -w 5
";

const IPV4: &str = "\
-A -t 10.0.0.1:80 -s rr
-a -t 10.0.0.1:80 -r 10.0.0.2:8080 -m -w 70000
-a -t 10.0.0.1:80 -r 127.0.0.1:80 -m -w 1
-A -u 10.0.0.1:53 -s wlc
-a -u 10.0.0.1:53 -r 10.0.0.3:53 -g -w 0
-a -u 10.0.0.1:53 -r 10.0.0.4:53 -i -w 2 --tun-type gue --tun-port 6080 --tun-nocsum
-a -u 10.0.0.1:53 -r [2001:db8::9]:53 -i -w 2
";

/// Returns IPv4 services, beside which IPv6 ones are few.
fn many_ipv4() -> String {
    let lines = |port| {
        format!("-A -t 10.0.1.1:{port} -s rr\n-a -t 10.0.1.1:{port} -r 10.0.1.2:{port} -m\n")
    };
    (1..=60).map(lines).collect()
}

/// Returns an IPv6 service whose servers the kernel lists in several messages.
fn many_servers() -> String {
    let server = |n| format!("-a -t [2001:db8::5]:80 -r [2001:db8:1::{n:x}]:80 -m -w {n} -x {n}\n");
    let servers: String = (1..=200).map(server).collect();
    format!("-A -t [2001:db8::5]:80 -s rr\n{servers}")
}

#[test]
fn lists_of_both_families_match_ipvsadm() {
    let guest = Guest::start(Machine::Q35);
    let tables = [
        IPV6.to_owned(),
        format!("{IPV6}{}", many_servers()),
        format!("{IPV4}{IPV6}"),
        format!("{IPV6}{}", many_ipv4()),
        IPV4.to_owned(),
    ];
    for rules in tables {
        guest.restore(&["--replace"], &rules).ok();
        for list in [
            "-Ln",
            "-Sn",
            "-Ln --nosort",
            "-Ln --tun-info",
            "-Ln --thresholds",
        ] {
            let expected = guest.exec(&format!("ipvsadm {list}")).ok();
            assert_eq!(guest.ipvsadm(list).ok(), expected, "{list} of {rules}");
        }
    }
}

#[test]
fn save_of_ipv6_keeps_thresholds() {
    let guest = Guest::start(Machine::Q35);
    guest.restore(&[], IPV6).ok();
    let save = || {
        let words = ["ipvs", guest.id(), "-S", "-n"];
        run(&mut patchbay(guest.run_dir(), &words), "").ok()
    };
    let saved = save();
    assert!(
        saved.contains("-r [2001:db8::2]:8080 -m -w 70000 -x 9 -y 5"),
        "{saved}"
    );
    guest.restore(&["--replace"], IPV6).ok();
    assert_eq!(save(), saved);
}
