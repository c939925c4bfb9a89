//! Phrases of kata-runtime, kept verbatim at the start of a message because scripts of operators match
//! them.

/// Field that `update-iface` can't change.
pub(crate) const FIXED_FIELD: &str =
    "it should be 0 or empty: an update changes only IPAddresses and mtu";

/// JSON document above the size limit.
pub(crate) const FILE_TOO_BIG: &str =
    "network file too big: a file has at most 1 MiB, standard input 16 MiB";

/// Route to add without a device or a destination.
pub(crate) const ROUTE_INCOMPLETE: &str = "device and destination must be specified";

/// Default route to add without a gateway.
pub(crate) const DEFAULT_WITHOUT_GATEWAY: &str =
    "gateway must be specified when destination is \"default\"";

/// Routes to delete without a destination.
pub(crate) const DELETE_WITHOUT_DEST: &str = "destination must be specified when remove route";

/// Destination that is not a network.
pub(crate) const INVALID_DEST: &str = "invalid input of IP: a destination is 'default', or an IPv4 or \
                                       IPv6 address with or without a prefix";

/// Destination without a prefix in `update-routes`.
pub(crate) const DEST_WITHOUT_PREFIX: &str = "Could not parse route destination: it needs a prefix";

/// Gateway or source that is not an address.
pub(crate) const INVALID_ADDRESS: &str = "invalid IP: it must be an IPv4 or IPv6 address";
