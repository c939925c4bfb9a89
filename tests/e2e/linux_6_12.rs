//! Linux 6.12 in the guest, which deletes tracked connections by a filter where 6.1 can't.

use patchbay_tests::{Card, Guest, Machine, linux_6_12};

fn start() -> Guest {
    let image = linux_6_12();
    let guest = Guest::start_with(Machine::Q35, &image.each_ref().map(String::as_str));
    let release = guest.exec("uname -r").ok();
    assert!(release.starts_with("6.12."), "{release}");
    guest
}

/// Counts netlink messages that delete flows by a probe in the kernel.
const COUNT_MESSAGES: &str = "mount -t tracefs none /sys/kernel/tracing && cd /sys/kernel/tracing && \
    echo p:delete ctnetlink_del_conntrack >kprobe_events && echo 1 >events/kprobes/delete/enable";

fn messages(guest: &Guest) -> usize {
    let counted = guest.exec("cat /sys/kernel/tracing/kprobe_profile").ok();
    counted.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Counts all flows and those to this address by conntrack.
fn tracked(guest: &Guest, address: &str) -> (usize, usize) {
    let all = guest.exec("conntrack -C").ok().trim().parse().unwrap();
    let script = format!("conntrack -L --orig-dst {address} 2>/dev/null");
    (all, guest.shell(&script).ok().lines().count())
}

#[test]
fn commands_work_on_linux_6_12() {
    let guest = start();
    cleanup_sends_one_filtered_message(&guest);
    plug_and_restore_work(&guest);
}

fn cleanup_sends_one_filtered_message(guest: &Guest) {
    // Loads the modules of conntrack, which the guest can't load on demand.
    guest.cleanup("--orig-dst 10.250.0.2").ok();
    guest.shell(COUNT_MESSAGES).ok();
    let fill = |count: usize, address: &str| {
        let words = format!("patchbay-baseline conntrack-fill {count} {address}");
        guest.exec(&words).ok();
    };
    fill(300, "10.250.0.1");
    // The second count exceeds the limit up to which patchbay scans the table first.
    for (round, count) in [(1, 200), (2, 1000)] {
        fill(count, "10.250.0.2");
        assert_eq!(tracked(guest, "10.250.0.2"), (300 + count, count));
        let output = guest.cleanup("--orig-dst 10.250.0.2").ok();
        assert_eq!(output, format!("{count} flow entries have been deleted.\n"));
        assert_eq!(tracked(guest, "10.250.0.2"), (300, 0));
        assert_eq!(messages(guest), round);
    }
    let output = guest.cleanup("--orig-dst 10.250.0.2").ok();
    assert_eq!(output, "0 flow entries have been deleted.\n");
    // Proves that the probe works: conntrack sends one message per flow.
    guest.shell("conntrack -D --orig-dst 10.250.0.1").ok();
    assert_eq!(messages(guest), 2 + 300);
}

fn card() -> Card {
    Card::named("eth0").address("172.31.2.3/24").queues(2)
}

/// Sorted before the comparison, since the kernel's order differs.
const RULES: &str = "\
-A -t 10.255.0.1:80 -s rr
-a -t 10.255.0.1:80 -r 10.1.0.1:8080 -m -w 3
-A -u 10.255.0.1:53 -s wlc -p 300
-a -u 10.255.0.1:53 -r 10.1.0.2:53 -g -w 1
-A -t [2001:db8::1]:443 -s mh -b mh-fallback
-a -t [2001:db8::1]:443 -r [2001:db8::2]:443 -i -w 2 --tun-type ipip
-A -f 7 -s sh
";

fn sorted(rules: &str) -> Vec<&str> {
    let mut rules: Vec<_> = rules.lines().collect();
    rules.sort_unstable();
    rules
}

pub(crate) fn plug_and_restore_work(guest: &Guest) {
    guest.plug(&card()).ok();
    guest.netns().ip("addr add 172.31.2.1/24 dev tap0").ok();
    guest.netns().exec("ping -c 3 -W 5 172.31.2.3").ok();
    guest.exec("ping -c 3 -W 5 172.31.2.1").ok();
    guest.restore(&[], RULES).ok();
    assert_eq!(sorted(&guest.exec("ipvsadm -Sn").ok()), sorted(RULES));
    guest.unplug(&card()).ok();
    assert_eq!(guest.kata_network("list-ifaces", "").ok(), "null\n");
}
