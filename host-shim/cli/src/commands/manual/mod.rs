//! `man`: a manual page for each command.

mod roff;

use std::fs;
use std::path::Path;

use clap::{Arg, Command, CommandFactory};
use patchbay_types::failure::Failure;

use crate::args::examples::{self, ENVIRONMENT, EXIT_STATUS, FILES};
use crate::args::{CommandLine, GLOBAL_HEADING};
use roff::Roff;

/// Pages of the other programs.
const SEE_ALSO: &str = "patchbay-agent(8), patchbay-cni(8), patchbay-sandbox(8)";

/// Writes the pages to `dir`, which is created if it doesn't exist.
pub(super) fn write_pages(dir: &Path) -> Result<String, Failure> {
    let pages = pages();
    let write = || {
        fs::create_dir_all(dir)?;
        pages
            .iter()
            .try_for_each(|(name, text)| fs::write(dir.join(format!("{name}.1")), text))
    };
    write().map(|()| String::new()).map_err(|error| {
        let message = format!("could not write the manual pages to {}", dir.display());
        Failure::of_io(message, &error)
    })
}

/// Returns the pages by name.
fn pages() -> Vec<(String, String)> {
    let mut root = CommandLine::command();
    root.build();
    let mut pages = Vec::new();
    collect(&root, &mut Vec::new(), &mut pages);
    pages
}

/// Adds the pages of a command and those below it.
fn collect(command: &Command, path: &mut Vec<String>, pages: &mut Vec<(String, String)>) {
    pages.push((page_name(path), page(command, path)));
    for sub in command
        .get_subcommands()
        .filter(|sub| sub.get_name() != "help")
    {
        path.push(sub.get_name().to_owned());
        collect(sub, path, pages);
        path.pop();
    }
}

fn page_name(path: &[String]) -> String {
    let mut words = vec!["patchbay".to_owned()];
    words.extend_from_slice(path);
    words.join("-")
}

fn page(command: &Command, path: &[String]) -> String {
    let name = page_name(path);
    let about = command
        .get_about()
        .map(ToString::to_string)
        .unwrap_or_default();
    let mut roff = Roff::titled(&name, &about);
    roff.section("SYNOPSIS");
    let usage = command.clone().render_usage().to_string();
    roff.bold(usage.trim_start_matches("Usage: "));
    roff.section("DESCRIPTION");
    roff.text(&about);
    if let Some(details) = command.get_after_help() {
        roff.verbatim(&details.to_string());
    }
    commands(&mut roff, command);
    options(&mut roff, command, path);
    let examples = examples::of(path);
    if !examples.is_empty() {
        roff.section("EXAMPLES");
        roff.verbatim(&examples.join("\n"));
    }
    if path.is_empty() {
        for (title, rows) in [
            ("EXIT STATUS", EXIT_STATUS),
            ("ENVIRONMENT", ENVIRONMENT),
            ("FILES", FILES),
        ] {
            roff.section(title);
            for (key, meaning) in rows {
                roff.entry(key, meaning);
            }
        }
    }
    roff.section("SEE ALSO");
    if path.is_empty() {
        roff.text(SEE_ALSO);
    } else {
        roff.text(&format!("{}(1)", page_name(&path[..path.len() - 1])));
    }
    roff.finish()
}

fn commands(roff: &mut Roff, command: &Command) {
    let subs = command
        .get_subcommands()
        .filter(|sub| sub.get_name() != "help");
    let subs: Vec<_> = subs.collect();
    if subs.is_empty() {
        return;
    }
    roff.section("COMMANDS");
    for sub in subs {
        let about = sub.get_about().map(ToString::to_string).unwrap_or_default();
        roff.entry(sub.get_name(), &about);
    }
}

/// Describes arguments and options; the global ones on the page of the program only.
fn options(roff: &mut Roff, command: &Command, path: &[String]) {
    let is_global = |arg: &Arg| arg.get_help_heading() == Some(GLOBAL_HEADING);
    let shown = command.get_arguments().filter(|arg| !arg.is_hide_set());
    let (global, own): (Vec<_>, Vec<_>) = shown.partition(|arg| is_global(arg));
    roff.section("OPTIONS");
    for arg in own
        .into_iter()
        .chain(global.into_iter().filter(|_| path.is_empty()))
    {
        roff.entry(&spelling(arg), &explanation(arg));
    }
    if !path.is_empty() {
        roff.paragraph();
        roff.text("Options of every command are in patchbay(1).");
    }
}

fn spelling(arg: &Arg) -> String {
    let values: Vec<_> = arg.get_value_names().into_iter().flatten().collect();
    let values = values
        .iter()
        .map(|name| name.as_str())
        .collect::<Vec<_>>()
        .join(" ");
    let takes = arg.get_action().takes_values();
    match (arg.get_short(), arg.get_long()) {
        (None, None) => values,
        (short, long) => {
            let short = short.map(|letter| format!("-{letter}"));
            let long = long.map(|word| format!("--{word}"));
            let both: Vec<_> = short.into_iter().chain(long).collect();
            let both = both.join(", ");
            if takes {
                format!("{both} {values}")
            } else {
                both
            }
        }
    }
}

fn explanation(arg: &Arg) -> String {
    let mut text = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let defaults: Vec<_> = arg
        .get_default_values()
        .iter()
        .map(|value| value.to_string_lossy())
        .collect();
    if !defaults.is_empty() && arg.get_action().takes_values() {
        text = format!("{text} [default: {}]", defaults.join(" "));
    }
    let values: Vec<_> = arg
        .get_possible_values()
        .iter()
        .map(|value| value.get_name().to_owned())
        .collect();
    if !values.is_empty() && arg.get_action().takes_values() {
        text = format!("{text} [possible values: {}]", values.join(", "));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const TREE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/man");

    #[test]
    fn pages_of_the_tree_are_current() {
        let pages = pages();
        for (name, text) in &pages {
            let kept = fs::read_to_string(format!("{TREE}/{name}.1")).unwrap_or_default();
            assert!(kept == *text, "docs/man/{name}.1 differs: run `make man`");
        }
        let kept = fs::read_dir(TREE).unwrap();
        let kept = kept.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let kept = kept.filter_map(|file| file.strip_suffix(".1").map(str::to_owned));
        for page in kept {
            assert!(
                pages.iter().any(|(name, _)| *name == page),
                "docs/man/{page}.1 is of no command"
            );
        }
    }

    #[test]
    fn pages_of_the_tree_have_no_findings_of_mandoc() {
        let pages = fs::read_dir(TREE)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let done = Command::new("mandoc")
            .arg("-Tlint")
            .args(pages)
            .output()
            .unwrap();
        let findings = String::from_utf8_lossy(&done.stdout);
        assert_eq!(findings, "");
    }

    #[test]
    fn pages_of_the_programs_have_their_sections() {
        for program in [
            "patchbay.1",
            "patchbay-agent.8",
            "patchbay-cni.8",
            "patchbay-qemu.8",
            "patchbay-sandbox.8",
        ] {
            let page = fs::read_to_string(format!("{TREE}/{program}")).unwrap();
            for section in [
                "SYNOPSIS",
                "EXAMPLES",
                "EXIT STATUS",
                "FILES",
                "ENVIRONMENT",
                "SEE ALSO",
            ] {
                let heading = format!("\n.SH {section}\n");
                assert!(
                    page.contains(&heading) || page.contains(&heading.replace(".SH", ".Sh")),
                    "{program}: {section}"
                );
            }
        }
    }
}
