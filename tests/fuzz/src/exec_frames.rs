//! Frames of `exec`: a decoded frame encodes to the same bytes.

use patchbay_init::frame::Frame;

/// The data is a connection's bytes.
pub(crate) fn run(data: &[u8]) {
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
