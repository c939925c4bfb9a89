//! Output of `virsh qemu-monitor-command`: replies, and lines for people.

use serde_json::Value;

use crate::harmless;
use crate::pick;

/// The first byte is the number of requests, a digit in the corpus.
pub(crate) fn run(data: &[u8]) {
    let (digit, bytes) = pick(data);
    let requests = usize::from(digit.wrapping_sub(b'0'));
    let [ended, late] = patchbay_host::fuzz::virsh_output(bytes, requests);
    if let Ok(replies) = &ended {
        let number = replies.split(|byte| *byte == b'\n').count() - 1;
        assert_eq!(
            number, requests,
            "a reply of a process that has ended is missing"
        );
    }
    for replies in [ended, late] {
        match replies {
            Ok(replies) => in_order(&replies, requests),
            Err(failure) => harmless::failure(&failure),
        }
    }
}

/// Each reply has the id of its request.
fn in_order(replies: &[u8], requests: usize) {
    let lines = replies.split(|byte| *byte == b'\n');
    let lines: Vec<_> = lines.filter(|line| !line.is_empty()).collect();
    assert!(lines.len() <= requests, "more replies than requests");
    for (id, line) in lines.iter().enumerate() {
        let reply: Value = serde_json::from_slice(line).expect("a reply is JSON");
        assert_eq!(reply["id"], id);
    }
}
