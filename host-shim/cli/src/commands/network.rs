//! `export`, `apply` and `diff`: the network of a sandbox as one document.

use patchbay_host::document::{self, Limits, Plan, Present, Section, Step, Strangers};
use patchbay_host::ops;
use patchbay_host::sandbox::Sandbox;
use patchbay_types::failure::{Failure, Kind};
use patchbay_types::ipvs::MaxRules;

use crate::args::{ApplyArgs, DocumentArgs, ExportArgs, GlobalArgs, SandboxArg};
use crate::input::network::{self, NetworkDocument};
use crate::name_service::HostsAndServices;
use crate::output::{Outcome, RestoreProgress, network as output};

/// `export`.
pub(super) fn export(global: &GlobalArgs, args: &ExportArgs) -> Result<String, Failure> {
    let sandbox = global.find(&args.sandbox)?;
    let present = Present::read(&sandbox, &Section::ALL.into())?;
    output::document(&present.to_wanted(), args.format)
}

/// `apply`.
pub(super) fn apply(global: &GlobalArgs, args: &ApplyArgs) -> Result<String, Failure> {
    let purpose = if args.dry_run {
        Purpose::Show
    } else {
        Purpose::Apply
    };
    let planned = plan(global, &args.documents, purpose)?;
    if purpose == Purpose::Apply {
        for one in &planned {
            one.apply(global, &args.documents)?;
        }
    }
    changes(&planned, &args.documents)
}

/// `diff`. As of diff(1), the exit code is 1 if there are changes.
pub(super) fn diff(global: &GlobalArgs, args: &DocumentArgs) -> Outcome {
    let printed = plan(global, args, Purpose::Show).and_then(|planned| {
        let is_same = planned.iter().all(|one| one.plan.is_empty());
        Ok((is_same, changes(&planned, args)?))
    });
    match printed {
        Ok((true, text)) => Outcome::succeeded(text),
        Ok((false, text)) => Outcome::differing(text),
        Err(failure) => Outcome::silent_or(Err(failure)),
    }
}

/// Document with its sandbox and the steps to it.
struct Planned {
    document: NetworkDocument,
    sandbox: Sandbox,
    plan: Plan,
}

/// Purpose of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// Its steps are shown.
    Show,
    /// Its steps are carried out.
    Apply,
}

/// Plans all documents, so that an error in one of them changes no sandbox.
fn plan(
    global: &GlobalArgs,
    args: &DocumentArgs,
    purpose: Purpose,
) -> Result<Vec<Planned>, Failure> {
    let names = HostsAndServices::of_machine();
    let documents = network::read(&args.file, &names, MaxRules(args.max_rules))?;
    let strangers = if args.prune {
        Strangers::Remove
    } else {
        Strangers::Keep
    };
    let mut planned: Vec<Planned> = Vec::new();
    for (document, sandbox) in with_sandboxes(global, args, documents)? {
        if planned.iter().any(|other| other.sandbox.id == sandbox.id) {
            let message = format!("the sandbox {} has two documents in the file", sandbox.id);
            return Err(Failure::new(Kind::Invalid, message));
        }
        if purpose == Purpose::Apply {
            // A card that a killed command has left is in no plan.
            ops::finish_left(&sandbox)?;
        }
        let present = Present::read(&sandbox, &document.wanted.sections())?;
        let max_rules = MaxRules(args.max_rules);
        let plan = document::plan(&document.wanted, &present, strangers, max_rules)
            .and_then(|plan| {
                document::check_host(&sandbox, &document.wanted, &plan)?;
                Ok(plan)
            })
            .map_err(|failure| document.locate(failure))?;
        planned.push(Planned {
            document,
            sandbox,
            plan,
        });
    }
    Ok(planned)
}

/// Finds the sandbox of each document. With an ID on the command line, documents for other sandboxes are
/// left out.
fn with_sandboxes(
    global: &GlobalArgs,
    args: &DocumentArgs,
    documents: Vec<NetworkDocument>,
) -> Result<Vec<(NetworkDocument, Sandbox)>, Failure> {
    let find = |id: &str| global.find(&SandboxArg { id: id.to_owned() });
    let Some(id) = &args.id else {
        let with_sandbox = |document: NetworkDocument| {
            let Some(id) = &document.sandbox else {
                let rule = "a document without 'sandbox' needs an ID on the command line";
                return Err(Failure::new(Kind::Invalid, rule));
            };
            let sandbox = find(id)
                .map_err(|failure| document.locate(failure.with_field(network::SANDBOX)))?;
            Ok((document, sandbox))
        };
        return documents.into_iter().map(with_sandbox).collect();
    };
    let sandbox = find(id)?;
    let mut own = Vec::new();
    for document in documents {
        let is_own = match &document.sandbox {
            None => true,
            Some(other) => find(other).is_ok_and(|found| found.id == sandbox.id),
        };
        if is_own {
            own.push((document, sandbox.clone()));
        }
    }
    if own.is_empty() {
        let message = format!("the file has no document for the sandbox {}", sandbox.id);
        return Err(Failure::new(Kind::NotFound, message));
    }
    Ok(own)
}

impl Planned {
    fn apply(&self, global: &GlobalArgs, args: &DocumentArgs) -> Result<(), Failure> {
        let limits = Limits {
            wait: global.timeout,
            max_rules: args.max_rules,
        };
        let rules = self.plan.steps().iter().map(|step| match step {
            Step::Ipvs(step) => step.lines.len(),
            _ => 0,
        });
        let bar = RestoreProgress::new(rules.sum());
        let mut set = |state| bar.set(state);
        let watch = bar.is_shown().then_some(&mut set as &mut dyn FnMut(_));
        let applied = document::apply(&self.sandbox, &self.plan, limits, watch);
        applied.map_err(|failure| match &self.document.sandbox {
            Some(id) => failure.context(format!("could not apply the document of {id}")),
            None => failure,
        })?;
        bar.finish();
        Ok(())
    }
}

fn changes(planned: &[Planned], args: &DocumentArgs) -> Result<String, Failure> {
    let changes = planned.iter().map(|one| {
        let sandbox = one.document.sandbox.as_deref();
        output::changes(&one.plan, sandbox)
    });
    output::render(&changes.flatten().collect::<Vec<_>>(), args.format)
}
