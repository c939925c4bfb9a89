//! Constants of `linux/ip_vs.h`.

pub(super) const FAMILY: &str = "IPVS";

pub(super) const CMD_NEW_SERVICE: u8 = 1;
pub(super) const CMD_SET_SERVICE: u8 = 2;
pub(super) const CMD_DEL_SERVICE: u8 = 3;
pub(super) const CMD_GET_SERVICE: u8 = 4;
pub(super) const CMD_NEW_DEST: u8 = 5;
pub(super) const CMD_SET_DEST: u8 = 6;
pub(super) const CMD_DEL_DEST: u8 = 7;
pub(super) const CMD_GET_DEST: u8 = 8;
pub(super) const CMD_NEW_DAEMON: u8 = 9;
pub(super) const CMD_DEL_DAEMON: u8 = 10;
pub(super) const CMD_GET_DAEMON: u8 = 11;
pub(super) const CMD_SET_CONFIG: u8 = 12;
pub(super) const CMD_GET_CONFIG: u8 = 13;
pub(super) const CMD_GET_INFO: u8 = 15;
pub(super) const CMD_ZERO: u8 = 16;
pub(super) const CMD_FLUSH: u8 = 17;

/// Top-level attributes (`IPVS_CMD_ATTR_*`).
pub(super) mod top {
    pub(crate) const SERVICE: u16 = 1;
    pub(crate) const DEST: u16 = 2;
    pub(crate) const DAEMON: u16 = 3;
    pub(crate) const TIMEOUT_TCP: u16 = 4;
    pub(crate) const TIMEOUT_TCP_FIN: u16 = 5;
    pub(crate) const TIMEOUT_UDP: u16 = 6;
}

/// Attributes of the reply to `CMD_GET_INFO` (`IPVS_INFO_ATTR_*`).
pub(super) mod info {
    pub(crate) const VERSION: u16 = 1;
    pub(crate) const CONN_TAB_SIZE: u16 = 2;
}

/// Attributes in `top::SERVICE` (`IPVS_SVC_ATTR_*`).
pub(super) mod svc {
    pub(crate) const AF: u16 = 1;
    pub(crate) const PROTOCOL: u16 = 2;
    pub(crate) const ADDR: u16 = 3;
    pub(crate) const PORT: u16 = 4;
    pub(crate) const FWMARK: u16 = 5;
    pub(crate) const SCHED_NAME: u16 = 6;
    pub(crate) const FLAGS: u16 = 7;
    pub(crate) const TIMEOUT: u16 = 8;
    pub(crate) const NETMASK: u16 = 9;
    pub(crate) const STATS: u16 = 10;
    pub(crate) const PE_NAME: u16 = 11;
    pub(crate) const STATS64: u16 = 12;
}

/// Attributes in `top::DAEMON` (`IPVS_DAEMON_ATTR_*`).
pub(super) mod daemon {
    pub(crate) const STATE: u16 = 1;
    pub(crate) const MCAST_IFN: u16 = 2;
    pub(crate) const SYNC_ID: u16 = 3;
    pub(crate) const SYNC_MAXLEN: u16 = 4;
    pub(crate) const MCAST_GROUP: u16 = 5;
    pub(crate) const MCAST_GROUP6: u16 = 6;
    pub(crate) const MCAST_PORT: u16 = 7;
    pub(crate) const MCAST_TTL: u16 = 8;
}

/// `IP_VS_SVC_F_*`. The kernel adds `HASHED` (2) in its replies.
pub(super) const SVC_PERSISTENT: u32 = 1;
pub(super) const SVC_ONEPACKET: u32 = 4;
/// Bit of the first of the scheduler's three flags.
pub(super) const SVC_SCHED_SHIFT: u32 = 3;

/// `IP_VS_CONN_F_FWD_MASK`.
pub(super) const FWD_MASK: u32 = 7;
