//! Constants of `linux/netfilter/nfnetlink_conntrack.h`.

// `NFNL_SUBSYS_CTNETLINK << 8` with `IPCTNL_MSG_CT_*`.
numbers! { pub(super) u16:
    GET = 0x101, DELETE = 0x102, GET_STATS = 0x105,
}

/// Size of `nfgenmsg`: family u8, version u8, resource u16.
pub(super) const HEADER: usize = 4;

numbers! { pub(super) u16:
    CTA_TUPLE_ORIG = 1, CTA_TUPLE_REPLY = 2, CTA_STATUS = 3, CTA_PROTOINFO = 4, CTA_TIMEOUT = 7,
    CTA_MARK = 8, CTA_ID = 12, CTA_ZONE = 18, CTA_LABELS = 22, CTA_FILTER = 25,
    // In CTA_TUPLE_ORIG and CTA_TUPLE_REPLY.
    CTA_TUPLE_IP = 1, CTA_TUPLE_PROTO = 2, CTA_TUPLE_ZONE = 3, CTA_IP_V4_SRC = 1, CTA_IP_V4_DST = 2,
    CTA_IP_V6_SRC = 3, CTA_IP_V6_DST = 4, CTA_PROTO_NUM = 1, CTA_PROTO_SRC_PORT = 2,
    CTA_PROTO_DST_PORT = 3, CTA_PROTO_ICMP_ID = 4, CTA_PROTO_ICMP_TYPE = 5, CTA_PROTO_ICMP_CODE = 6,
    CTA_PROTO_ICMPV6_ID = 7, CTA_PROTO_ICMPV6_TYPE = 8, CTA_PROTO_ICMPV6_CODE = 9,
    // In CTA_PROTOINFO: TCP 1, DCCP 2, SCTP 3, each with its state first; and in CTA_FILTER.
    CTA_PROTOINFO_STATE = 1,
    CTA_FILTER_ORIG_FLAGS = 1, CTA_FILTER_REPLY_FLAGS = 2,
    // In the reply to GET_STATS.
    CTA_STATS_GLOBAL_ENTRIES = 1,
}

// Bits of `CTA_FILTER_ORIG_FLAGS` (`CTA_FILTER_F_*` of `net/netfilter/nf_conntrack_netlink.c`).
numbers! { pub(super) u32:
    BY_SRC = 1, BY_DST = 2, BY_PROTOCOL = 8, BY_SRC_PORT = 16, BY_DST_PORT = 32,
}
