//! Answers of the host's kernel about the links, addresses, routes, neighbors and filters of a namespace:
//! reading ends, whatever the lengths in the datagram.

/// Runs the target.
pub(crate) fn run(data: &[u8]) {
    let count = patchbay_host::fuzz::namespace_links(data);
    // The smallest object is a hop of a multipath route.
    assert!(count <= data.len());
}
