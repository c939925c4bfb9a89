//! `doctor`.

use patchbay_host::ops;

use crate::args::{DoctorArgs, GlobalArgs};
use crate::output::report::Report;
use crate::output::{Outcome, json_line};

pub(super) fn run(global: &GlobalArgs, args: &DoctorArgs) -> Outcome {
    let sandbox = match global.find(&args.sandbox) {
        Ok(sandbox) => sandbox,
        Err(failure) if args.format.wants_json() => return Outcome::json_null_or(Err(failure)),
        Err(failure) => return Outcome::silent_or(Err(failure)),
    };
    let examination = ops::examine(&sandbox);
    let text = if args.format.wants_json() {
        json_line(&examination)
    } else {
        Ok(Report(&examination).to_string())
    };
    match (text, examination.blocker()) {
        (Ok(text), Some(failure)) => Outcome::failed(text, failure.clone()),
        (text, _) => Outcome::silent_or(text),
    }
}
