//! The frames of `exec`: what is read is written as the same bytes.

use patchbay_init::frame::Frame;

/// A connection's bytes, frame by frame.
pub fn run(data: &[u8]) {
    let mut rest = data;
    loop {
        let before = rest;
        let Ok(Some(frame)) = Frame::read_from(&mut rest) else {
            return;
        };
        let mut written = Vec::new();
        frame
            .write_to(&mut written)
            .expect("what was read can be written");
        assert_eq!(written, before[..before.len() - rest.len()]);
    }
}
