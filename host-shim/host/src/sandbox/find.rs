//! From an id, or a prefix of one, to a sandbox.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use patchbay_types::failure::{Failure, Kind};

use super::id::{Id, MatchKind};
use super::kata::{Found, Roots};
use super::{Lookup, Machine};
use super::{Sandbox, StateDir, registered};

/// Most sandboxes that a sentence names.
const MAX_NAMED: usize = 8;

/// A sandbox that may be meant.
struct Match {
    fit: MatchKind,
    id: Id,
    /// `None`: it is registered in our own run directory.
    kata: Option<Found>,
}

/// The sandbox that is meant: the one given by hand, or the one whose id, or that of a container
/// in it, is `id` or alone begins with it.
pub fn find(lookup: &Lookup, id: &str) -> Result<Sandbox, Failure> {
    let _phase = tracing::info_span!("find").entered();
    let wanted = Id::parse(id).map_err(|bad| bad.in_field("id"))?;
    if let Some(machine) = &lookup.machine {
        return by_hand(&lookup.run_dir, wanted, machine);
    }
    let found = only(&lookup.run_dir, &wanted, matching(lookup, &wanted)?)?;
    let id = found.id.as_str();
    // What is not registered here keeps its state where no id can point.
    let state = match &found.kata {
        None => StateDir::Registered(lookup.run_dir.join(id)),
        Some(_) => StateDir::Unregistered(lookup.run_dir.join(".kata").join(id)),
    };
    let (qmp, agent, netns) = match &found.kata {
        None => registered::read(state.path())?,
        Some(kata) => kata.read(&found.id)?,
    };
    Ok(Sandbox {
        id: found.id,
        qmp,
        agent,
        netns,
        state,
    })
}

/// Where two places have the same sandbox the first is believed: who registers a sandbox of Kata
/// with us corrects what Kata says of it.
fn matching(lookup: &Lookup, wanted: &Id) -> Result<Vec<Match>, Failure> {
    let ours = registered::matching(&lookup.run_dir, wanted)?;
    let ours = ours.into_iter().map(|(fit, id)| Match {
        fit,
        id,
        kata: None,
    });
    let mut matches: Vec<Match> = ours.collect();
    // Kata's folders may be root's alone; who says a whole id of ours need not be root.
    if matches.iter().any(|found| found.fit == MatchKind::Exact) {
        return Ok(matches);
    }
    for (fit, id, found) in Roots::new(&lookup.kata_roots).matching(wanted)? {
        if matches.iter().all(|earlier| earlier.id != id) {
            let kata = Some(found);
            matches.push(Match { fit, id, kata });
        }
    }
    Ok(matches)
}

/// An exact id wins over those that only begin with it.
fn only(run_dir: &Path, wanted: &Id, mut matches: Vec<Match>) -> Result<Match, Failure> {
    if matches.iter().any(|found| found.fit == MatchKind::Exact) {
        matches.retain(|found| found.fit == MatchKind::Exact);
    }
    match <[Match; 1]>::try_from(matches) {
        Ok([only]) => Ok(only),
        Err(none) if none.is_empty() => {
            let sentence = format!(
                "no such container ID ({wanted}): no sandbox in {}, and none of Kata's, begins so",
                run_dir.display()
            );
            Err(Failure::new(Kind::NotFound, sentence).with_field("id"))
        }
        Err(many) => {
            let place = |found: &Match| match &found.kata {
                None => run_dir.join(found.id.as_str()),
                Some(kata) => kata.folder().to_owned(),
            };
            let named = many.iter().take(MAX_NAMED);
            let named: Vec<String> = named
                .map(|found| format!("{} ({})", found.id, place(found).display()))
                .collect();
            let sentence = format!("multiple containers found ({wanted}): {}", named.join(", "));
            Err(Failure::new(Kind::Invalid, sentence).with_field("id"))
        }
    }
}

/// A machine that nobody registered: its state is kept under a name made from its monitor's path.
fn by_hand(run_dir: &Path, id: Id, machine: &Machine) -> Result<Sandbox, Failure> {
    let Machine { qmp, agent, netns } = machine;
    let qmp = qmp.canonicalize().map_err(|error| {
        let sentence = format!("no QEMU answers at {}", qmp.display());
        Failure::new(Kind::NotFound, sentence).with_cause(error.to_string())
    })?;
    let mut hash = DefaultHasher::new();
    qmp.hash(&mut hash);
    let state = run_dir
        .join(".by-hand")
        .join(format!("{:016x}", hash.finish()));
    let state = StateDir::Unregistered(state);
    Ok(Sandbox {
        id,
        qmp,
        agent: agent.clone(),
        netns: netns.as_deref().map(netns_path),
        state,
    })
}

/// A bare word is a name under `/run/netns`, as for `ip netns`.
fn netns_path(netns: &Path) -> PathBuf {
    match netns.components().count() {
        1 => Path::new("/run/netns").join(netns),
        _ => netns.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const FILE: &str = "sandbox.json";

    fn run_dir(ids: &[&str]) -> (tempfile::TempDir, Lookup) {
        let dir = tempfile::tempdir().unwrap();
        for id in ids {
            let file = dir.path().join(id).join(FILE);
            fs::create_dir(file.parent().unwrap()).unwrap();
            let text =
                format!(r#"{{"qmp":"/q/{id}","agent":"vsock://3:1061","netns":null,"pid":1}}"#);
            fs::write(file, text).unwrap();
        }
        let target = Lookup {
            machine: None,
            run_dir: dir.path().to_owned(),
            kata_roots: vec![dir.path().join("none")],
        };
        (dir, target)
    }

    #[test]
    fn a_unique_prefix_finds_and_an_exact_id_wins() {
        let (_dir, target) = run_dir(&["6ec7a98", "6ec7a98bb", "other"]);
        assert_eq!(find(&target, "o").unwrap().qmp, Path::new("/q/other"));
        assert_eq!(
            find(&target, "6ec7a98").unwrap().qmp,
            Path::new("/q/6ec7a98")
        );
    }

    #[test]
    fn each_way_to_miss_has_its_kind() {
        let (_dir, target) = run_dir(&["6ec7a98", "6ec7a97"]);
        let kind = |id| find(&target, id).unwrap_err().kind();
        assert_eq!(kind("7"), Kind::NotFound);
        assert_eq!(kind("6ec"), Kind::Invalid);
        assert_eq!(kind(""), Kind::Invalid);
        assert_eq!(kind("../6ec7a98"), Kind::Invalid);
        assert!(
            find(&target, "6ec")
                .unwrap_err()
                .to_string()
                .contains("multiple containers found")
        );
        assert!(
            find(&target, "7")
                .unwrap_err()
                .to_string()
                .contains("no such container ID (7)")
        );
    }

    #[test]
    fn a_broken_file_is_named() {
        let (dir, target) = run_dir(&["a"]);
        let file = dir.path().join("a").join(FILE);
        fs::write(&file, "{").unwrap();
        let failure = find(&target, "a").unwrap_err();
        assert!(failure.to_string().contains("sandbox.json"), "{failure}");
        fs::write(&file, r#"{"qmp":"/q","agent":"tcp://1","netns":null}"#).unwrap();
        assert_eq!(find(&target, "a").unwrap_err().field(), Some("agent"));
    }
}
