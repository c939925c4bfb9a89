//! Finds a sandbox by an id or a prefix.

use std::path::{Path, PathBuf};

use patchbay_types::failure::{Failure, Kind};

use super::id::{Candidate, MatchKind, Origin, SandboxId};
use super::machine_access::{from_configuration, from_flags, from_libvirt, with_access};
use super::registry::{self, SandboxFile};
use super::{Lookup, MachineAccess, Sandbox, files, kata, libvirt, second_monitor};
use crate::process::Process;
use crate::{kata_messages, vsock_stream};

/// Maximum number of sandboxes that an error message lists.
const MAX_LISTED: usize = 8;

/// Finds the sandbox whose id, or that of a container in it, equals `id` or is the only one that
/// starts with it. [`Lookup::machine`] takes precedence over any id, then [`Lookup::named`].
///
/// # Errors
/// [`Kind::NotFound`] without a match, [`Kind::Invalid`] for an ambiguous prefix and for files that
/// describe the sandbox badly.
pub fn find(lookup: &Lookup, id: &str) -> Result<Sandbox, Failure> {
    let _phase = tracing::info_span!("find").entered();
    let wanted = id.parse::<SandboxId>();
    let wanted = wanted.map_err(|invalid| invalid.in_field("id"))?;
    if let Some(machine) = &lookup.machine {
        return from_flags(lookup, wanted, machine);
    }
    if let Some(machine) = lookup.named.get(&wanted) {
        return from_configuration(lookup, wanted, machine);
    }
    let found = single(&lookup.run_dir, &wanted, candidates(lookup, Some(&wanted))?)?;
    let sandbox = read(lookup, found)?;
    warn_of_ended_qemu(&sandbox);
    Ok(sandbox)
}

/// Finds the sandbox with exactly this id; `None` if there is none.
///
/// # Errors
/// [`Kind::Invalid`] for files that describe the sandbox badly.
pub fn find_whole(lookup: &Lookup, id: &SandboxId) -> Result<Option<Sandbox>, Failure> {
    let mut candidates = candidates(lookup, Some(id))?.into_iter();
    let found = candidates.find(|found| found.id == *id);
    found.map(|found| read(lookup, found)).transpose()
}

/// Lists all sandboxes, except those with files that can't be read, as of one that is starting, and domains of libvirt
/// that patchbay has neither plugged a card into nor a name for, if each look at them needs libvirtd.
///
/// # Errors
/// Folders that can't be read.
pub fn all(lookup: &Lookup) -> Result<Vec<Sandbox>, Failure> {
    let named = lookup.named.iter();
    let named =
        named.filter_map(|(id, machine)| from_configuration(lookup, id.clone(), machine).ok());
    let mut candidates = candidates(lookup, None)?;
    candidates.retain(|found| !lookup.named.contains_key(&found.id));
    let is_known = |sandbox: &Sandbox| {
        let is_used = || sandbox.state().is_ok_and(|state| state.path().exists());
        sandbox.shared_monitor.is_none() || is_used()
    };
    let read = |found| read(lookup, found).ok().filter(is_known);
    Ok(named
        .chain(candidates.into_iter().filter_map(read))
        .collect())
}

/// Warns of registered sandboxes that [`all`] leaves out.
///
/// # Errors
/// Folders that can't be read.
pub fn warn_of_left_out(lookup: &Lookup) -> Result<(), Failure> {
    for (id, failure) in registry::left_out(&lookup.run_dir)? {
        tracing::warn!("sandbox {id} is left out: {}", failure.line());
    }
    Ok(())
}

/// Lists the folders that have one folder per sandbox, which need not exist. Those of libvirt's domains, which
/// are in the network namespace of the host, don't count unless the configuration names one.
pub(crate) fn folders(lookup: &Lookup) -> Vec<PathBuf> {
    let run_dir = lookup.run_dir.clone();
    let second_monitors = run_dir.join(second_monitor::FOLDER);
    let of_kata = kata::folders(&lookup.kata_roots);
    let names_domain = lookup.named.values().any(|machine| machine.qmp.is_none());
    let of_libvirt = names_domain.then(|| libvirt_folders(lookup));
    [run_dir, second_monitors]
        .into_iter()
        .chain(of_kata)
        .chain(of_libvirt.into_iter().flatten())
        .collect()
}

/// Lists the folders with the domains of libvirt, which need not exist.
pub(crate) fn libvirt_folders(lookup: &Lookup) -> Vec<PathBuf> {
    libvirt::folders(&lookup.kata_roots)
}

/// Lists the monitors of machines that no folder registers, which need not exist.
pub(crate) fn sockets(lookup: &Lookup) -> Vec<PathBuf> {
    let named = lookup.named.values();
    let named = named.filter_map(|machine| machine.qmp.clone());
    let machine = lookup.machine.iter().map(|machine| machine.qmp.clone());
    named.chain(machine).collect()
}

/// Reads the files of a sandbox.
fn read(lookup: &Lookup, found: Candidate) -> Result<Sandbox, Failure> {
    let Candidate { id, folder, .. } = found;
    let (earlier_state, access, pid) = match found.origin {
        Origin::Libvirt(status) => {
            let domain = libvirt::read(&status, &id)?;
            let agent = domain.agent(&id)?;
            return Ok(from_libvirt(lookup, id, domain, agent, None));
        }
        Origin::Registered => {
            let file = SandboxFile::read(&folder)?;
            let agent = file.endpoint()?;
            let SandboxFile {
                qmp, netns, pid, ..
            } = file;
            let access = MachineAccess { qmp, agent, netns };
            (folder, access, pid)
        }
        Origin::Kata(runtime) => {
            let state = lookup.run_dir.join(second_monitor::FOLDER);
            let state = state.join(id.as_str());
            let mut access = runtime.read(&folder, &id)?;
            let second = second_monitor::socket(&state);
            // No shim holds this one.
            if files::exists(&second)? {
                access.qmp = second;
            }
            (state, access, None)
        }
    };
    let sandbox = with_access(lookup, id, access, earlier_state);
    Ok(Sandbox { pid, ..sandbox })
}

/// Warns if the sandbox's QEMU has ended.
fn warn_of_ended_qemu(sandbox: &Sandbox) {
    let recorded = sandbox.state().ok().and_then(|state| state.ended_qemu());
    let ended = recorded.or_else(|| sandbox.pid.filter(|pid| Process::of(*pid).is_none()));
    // A process of another PID namespace is invisible, but its monitor serves.
    if let Some(pid) = ended
        && (sandbox.shared_monitor.is_some()
            || vsock_stream::unix(&sandbox.qmp, vsock_stream::PROBE_TIMEOUT).is_err())
    {
        tracing::warn!("QEMU of sandbox {} has ended (process {pid})", sandbox.id);
    }
}

/// Lists the matches. A registration overrides the files of Kata and libvirt for the same id. A whole id of
/// theirs is ambiguous if it is a prefix of a registered one: no folder of another program decides what an
/// id of the operator means.
fn candidates(lookup: &Lookup, wanted: Option<&SandboxId>) -> Result<Vec<Candidate>, Failure> {
    let mut candidates = registry::matching(&lookup.run_dir, wanted)?;
    // Reading these folders can need root; an exact registered id doesn't depend on them.
    let is_exact = |found: &Candidate| found.kind == MatchKind::Exact;
    if candidates.iter().any(is_exact) {
        return Ok(candidates);
    }
    let is_registered = !candidates.is_empty();
    let of_kata = kata::matching(&lookup.kata_roots, wanted)?;
    let of_libvirt = libvirt::matching(&lookup.kata_roots, wanted)?;
    for mut found in of_kata.into_iter().chain(of_libvirt) {
        if candidates.iter().any(|earlier| earlier.id == found.id) {
            continue;
        }
        if is_registered {
            found.kind = MatchKind::Prefix;
        }
        candidates.push(found);
    }
    Ok(candidates)
}

/// Returns the only match; an exact one wins over prefixes.
fn single(
    run_dir: &Path,
    wanted: &SandboxId,
    mut candidates: Vec<Candidate>,
) -> Result<Candidate, Failure> {
    let best = candidates.iter().map(|found| found.kind).max();
    candidates.retain(|found| Some(found.kind) == best);
    let (kind, message) = match <[Candidate; 1]>::try_from(candidates) {
        Ok([found]) => return Ok(found),
        Err(none) if none.is_empty() => {
            let phrase = kata_messages::no_such_container(wanted);
            let places = format!(
                "no sandbox in {} or of Kata or libvirt matches",
                run_dir.display()
            );
            (Kind::NotFound, format!("{phrase}: {places}"))
        }
        Err(many) => {
            let listed = many.iter().take(MAX_LISTED);
            let listed: Vec<String> = listed
                .map(|found| format!("{} ({})", found.id, found.folder.display()))
                .collect();
            let phrase = kata_messages::multiple_containers(wanted);
            (Kind::Invalid, format!("{phrase}: {}", listed.join(", ")))
        }
    };
    Err(Failure::new(kind, message).with_field("id"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use super::super::NamedMachine;
    use super::*;
    use crate::interrupt::Interrupt;

    fn run_dir(ids: &[&str]) -> (tempfile::TempDir, Lookup) {
        let dir = tempfile::tempdir().unwrap();
        for id in ids {
            let file = dir.path().join(id).join(SandboxFile::NAME);
            fs::create_dir(file.parent().unwrap()).unwrap();
            let text =
                format!(r#"{{"qmp":"/q/{id}","agent":"vsock://3:1061","netns":null,"pid":1}}"#);
            fs::write(file, text).unwrap();
        }
        let lookup = Lookup {
            machine: None,
            named: BTreeMap::new(),
            interrupt: Interrupt::default(),
            run_dir: dir.path().to_owned(),
            kata_roots: vec![dir.path().join("none")],
        };
        (dir, lookup)
    }

    #[test]
    fn find_takes_unique_prefix_and_prefers_exact_id() {
        let (_dir, lookup) = run_dir(&["6ec7a98", "6ec7a98bb", "other"]);
        assert_eq!(find(&lookup, "o").unwrap().qmp, Path::new("/q/other"));
        assert_eq!(
            find(&lookup, "6ec7a98").unwrap().qmp,
            Path::new("/q/6ec7a98")
        );
    }

    #[test]
    fn find_failures_have_distinct_kinds() {
        let (_dir, lookup) = run_dir(&["6ec7a98", "6ec7a97"]);
        let kind = |id| find(&lookup, id).unwrap_err().kind();
        assert_eq!(kind("7"), Kind::NotFound);
        assert_eq!(kind("6ec"), Kind::Invalid);
        assert_eq!(kind(""), Kind::Invalid);
        assert_eq!(kind("../6ec7a98"), Kind::Invalid);
        assert!(
            find(&lookup, "6ec")
                .unwrap_err()
                .to_string()
                .contains("multiple containers found")
        );
        assert!(
            find(&lookup, "7")
                .unwrap_err()
                .to_string()
                .contains("no such container ID (7)")
        );
    }

    #[test]
    fn find_whole_id_of_kata_does_not_beat_a_registered_prefix() {
        let (dir, mut lookup) = run_dir(&["6ec7a98"]);
        let kata = dir.path().join("kata");
        let sandbox = kata.join("run/vc/sbs/6ec7");
        fs::create_dir_all(&sandbox).unwrap();
        fs::write(sandbox.join("persist.json"), "{}").unwrap();
        lookup.kata_roots = vec![kata];
        let failure = find(&lookup, "6ec7").unwrap_err();
        assert_eq!(failure.kind(), Kind::Invalid);
        assert!(failure.to_string().contains("6ec7a98 ("), "{failure}");
        let found = find(&lookup, "6ec7a98").unwrap();
        assert_eq!(found.qmp, Path::new("/q/6ec7a98"));
    }

    #[test]
    fn all_leaves_out_registrations_that_are_broken_or_not_trusted() {
        let (dir, lookup) = run_dir(&["broken", "good", "open"]);
        let file = |id: &str| dir.path().join(id).join(SandboxFile::NAME);
        fs::write(file("broken"), "{").unwrap();
        let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o666);
        fs::set_permissions(file("open"), everybody).unwrap();
        let found = all(&lookup).unwrap();
        let ids: Vec<_> = found.iter().map(|found| found.id.as_str()).collect();
        assert_eq!(ids, ["good"]);
        assert_eq!(find(&lookup, "open").unwrap_err().kind(), Kind::Denied);
    }

    #[test]
    fn find_named_machine_precedes_a_registered_one() {
        let (dir, mut lookup) = run_dir(&["vm1", "vm2"]);
        let qmp = dir.path().join("qmp.sock");
        fs::write(&qmp, "").unwrap();
        let machine = NamedMachine {
            qmp: Some(qmp.clone()),
            agent: "vsock://3:961".parse().unwrap(),
            netns: Some("blue".into()),
        };
        lookup.named.insert("vm1".parse().unwrap(), machine);
        let found = find(&lookup, "vm1").unwrap();
        assert_eq!(found.qmp, qmp);
        assert_eq!(found.netns.as_deref(), Some(Path::new("/run/netns/blue")));
        assert_eq!(find(&lookup, "vm2").unwrap().qmp, Path::new("/q/vm2"));
        let all = all(&lookup).unwrap();
        let all: Vec<_> = all.iter().map(|found| found.qmp.as_path()).collect();
        assert_eq!(all, [&qmp, Path::new("/q/vm2")]);
    }

    #[test]
    fn find_registered_namespace_can_be_a_name() {
        let (dir, lookup) = run_dir(&["a"]);
        let file = dir.path().join("a").join(SandboxFile::NAME);
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, text.replace("null", "\"blue\"")).unwrap();
        let netns = find(&lookup, "a").unwrap().netns;
        assert_eq!(netns.as_deref(), Some(Path::new("/run/netns/blue")));
    }

    #[test]
    fn find_broken_registration_names_the_file() {
        let (dir, lookup) = run_dir(&["a"]);
        let file = dir.path().join("a").join(SandboxFile::NAME);
        fs::write(&file, "{").unwrap();
        let failure = find(&lookup, "a").unwrap_err();
        assert!(failure.to_string().contains("sandbox.json"), "{failure}");
        fs::write(&file, r#"{"qmp":"/q","agent":"tcp://1","netns":null}"#).unwrap();
        assert_eq!(find(&lookup, "a").unwrap_err().field(), Some("agent"));
    }
}
