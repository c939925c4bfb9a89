//! `doctor`.

use patchbay_host::ops;

use crate::args::{DoctorArgs, GlobalArgs};
use crate::output::Outcome;
use crate::output::report::Report;

pub(super) fn run(global: &GlobalArgs, args: &DoctorArgs) -> Outcome {
    let sandbox = match global.find(&args.sandbox) {
        Ok(sandbox) => sandbox,
        Err(failure) if args.format.data().is_some() => return Outcome::json_null_or(Err(failure)),
        Err(failure) => return Outcome::silent_or(Err(failure)),
    };
    let examination = ops::examine(&sandbox);
    let text = match args.format.data() {
        Some(format) => format.render(&examination),
        None => Ok(Report(&examination).to_string()),
    };
    match (text, examination.blocker()) {
        (Ok(text), Some(failure)) => Outcome::failed(text, failure.clone()),
        (text, _) => Outcome::silent_or(text),
    }
}
