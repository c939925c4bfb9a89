//! The table, as Markdown.

use std::fmt::Write as _;

use crate::row::{Bound, Comparison, Row, Size, Verdict};
use crate::stats::Samples;

const HEAD: &str = "\
| work | ours, ms [spread] | compared with, ms [spread] | ratio | required | floor, ms [spread] | ours/floor | required | verdict |
|---|---|---|---|---|---|---|---|---|
";

/// Returns both tables; rows that fall short are marked.
pub(crate) fn render(rows: &[Row], sizes: &[Size], notes: &[String]) -> String {
    let mut text = String::from("# Measured by `make bench`\n\n");
    for note in notes {
        writeln!(text, "{note}\n").unwrap();
    }
    text += HEAD;
    for row in rows {
        text += &line(row);
    }
    if !sizes.is_empty() {
        text += "\n| size | measured | at most | verdict |\n|---|---|---|---|\n";
    }
    for size in sizes {
        let Size {
            what,
            value,
            limit,
            unit,
        } = size;
        let verdict = word(size.verdict());
        writeln!(
            text,
            "| {what} | {value:.2} {unit} | {limit} {unit} | {verdict} |"
        )
        .unwrap();
    }
    text
}

fn line(row: &Row) -> String {
    let [with, ratio, required] = peer_cells(row.peer.as_ref(), &row.ours);
    let [floor, over, allowed] = floor_cells(row.floor.as_ref(), &row.ours);
    format!(
        "| {} | {} | {with} | {ratio} | {required} | {floor} | {over} | {allowed} | {} |\n",
        row.work,
        spread(&row.ours),
        word(row.verdict())
    )
}

fn spread(samples: &Samples) -> String {
    let (median, least, most) = (samples.median(), samples.least(), samples.most());
    if median < 100.0 {
        format!("{median:.1} [{least:.1}–{most:.1}]")
    } else {
        format!("{median:.0} [{least:.0}–{most:.0}]")
    }
}

fn required(bound: Bound) -> String {
    match bound {
        Bound::Faster(least) => format!("≥ {least} ×"),
        Bound::Within(most) => format!("≤ {most} ×"),
        Bound::Open => "–".to_owned(),
    }
}

const NOTHING: &str = "–";

fn peer_cells(peer: Option<&Comparison>, ours: &Samples) -> [String; 3] {
    let Some(peer) = peer else {
        return [NOTHING; 3].map(str::to_owned);
    };
    [
        format!("{}: {}", peer.with, spread(&peer.took)),
        format!("{:.2} ×", peer.ratio(ours)),
        required(peer.bound),
    ]
}

fn floor_cells(floor: Option<&Comparison>, ours: &Samples) -> [String; 3] {
    let Some(floor) = floor else {
        return [NOTHING; 3].map(str::to_owned);
    };
    [
        format!("{}: {}", floor.with, spread(&floor.took)),
        format!("{:.2} ×", ours.median() / floor.took.median()),
        required(floor.bound),
    ]
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Reached => "reached",
        Verdict::Short => "**falls short**",
        Verdict::Open => "–",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn took(millis: &[u64]) -> Samples {
        Samples::new(millis.iter().map(|millis| Duration::from_millis(*millis)))
    }

    fn row(bound: Bound) -> Row {
        Row {
            work: "restore",
            ours: took(&[10, 12, 14]),
            peer: Some(Comparison {
                with: "ipvsadm",
                took: took(&[120, 110, 300]),
                bound,
            }),
            floor: Some(Comparison {
                with: "kernel",
                took: took(&[8]),
                bound: Bound::Within(1.5),
            }),
        }
    }

    #[test]
    fn row_shows_comparisons_and_verdict() {
        assert_eq!(
            line(&row(Bound::Faster(10.0))),
            "| restore | 12.0 [10.0–14.0] | ipvsadm: 120 [110–300] | 10.00 × | ≥ 10 × \
             | kernel: 8.0 [8.0–8.0] | 1.50 × | ≤ 1.5 × | reached |\n"
        );
    }

    #[test]
    fn short_row_is_kept_and_marked() {
        let text = render(&[row(Bound::Faster(11.0))], &[], &[]);
        assert!(text.contains("| restore |"), "{text}");
        assert!(text.contains("| **falls short** |"), "{text}");
        assert_eq!(row(Bound::Within(0.09)).verdict(), Verdict::Short);
    }

    #[test]
    fn row_without_bounds_has_no_verdict() {
        let bare = Row {
            peer: None,
            floor: None,
            ..row(Bound::Open)
        };
        assert_eq!(
            line(&bare),
            "| restore | 12.0 [10.0–14.0] | – | – | – | – | – | – | – |\n"
        );
    }

    #[test]
    fn sizes_have_limits() {
        let size = Size {
            what: "agent".to_owned(),
            value: 2.6,
            limit: 2.5,
            unit: "MiB",
        };
        let text = render(&[], &[size], &["A note.".to_owned()]);
        assert!(
            text.contains("| agent | 2.60 MiB | 2.5 MiB | **falls short** |"),
            "{text}"
        );
        assert!(text.contains("\nA note.\n"), "{text}");
    }
}
