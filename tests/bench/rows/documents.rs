//! A whole network as one document, beside the single commands.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use patchbay_tests::{Card, Machine};

use crate::bed::Bed;
use crate::plan::Plan;
use crate::row::{Bound, Comparison, Row};
use crate::rules::rules;
use crate::stats::Samples;

const CARDS: usize = 5;
const ROUTES: usize = 1000;
const RULES: u32 = 20_000;

/// Files of the same network.
struct Files {
    document: PathBuf,
    cards: Vec<PathBuf>,
    routes: PathBuf,
    rules: PathBuf,
}

impl Files {
    fn new(folder: &Path) -> Self {
        let write = |name: &str, text: &str| {
            let path = folder.join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let card = |number| {
            Card::numbered(number)
                .address(&format!("172.16.{number}.3/24"))
                .json()
        };
        let cards: Vec<String> = (1..=CARDS).map(card).collect();
        let route = |number: usize| {
            let (third, device) = (number % 250, number % CARDS + 1);
            format!(
                r#"{{"dest": "20.{}.{third}.0/24", "gateway": "172.16.{device}.1", "device": "eth{device}"}}"#,
                number / 250
            )
        };
        let routes = (0..ROUTES).map(route).collect::<Vec<_>>().join(",\n  ");
        let rules = rules(RULES, 16);
        let mut document = format!(
            "interfaces: [{}]\nroutes: [\n  {routes}]\nipvs: |\n",
            cards.join(", ")
        );
        for rule in rules.lines() {
            writeln!(document, "  {rule}").unwrap();
        }
        let card_files = cards.iter().enumerate();
        Self {
            document: write("network.yaml", &document),
            cards: card_files
                .map(|(number, text)| write(&format!("card{number}.json"), text))
                .collect(),
            routes: write("routes.json", &format!("[{routes}]")),
            rules: write("rules", &rules),
        }
    }

    /// Times the single commands, one after another.
    fn singly(&self, bed: &Bed) -> Duration {
        let id = bed.0.id();
        let add = |card: &PathBuf| bed.ours(&["kata-network", "add-iface", id, "-"], Some(card));
        let cards: Duration = self.cards.iter().map(add).sum();
        let update = ["kata-network", "update-routes", id, "-"];
        cards + bed.ours(&update, Some(&self.routes)) + bed.restore(&["--replace"], &self.rules)
    }

    fn at_once(&self, bed: &Bed) -> Duration {
        bed.ours(&["apply", bed.0.id(), "-"], Some(&self.document))
    }
}

/// Measures the rows.
pub(crate) fn measure(plan: Plan, folder: &Path) -> Vec<Row> {
    let files = Files::new(folder);
    let (mut at_once, mut singly) = (vec![], vec![]);
    let (mut again, mut listed) = (vec![], vec![]);
    let (mut json, mut scraped, mut scraped_whole) = (vec![], vec![], vec![]);
    for round in 0..plan.rounds {
        let apply = |at_once: &mut Vec<_>| {
            let bed = Bed::start(Machine::Q35, &[]);
            at_once.push(files.at_once(&bed));
            bed
        };
        let by_commands = |singly: &mut Vec<_>| {
            let bed = Bed::start(Machine::Q35, &[]);
            singly.push(files.singly(&bed));
        };
        let bed = if round % 2 == 0 {
            by_commands(&mut singly);
            apply(&mut at_once)
        } else {
            let bed = apply(&mut at_once);
            by_commands(&mut singly);
            bed
        };
        for _ in 0..plan.repeats / 4 {
            again.push(files.at_once(&bed));
            listed.push(bed.ours(&["ipvs", bed.0.id(), "-S", "-n"], None));
            json.push(bed.ours(&["ipvs", "--json", bed.0.id(), "-L", "-n", "--stats"], None));
            scraped.push(bed.ours(&["metrics", bed.0.id()], None));
            scraped_whole.push(bed.ours(&["metrics", "--top", "30000", bed.0.id()], None));
        }
        eprintln!("bench: documents, round {}", round + 1);
    }
    vec![
        Row {
            work: "apply a document with 5 cards, 1,000 routes, 20,000 rules",
            ours: Samples::new(at_once),
            peer: Some(Comparison {
                with: "our single commands",
                took: Samples::new(singly),
                bound: Bound::Within(1.0),
            }),
            floor: None,
        },
        Row {
            work: "apply it again, with nothing to do",
            ours: Samples::new(again),
            peer: Some(Comparison {
                with: "our list of its rules",
                took: Samples::new(listed),
                bound: Bound::Within(2.0),
            }),
            floor: None,
        },
        scrape(
            "metrics of that sandbox, the busiest 1,000 rules",
            scraped,
            &json,
        ),
        scrape("metrics of that sandbox, all rules", scraped_whole, &json),
    ]
}

/// Returns the row of a scrape.
fn scrape(work: &'static str, took: Vec<Duration>, json: &[Duration]) -> Row {
    Row {
        work,
        ours: Samples::new(took),
        peer: Some(Comparison {
            with: "our list of its rules with their counters, as JSON",
            took: Samples::new(json.to_vec()),
            bound: Bound::Within(1.5),
        }),
        floor: None,
    }
}
