//! Constants of `linux/netfilter/nfnetlink_conntrack.h`.

/// `NFNL_SUBSYS_CTNETLINK << 8` with `IPCTNL_MSG_CT_*`.
pub(super) const GET: u16 = 0x101;
pub(super) const DELETE: u16 = 0x102;
pub(super) const GET_STATS: u16 = 0x105;

/// Size of `nfgenmsg`: family u8, version u8, resource u16.
pub(super) const HEADER: usize = 4;

pub(super) const CTA_TUPLE_ORIG: u16 = 1;
pub(super) const CTA_TUPLE_REPLY: u16 = 2;
pub(super) const CTA_STATUS: u16 = 3;
pub(super) const CTA_PROTOINFO: u16 = 4;
pub(super) const CTA_TIMEOUT: u16 = 7;
pub(super) const CTA_MARK: u16 = 8;
pub(super) const CTA_ID: u16 = 12;
pub(super) const CTA_ZONE: u16 = 18;
pub(super) const CTA_FILTER: u16 = 25;

pub(super) const CTA_TUPLE_IP: u16 = 1;
pub(super) const CTA_TUPLE_PROTO: u16 = 2;
pub(super) const CTA_IP_V4_SRC: u16 = 1;
pub(super) const CTA_IP_V4_DST: u16 = 2;
pub(super) const CTA_IP_V6_SRC: u16 = 3;
pub(super) const CTA_IP_V6_DST: u16 = 4;
pub(super) const CTA_PROTO_NUM: u16 = 1;
pub(super) const CTA_PROTO_SRC_PORT: u16 = 2;
pub(super) const CTA_PROTO_DST_PORT: u16 = 3;

pub(super) const CTA_PROTOINFO_TCP: u16 = 1;
pub(super) const CTA_PROTOINFO_TCP_STATE: u16 = 1;

pub(super) const CTA_FILTER_ORIG_FLAGS: u16 = 1;
pub(super) const CTA_FILTER_REPLY_FLAGS: u16 = 2;

/// Bits of `CTA_FILTER_ORIG_FLAGS` (`CTA_FILTER_F_*` of `net/netfilter/nf_conntrack_netlink.c`).
pub(super) const BY_SRC: u32 = 1;
pub(super) const BY_DST: u32 = 2;
pub(super) const BY_PROTOCOL: u32 = 8;
pub(super) const BY_SRC_PORT: u32 = 16;
pub(super) const BY_DST_PORT: u32 = 32;

pub(super) const CTA_STATS_GLOBAL_ENTRIES: u16 = 1;
