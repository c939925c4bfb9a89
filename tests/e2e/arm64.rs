//! A guest of another architecture, on the machine `virt`.

use std::process::Command;

use patchbay_tests::{AGENT_PID, Built, Guest, Machine, bin, run};

use crate::linux_6_12::plug_and_restore_work;
use crate::plug::guide_examples;

/// Rules of a restore.
const RULES: usize = 1000;

#[test]
fn guide_examples_and_restore_work_on_virt() {
    let guest = Guest::start(Machine::Virt);
    assert_eq!(guest.exec("uname -m").ok(), "aarch64\n");
    guide_examples(&guest, "01.0/00");
    plug_and_restore_work(&guest);
    restore_of_many_rules(&guest);
    // The agent's limits work there as well.
    let limits = guest.shell(&format!("grep -e Uid -e Seccomp: /proc/{AGENT_PID}/status"));
    let limits: Vec<_> = limits.ok().lines().map(str::to_owned).collect();
    assert_eq!(limits, ["Uid:\t96100\t96100\t96100\t96100", "Seccomp:\t2"]);
    let report = guest.patchbay(&["doctor", guest.id()]).ok();
    assert!(report.contains("machine    virt-"), "{report}");
    assert!(
        report.contains("verdict    cards can be plugged"),
        "{report}"
    );
}

fn restore_of_many_rules(guest: &Guest) {
    let server = |number: usize| {
        let (high, low) = (number / 250, number % 250 + 1);
        format!("-a -t 10.255.1.1:80 -r 10.2.{high}.{low}:80 -m -w 1\n")
    };
    let servers: String = (0..RULES).map(server).collect();
    let rules = format!("-A -t 10.255.1.1:80 -s rr\n{servers}");
    guest.restore(&["--replace"], &rules).ok();
    let listed = guest.exec("ipvsadm -Sn").ok();
    let sorted = |text: &str| {
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    };
    assert_eq!(sorted(&listed), sorted(&rules));
}

/// The image determines the machine, so that no guest starts that can't boot.
#[test]
fn start_image_of_other_architecture_is_refused() {
    let guest = Guest::start(Machine::Q35);
    let image = Built::ImageArm64.dir();
    let mut start = Command::new(bin("patchbay-sandbox"));
    start.env("PATCHBAY_RUN_DIR", guest.run_dir());
    start.args(["start", "other", "--machine", "q35", "--image"]);
    let done = run(start.arg(&image), "");
    assert_eq!(done.status, 2, "{done}");
    let expected = format!(
        "patchbay-sandbox: --machine q35 needs an image for amd64, that in {} is for arm64: build one with \
         `patchbay-sandbox build --arch amd64`, or choose another machine\n",
        image.display()
    );
    assert_eq!(done.err, expected);
    let programs = bin("patchbay").parent().unwrap().display().to_string();
    let mut build = Command::new(bin("patchbay-sandbox"));
    let folder = guest.file("image");
    build.args([
        "build",
        "--arch",
        "arm64",
        "--bin-dir",
        &programs,
        "--image",
    ]);
    let done = run(build.arg(&folder), "");
    assert_eq!(done.status, 2, "{done}");
    assert!(done.err.contains("is not a program for arm64"), "{done}");
}
