//! Settings of the guest's kernel as text and as JSON.

use patchbay_types::ipvs::Reading;
use serde_json::{Value, json};

/// Width that fits every terminal.
const WIDTH: usize = 80;
const INDENT: &str = "    ";

/// Formats a setting of `sysctl list`.
pub(crate) fn setting(reading: &Reading) -> Value {
    json!({
        "name": reading.sysctl.name(),
        "value": reading.value.to_string(),
        "range": reading.sysctl.legal(),
        "purpose": reading.sysctl.purpose(),
    })
}

/// Renders each setting as sysctl(8) does, with its purpose and range below: the names are too long for
/// a table.
pub(crate) fn text(readings: &[Reading]) -> String {
    let lines = readings.iter().map(|reading| {
        let sysctl = reading.sysctl;
        let about = format!("{} ({})", sysctl.purpose(), sysctl.legal());
        let about = wrapped(&about).join("\n");
        format!("{} = {}\n{about}\n", sysctl.name(), reading.value)
    });
    lines.collect()
}

/// Splits a text into indented lines of at most [`WIDTH`] characters.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(format!("{INDENT}{word}")),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use patchbay_types::ipvs::{Sysctl, SysctlValue};

    use super::*;

    #[test]
    fn text_fits_80_columns() {
        let reading = |sysctl| Reading {
            sysctl,
            value: SysctlValue::One(i64::from(i32::MAX)),
        };
        let readings: Vec<_> = Sysctl::all().map(reading).collect();
        let text = text(&readings);
        assert!(
            text.lines().all(|line| line.chars().count() <= WIDTH),
            "{text}"
        );
        let last = "net.netfilter.nf_conntrack_udp_timeout_stream = 2147483647\n    \
                    seconds until a flow of UDP with answers expires (1 to 2147483)\n";
        assert!(text.ends_with(last), "{text}");
    }
}
