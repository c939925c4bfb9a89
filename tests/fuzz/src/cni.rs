//! Environment and standard input of the CNI plugin: an accepted result is returned as it is, and an
//! error is a document with a code of the specification or of patchbay.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use patchbay::fuzz;
use serde_json::Value;
use serde_json::value::RawValue;

const VARIABLES: [&str; 4] = ["CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"];

/// A NUL byte separates the values of the variables and standard input.
pub(crate) fn run(data: &[u8]) {
    let mut parts = data.splitn(VARIABLES.len() + 1, |byte| *byte == 0);
    let values: Vec<_> = parts.by_ref().take(VARIABLES.len()).collect();
    let input = parts.next().unwrap_or_default();
    let variable = |name: &str| {
        let index = VARIABLES.iter().position(|variable| *variable == name)?;
        let value = values.get(index)?;
        Some(OsString::from_vec(value.to_vec()))
    };
    match fuzz::cni(&variable, input) {
        Ok(result) => {
            serde_json::from_str::<&RawValue>(&result).expect("the result is JSON");
            let text = String::from_utf8_lossy(input);
            assert!(text.contains(&result), "the result is that of the input");
        }
        Err(document) => {
            let error: Value = serde_json::from_str(&document).expect("an error is JSON");
            let code = error["code"].as_u64().expect("an error has a code");
            assert!([1, 4, 6, 7].contains(&code), "{document}");
            assert!(!error["msg"].as_str().unwrap_or_default().is_empty());
        }
    }
}
