//! `docs/own-vm.md`, as a reader would follow it.

use std::fs;
use std::path::Path;
use std::process::Command;

use patchbay_tests::{Done, Netns, bin, run, temp_dir};

const PAGE: &str = include_str!("../../docs/own-vm.md");
/// First lines of the blocks of which a reader takes one.
const ALTERNATIVES: [(&str, bool); 2] = [
    ("# with /dev/vhost-vsock\n", true),
    ("# without /dev/vhost-vsock\n", false),
];

/// Returns the blocks of a page that this machine runs.
pub(crate) fn blocks(page: &'static str) -> Vec<&'static str> {
    let has_vsock = Path::new("/dev/vhost-vsock").exists();
    let is_chosen = |block: &&str| {
        let needs = ALTERNATIVES
            .iter()
            .find(|(start, _)| block.starts_with(start));
        needs.is_none_or(|(_, needed)| *needed == has_vsock)
    };
    let blocks = page.split("```sh\n").skip(1);
    let blocks: Vec<_> = blocks
        .map(|rest| rest.split_once("```").unwrap().0)
        .collect();
    for (start, _) in ALTERNATIVES {
        let found = blocks.iter().filter(|block| block.starts_with(start));
        assert_eq!(found.count(), 1, "{start}");
    }
    blocks.into_iter().filter(is_chosen).collect()
}

/// Runs blocks in a shell whose processes all end with it.
pub(crate) fn shell(command: &mut Command, folder: &Path, blocks: &[&str]) -> Done {
    let path = std::env::var("PATH").unwrap();
    let programs = bin("patchbay");
    let path = format!("{}:{path}", programs.parent().unwrap().display());
    command.current_dir(folder).env("PATH", path).args([
        "unshare",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "bash",
        "-ec",
    ]);
    // A shell is replaced by its last command, which would not wait for the processes of the namespace that end.
    let script = [blocks, &["true"]].concat();
    run(command.arg(script.join("\n")), "")
}

#[test]
fn page_leads_from_packages_to_a_ping() {
    let blocks = blocks(PAGE);
    let (build, rest) = blocks.split_first().unwrap();
    let parent = temp_dir();
    // Packages come from outside; everything else is in a namespace.
    shell(&mut Command::new("env"), parent.path(), &[build]).ok();
    let folder = parent.path().join("own-vm");
    let netns = Netns::new();
    let mut enter = Command::new("ip");
    enter.args(["netns", "exec", netns.name()]);
    let done = shell(&mut enter, &folder, rest);
    let console = || fs::read_to_string(folder.join("console.log")).unwrap_or_default();
    assert_eq!(done.status, 0, "{done}\n{}", console());
    let out = &done.out;
    assert!(out.contains("verdict    cards can be plugged\n"), "{out}");
    assert!(out.contains("3 packets transmitted, 3 received"), "{out}");
    assert_eq!(netns.links(), Vec::<String>::new());
}
