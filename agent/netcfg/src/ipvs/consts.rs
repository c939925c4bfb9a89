//! Constants of `linux/ip_vs.h`.

pub(super) const FAMILY: &str = "IPVS";

numbers! { pub(super) u8:
    CMD_NEW_SERVICE = 1, CMD_SET_SERVICE = 2, CMD_DEL_SERVICE = 3, CMD_GET_SERVICE = 4,
    CMD_NEW_DEST = 5, CMD_SET_DEST = 6, CMD_DEL_DEST = 7, CMD_GET_DEST = 8, CMD_NEW_DAEMON = 9,
    CMD_DEL_DAEMON = 10, CMD_GET_DAEMON = 11, CMD_SET_CONFIG = 12, CMD_GET_CONFIG = 13,
    CMD_GET_INFO = 15, CMD_ZERO = 16, CMD_FLUSH = 17,
}

/// Top-level attributes (`IPVS_CMD_ATTR_*`).
pub(super) mod top {
    numbers! { pub(crate) u16:
        SERVICE = 1, DEST = 2, DAEMON = 3, TIMEOUT_TCP = 4, TIMEOUT_TCP_FIN = 5, TIMEOUT_UDP = 6,
    }
}

/// Attributes of the reply to `CMD_GET_INFO` (`IPVS_INFO_ATTR_*`).
pub(super) mod info {
    pub(crate) const VERSION: u16 = 1;
    pub(crate) const CONN_TAB_SIZE: u16 = 2;
}

/// Attributes in `top::SERVICE` (`IPVS_SVC_ATTR_*`).
pub(super) mod svc {
    numbers! { pub(crate) u16:
        AF = 1, PROTOCOL = 2, ADDR = 3, PORT = 4, FWMARK = 5, SCHED_NAME = 6, FLAGS = 7,
        TIMEOUT = 8, NETMASK = 9, STATS = 10, PE_NAME = 11, STATS64 = 12,
    }
}

/// Attributes in `top::DAEMON` (`IPVS_DAEMON_ATTR_*`).
pub(super) mod daemon {
    numbers! { pub(crate) u16:
        STATE = 1, MCAST_IFN = 2, SYNC_ID = 3, SYNC_MAXLEN = 4, MCAST_GROUP = 5, MCAST_GROUP6 = 6,
        MCAST_PORT = 7, MCAST_TTL = 8,
    }
}

/// `IP_VS_SVC_F_*`. The kernel adds `HASHED` (2) in its replies.
pub(super) const SVC_PERSISTENT: u32 = 1;
pub(super) const SVC_ONEPACKET: u32 = 4;
/// Bit of the first of the scheduler's three flags.
pub(super) const SVC_SCHED_SHIFT: u32 = 3;

/// `IP_VS_CONN_F_FWD_MASK`.
pub(super) const FWD_MASK: u32 = 7;
