//! From an id, or a prefix of one, to a sandbox.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};

use patchbay_protocols::endpoint::Endpoint;
use patchbay_protocols::failure::{Failure, Kind};
use patchbay_protocols::model::{BadValue, Invalid};
use serde::Deserialize;

use super::Sandbox;
use crate::cli::Target;

/// What registers a sandbox in its folder of the run directory.
const FILE: &str = "sandbox.json";
/// Largest such file that is read, in bytes.
const MAX_FILE: u64 = 64 * 1024;

#[derive(Deserialize)]
struct SandboxFile {
    qmp: PathBuf,
    agent: String,
    netns: Option<PathBuf>,
}

/// The sandbox that is meant: the one given by hand, or the one in the run directory whose id is
/// `id` or alone begins with it.
pub(crate) fn find(target: &Target, id: &str) -> Result<Sandbox, Failure> {
    check_id(id)?;
    if let (Some(qmp), Some(agent)) = (&target.qmp, &target.agent) {
        let netns = target.netns.as_deref().map(netns_path);
        return by_hand(&target.run_dir, qmp, agent, netns);
    }
    let state = target.run_dir.join(full_id(&target.run_dir, id)?);
    let file = read(&state.join(FILE))?;
    let agent = file
        .agent
        .parse()
        .map_err(|bad: BadValue| Failure::from(bad.at("agent")))?;
    Ok(Sandbox {
        qmp: file.qmp,
        agent,
        netns: file.netns,
        state,
    })
}

/// An id becomes part of a path.
fn check_id(id: &str) -> Result<(), Invalid> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    let starts = id.starts_with(|c: char| c.is_ascii_alphanumeric());
    if starts && id.len() <= 128 && id.bytes().all(legal) {
        return Ok(());
    }
    let rule =
        "an id has 1 to 128 letters, digits, '_', '.' and '-', and starts with a letter or digit";
    Err(BadValue::new(id, rule).at("id"))
}

/// A machine that nobody registered: its state is kept under a name made from its monitor's path.
fn by_hand(
    run_dir: &Path,
    qmp: &Path,
    agent: &Endpoint,
    netns: Option<PathBuf>,
) -> Result<Sandbox, Failure> {
    let qmp = qmp.canonicalize().map_err(|error| {
        let sentence = format!("no QEMU answers at {}", qmp.display());
        Failure::new(Kind::NotFound, sentence).with_cause(error.to_string())
    })?;
    let mut hash = DefaultHasher::new();
    qmp.hash(&mut hash);
    let state = run_dir
        .join(".by-hand")
        .join(format!("{:016x}", hash.finish()));
    Ok(Sandbox {
        qmp,
        agent: agent.clone(),
        netns,
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

/// An exact id wins over those that only begin with it.
fn full_id(run_dir: &Path, id: &str) -> Result<String, Failure> {
    if run_dir.join(id).join(FILE).is_file() {
        return Ok(id.to_owned());
    }
    let mut matching = Vec::new();
    match fs::read_dir(run_dir) {
        Ok(entries) => matching.extend(entries.filter_map(|entry| {
            let entry = entry.ok()?;
            let name = entry.file_name().into_string().ok()?;
            (name.starts_with(id) && entry.path().join(FILE).is_file()).then_some(name)
        })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => {
            let sentence = format!("could not read the run directory {}", run_dir.display());
            return Err(io_failure(sentence, &error));
        }
    }
    match <[String; 1]>::try_from(matching) {
        Ok([only]) => Ok(only),
        Err(none) if none.is_empty() => {
            let place = run_dir.display();
            let sentence = format!("no such container ID ({id}): no sandbox in {place} begins so");
            Err(Failure::new(Kind::NotFound, sentence).with_field("id"))
        }
        Err(mut many) => {
            many.sort();
            many.truncate(8);
            let sentence = format!("multiple containers found ({id}): {}", many.join(", "));
            Err(Failure::new(Kind::Invalid, sentence).with_field("id"))
        }
    }
}

fn read(path: &Path) -> Result<SandboxFile, Failure> {
    let sentence = || format!("could not read {}", path.display());
    let length = fs::metadata(path)
        .map_err(|error| io_failure(sentence(), &error))?
        .len();
    if length > MAX_FILE {
        return Err(Failure::new(Kind::Invalid, sentence()).with_cause("it is larger than 64 KiB"));
    }
    let bytes = fs::read(path).map_err(|error| io_failure(sentence(), &error))?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Failure::new(Kind::Invalid, sentence()).with_cause(error.to_string()))
}

/// A failed system call on a file, told in one sentence.
pub(super) fn io_failure(sentence: String, error: &io::Error) -> Failure {
    let kind = error.raw_os_error().map_or(Kind::Other, Kind::from_errno);
    Failure::new(kind, sentence).with_cause(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn run_dir(ids: &[&str]) -> (tempfile::TempDir, Target) {
        let dir = tempfile::tempdir().unwrap();
        for id in ids {
            let file = dir.path().join(id).join(FILE);
            fs::create_dir(file.parent().unwrap()).unwrap();
            let text =
                format!(r#"{{"qmp":"/q/{id}","agent":"vsock://3:1061","netns":null,"pid":1}}"#);
            fs::write(file, text).unwrap();
        }
        let target = Target {
            qmp: None,
            agent: None,
            netns: None,
            run_dir: dir.path().to_owned(),
            timeout: Duration::from_secs(10),
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
