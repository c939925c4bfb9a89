//! Commands of the documentation, as a reader would copy them.

use std::fs;
use std::process::Command;

use patchbay_tests::{bin, run, temp_dir};

const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

fn page(path: &str) -> String {
    fs::read_to_string(format!("{REPOSITORY}/{path}")).unwrap()
}

/// Runs the first block of the page; its build is that under test.
#[test]
fn first_block_of_the_image_page_works_as_printed() {
    let page = page("guest-image/README.md");
    let lines = page.lines().skip_while(|line| !line.starts_with("    "));
    let block: Vec<&str> = lines
        .take_while(|line| line.starts_with("    "))
        .map(str::trim_start)
        .collect();
    assert!(block[0].starts_with("make image "), "{block:?}");
    let dir = temp_dir();
    let mut shell = Command::new("bash");
    shell
        .current_dir(REPOSITORY)
        .env("PATCHBAY_RUN_DIR", dir.path())
        .args(["-ec", &block[1..].join("\n")]);
    let shown = run(&mut shell, "").ok();
    assert!(shown.contains("lo: <LOOPBACK,UP,LOWER_UP>"), "{shown}");
    assert!(!dir.path().join("demo").exists(), "{shown}");
}

/// Returns the commands of the blocks of a page: what precedes an explanation, one of alternatives,
/// without optional parts and redirections.
fn commands(page: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut is_block = false;
    for line in page.lines() {
        if line.starts_with("```") {
            is_block = !is_block;
        }
        let line = line.trim_start_matches("$ ");
        if !is_block || !line.starts_with("patchbay ") || line.contains("...") {
            continue;
        }
        // Alignment follows names of commands, explanations follow arguments.
        let (start, rest) = line.split_at(line.find("ID").or(line.find("FILE")).unwrap_or(0));
        let rest = rest.split("  ").next().unwrap_or_default();
        let whole = [start, rest].concat();
        let plain = whole.split(" [").next().unwrap_or_default();
        let plain = plain.split(" < ").next().unwrap_or_default();
        found.extend(plain.split("; ").map(str::to_owned));
    }
    found
}

/// The command line of each is accepted: a command with an unknown word ends with a usage error.
#[test]
fn commands_of_the_pages_have_valid_words() {
    let dir = temp_dir();
    let mut count = 0;
    for path in [
        "README.md",
        "docs/document.md",
        "docs/ipvs.md",
        "docs/kata.md",
    ] {
        for command in commands(&page(path)) {
            let line = command
                .replace("FILE|-", "-")
                .replace("\"WORDS\"", "-L")
                .replace("SHELL", "bash")
                .replace("NAME VALUE", "expire_nodest_conn 1")
                .replace("DIR", dir.path().join("man").to_str().unwrap());
            let mut command = Command::new(bin("patchbay"));
            command
                .env("PATCHBAY_RUN_DIR", dir.path())
                .env("PATCHBAY_KATA_ROOTS", dir.path())
                .args(line.split_whitespace().skip(1));
            let done = run(&mut command, "{}");
            assert!(!done.err.contains("Usage: "), "{path}: {line}: {done}");
            count += 1;
        }
    }
    assert!(count > 30, "{count}");
}
