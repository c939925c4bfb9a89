//! Phrases of kata-runtime that scripts may match. They are kept as they are, even where they break
//! the style of patchbay's own messages.

/// Field that `update-iface` can't change.
pub(crate) const FIXED_FIELD: &str =
    "it should be 0 or empty: an update changes only IPAddresses and mtu";

/// JSON document above the size limit.
pub(crate) const FILE_TOO_BIG: &str =
    "network file too big: a file has at most 1 MiB, standard input 16 MiB";
