//! Sandboxes whose links can be mirrored.

use std::sync::Arc;

use patchbay_types::failure::{Failure, Kind};

use super::LinkPattern;
use crate::netns::{Netns, NetnsId};
use crate::sandbox::{self, Lookup, Sandbox, StateDir};

/// Annotation of a sandbox with patterns of links that are left alone.
const EXCLUDE: &str = "patchbay/watch-exclude";

/// Sandbox that shares its network namespace with no other one.
#[derive(Debug, Clone)]
pub struct Watched {
    /// The sandbox.
    pub sandbox: Sandbox,
    pub(crate) netns: Arc<Netns>,
    /// Links that its annotation names.
    pub(super) exclude: Vec<LinkPattern>,
    /// Its lock and journal, by which a sandbox with several names is recognized.
    state: StateDir,
}

impl Watched {
    /// Returns whether two are the same machine in the same namespace.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        (self.state.path(), self.netns.id()) == (other.state.path(), other.netns.id())
    }

    fn open(sandbox: &Sandbox) -> Result<Option<Self>, Failure> {
        let Some(path) = &sandbox.netns else {
            return Ok(None);
        };
        Ok(Some(Self {
            netns: Arc::new(Netns::open(path)?),
            exclude: Vec::new(),
            state: sandbox.state()?,
            sandbox: sandbox.clone(),
        }))
    }
}

/// Result of [`discover`].
#[derive(Debug, Default)]
pub struct Discovered {
    /// Sandboxes to watch.
    pub watched: Vec<Watched>,
    /// Reasons why selected sandboxes can't be watched.
    pub failures: Vec<Failure>,
    /// Whether a sandbox has no monitor, or no namespace, as one that is starting.
    pub(crate) is_incomplete: bool,
}

/// Finds the sandboxes among `selected`, or all, that are alone in their network namespace: the links of
/// the host's are not for a machine, and those of one that several machines share are for no particular one.
///
/// # Errors
/// Folders that can't be read.
pub fn discover(lookup: &Lookup, selected: Option<&[Sandbox]>) -> Result<Discovered, Failure> {
    let own = [Netns::current()?.id(), Netns::of_host()?.id()];
    let is_hosts = |netns: NetnsId| own.contains(&netns);
    let mut found = Discovered::default();
    let mut everybody: Vec<Watched> = Vec::new();
    for sandbox in sandbox::all(lookup)? {
        match Watched::open(&sandbox) {
            Ok(Some(watched)) => {
                let is_known = everybody.iter().any(|other| other.is_same(&watched));
                // The socket of a machine can outlive it.
                if !is_known && !watched.state.has_ended() {
                    everybody.push(watched);
                }
            }
            Ok(None) => {}
            // It is starting or ending.
            Err(_) => found.is_incomplete = true,
        }
    }
    let others = |watched: &Watched| {
        let netns = watched.netns.id();
        let is_other = |other: &&Watched| other.netns.id() == netns && !other.is_same(watched);
        everybody.iter().filter(is_other).count()
    };
    let candidates = match selected {
        None => everybody.clone(),
        Some(sandboxes) => open(sandboxes, &mut found.failures),
    };
    for watched in candidates {
        let failure = match others(&watched) {
            _ if is_hosts(watched.netns.id()) => refused(
                &watched.sandbox,
                "it is in the network namespace of the host",
            ),
            0 => {
                match excluded(lookup, &watched.sandbox) {
                    Ok(exclude) => found.watched.push(Watched { exclude, ..watched }),
                    Err(failure) => found.failures.push(failure),
                }
                continue;
            }
            _ => refused(
                &watched.sandbox,
                "several sandboxes are in its network namespace",
            ),
        };
        if selected.is_some() {
            found.failures.push(failure);
        } else {
            tracing::debug!("{}", failure.line());
        }
    }
    Ok(found)
}

/// Opens sandboxes, and adds the reasons why some can't be watched.
fn open(sandboxes: &[Sandbox], failures: &mut Vec<Failure>) -> Vec<Watched> {
    let opened = sandboxes
        .iter()
        .map(|sandbox| match Watched::open(sandbox) {
            Ok(Some(watched)) => Ok(watched),
            Ok(None) => Err(refused(sandbox, "no network namespace belongs to it alone")),
            Err(failure) => Err(failure.context(context(sandbox))),
        });
    let (opened, failed): (Vec<_>, Vec<_>) = opened.partition(Result::is_ok);
    failures.extend(failed.into_iter().filter_map(Result::err));
    opened.into_iter().flatten().collect()
}

/// Reads the annotation. A sandbox with an invalid one is left alone as a whole.
fn excluded(lookup: &Lookup, sandbox: &Sandbox) -> Result<Vec<LinkPattern>, Failure> {
    let value = sandbox::annotation(lookup, &sandbox.id, EXCLUDE);
    let value = value.map_err(|failure| failure.context(context(sandbox)))?;
    let patterns = value.as_deref().map(LinkPattern::list).transpose();
    let patterns = patterns
        .map_err(|invalid| Failure::from(invalid.in_field(EXCLUDE)).context(context(sandbox)))?;
    Ok(patterns.unwrap_or_default())
}

fn context(sandbox: &Sandbox) -> String {
    format!("the links of sandbox {} can't be watched", sandbox.id)
}

fn refused(sandbox: &Sandbox, rule: &str) -> Failure {
    let message = format!("{}: {rule}", context(sandbox));
    Failure::new(Kind::Unsupported, message).with_field("id")
}
