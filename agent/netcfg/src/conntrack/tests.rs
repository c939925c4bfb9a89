//! Tests against a fake kernel that deletes by filter, as Linux 6.12 does, or not.

use std::collections::VecDeque;

use patchbay_grammar::{NoNames, conntrack};

use super::*;
use patchbay_netlink::Flags;
use patchbay_types::conntrack::Icmp;

fn parse(words: &[&str]) -> Filter {
    conntrack::parse(&NoNames, words).unwrap()
}

/// Fake kernel with scripted replies.
#[derive(Default)]
struct FakeKernel {
    /// Replies to the filtered dump, then to the unfiltered one.
    dumps: VecDeque<Result<Vec<Vec<u8>>, Errno>>,
    /// Errors of each batch.
    errors: VecDeque<Vec<(usize, Errno)>>,
    /// Number of requests and bytes of each batch.
    sent: Vec<(usize, Vec<u8>)>,
    /// Replies to requests for the number of flows.
    counts: VecDeque<u32>,
    dump_count: usize,
}

impl Transport<Netfilter> for FakeKernel {
    fn send(&mut self, batch: &Batch<Netfilter>) -> Result<Vec<(usize, KernelError)>, Error> {
        self.sent.push((batch.len(), batch.bytes().to_vec()));
        let errors = self.errors.pop_front().unwrap_or_default();
        Ok(errors
            .into_iter()
            .map(|(position, errno)| (position, errno.into()))
            .collect())
    }

    fn dump(
        &mut self,
        request: &Batch<Netfilter>,
        each: patchbay_netlink::Each<'_>,
    ) -> Result<(), Error> {
        if request.bytes() == request::count().bytes() {
            let count = self.counts.pop_front().unwrap_or(0);
            return each(&[&[0; 4][..], &[8, 0, 1, 0], &count.to_be_bytes()].concat());
        }
        self.dump_count += 1;
        match self.dumps.pop_front().unwrap_or_else(|| Ok(Vec::new())) {
            Ok(flows) => flows.iter().try_for_each(|flow| each(flow)),
            Err(errno) => Err(Error::Refused(errno.into())),
        }
    }
}

/// Encodes a TCP flow from 10.0.0.9 to 10.0.0.`last`.
fn flow(last: u8) -> Vec<u8> {
    let tuple = |src: [u8; 4], dst: [u8; 4]| {
        move |body: &mut patchbay_netlink::Body<'_>| {
            body.nest(consts::CTA_TUPLE_IP, |ip| {
                ip.bytes(consts::CTA_IP_V4_SRC, src);
                ip.bytes(consts::CTA_IP_V4_DST, dst);
            });
            body.nest(consts::CTA_TUPLE_PROTO, |proto| {
                proto.u8(consts::CTA_PROTO_NUM, 6);
                proto.bytes(consts::CTA_PROTO_SRC_PORT, [4, 0]);
                proto.bytes(consts::CTA_PROTO_DST_PORT, [0, 80]);
            });
        }
    };
    let (client, server) = ([10, 0, 0, 9], [10, 0, 0, last]);
    let message: Batch<Netfilter> = Batch::of(0x100, Flags::Plain, |body| {
        body.raw(&[2, 0, 0, 0]);
        body.nest(consts::CTA_TUPLE_ORIG, tuple(client, server));
        body.nest(2, tuple(server, client));
        body.bytes(consts::CTA_ID, [0, 0, 0, last]);
    });
    message.bytes()[16..].to_vec()
}

fn kernel_with(dumps: impl IntoIterator<Item = Result<Vec<Vec<u8>>, Errno>>) -> FakeKernel {
    FakeKernel {
        dumps: dumps.into_iter().collect(),
        ..FakeKernel::default()
    }
}

fn deleted(kernel: &mut FakeKernel, words: &[&str]) -> usize {
    delete(kernel, &parse(words)).unwrap()
}

fn batch_sizes(kernel: &FakeKernel) -> Vec<usize> {
    kernel.sent.iter().map(|(requests, _)| *requests).collect()
}

const TO_ONE: &[&str] = &["-d", "10.0.0.1", "-p", "tcp"];

#[test]
fn delete_by_kernel_filter_sends_one_request() {
    let mut kernel = kernel_with([Ok(vec![flow(1); 300])]);
    assert_eq!(deleted(&mut kernel, TO_ONE), 300);
    assert_eq!((kernel.dump_count, batch_sizes(&kernel)), (1, vec![1]));
    // IPCTNL_MSG_CT_DELETE with the filter of the dump.
    let (_, message) = &kernel.sent[0];
    assert_eq!(message[4..6], [2, 1]);
    let kernel_filter = KernelFilter::of(&parse(TO_ONE)).unwrap();
    assert_eq!(message[16..], kernel_filter.list().bytes()[16..]);
}

#[test]
fn delete_without_kernel_filter_deletes_each() {
    for no in [Errno::EINVAL, Errno::EOPNOTSUPP] {
        let mut kernel = kernel_with([Ok(vec![flow(1); 300])]);
        // One flow ends by itself.
        kernel.errors = [vec![(0, no)], vec![(7, Errno::ENOENT)]].into();
        assert_eq!(deleted(&mut kernel, TO_ONE), 299);
        assert_eq!(batch_sizes(&kernel), [1, 300]);
    }
}

#[test]
fn delete_above_scan_limit_counts_by_table_size() {
    for (counts, expected) in [
        ([5000, 3000], 2000),
        // New flows began: the result is at least the number of listed ones.
        ([5000, 5001], SCAN_LIMIT),
    ] {
        let mut kernel = kernel_with([Ok(vec![flow(1); 2000])]);
        kernel.counts = counts.into();
        assert_eq!(deleted(&mut kernel, TO_ONE), expected);
        assert_eq!((kernel.dump_count, batch_sizes(&kernel)), (1, vec![1]));
    }
}

#[test]
fn delete_above_scan_limit_lists_again_without_filter() {
    let many = || Ok(vec![flow(1); 2000]);
    let mut kernel = kernel_with([many(), many()]);
    kernel.errors = [vec![(0, Errno::EINVAL)]].into();
    assert_eq!(deleted(&mut kernel, TO_ONE), 2000);
    assert_eq!(
        (kernel.dump_count, batch_sizes(&kernel)),
        (2, vec![1, 2000])
    );
}

#[test]
fn delete_stops_at_other_error() {
    let mut kernel = kernel_with([Ok(vec![flow(1); 2])]);
    kernel.errors = [vec![(0, Errno::EPERM)]].into();
    let refused = delete(&mut kernel, &parse(TO_ONE)).unwrap_err();
    assert!(matches!(refused, Error::Refused(no) if no.is(Errno::EPERM)));
    assert_eq!(batch_sizes(&kernel), [1]);
}

#[test]
fn delete_with_unmatched_flows_deletes_each() {
    let mut kernel = kernel_with([Ok(vec![flow(1), flow(2), flow(1)])]);
    assert_eq!(deleted(&mut kernel, TO_ONE), 2);
    assert_eq!(batch_sizes(&kernel), [2]);
}

#[test]
fn delete_by_ambiguous_filter_deletes_each() {
    for words in [
        &["-d", "10.0.0.1", "-s", "10.0.0.0/24"][..],
        &["-d", "10.0.0.1", "--zone", "0"],
        // A complete tuple, with which Linux before 6.12 deletes a single flow.
        &[
            "-s", "10.0.0.9", "-d", "10.0.0.1", "-p", "tcp", "--sport", "1024", "--dport", "80",
        ],
        &["-d", "10.0.0.1", "--mark", "0"],
        &["-d", "10.0.0.1", "--reply-dst", "10.0.0.9"],
    ] {
        let mut kernel = kernel_with([Ok(vec![flow(1); 3])]);
        assert_eq!(deleted(&mut kernel, words), 3, "{words:?}");
        assert_eq!(batch_sizes(&kernel), [3], "{words:?}");
    }
}

#[test]
fn delete_without_any_filter_support_lists_all() {
    let all = Ok(vec![flow(1), flow(2), flow(1)]);
    let mut kernel = kernel_with([Err(Errno::EOPNOTSUPP), all]);
    assert_eq!(deleted(&mut kernel, TO_ONE), 2);
    assert_eq!((kernel.dump_count, batch_sizes(&kernel)), (2, vec![2]));
}

#[test]
fn kernel_filter_has_only_supported_fields() {
    for (words, flags) in [
        (&["-d", "10.0.0.1", "-p", "tcp"][..], Some(2 | 8)),
        (&["-s", "10.0.0.1"], Some(1)),
        (
            &["-d", "10.0.0.1", "-p", "udp", "--dport", "53"],
            Some(2 | 8 | 32),
        ),
        (
            &["-d", "10.0.0.1", "-p", "tcp", "--sport", "53"],
            Some(2 | 8 | 16),
        ),
        (
            &["-d", "10.0.0.1", "-p", "sctp", "--dport", "53"],
            Some(2 | 8),
        ),
        (&["-d", "10.0.0.0/24"], None),
        (&["-d", "2001:db8::1"], None),
        (&["-p", "tcp"], None),
    ] {
        let kernel_filter = KernelFilter::of(&parse(words));
        assert_eq!(
            kernel_filter.map(|kernel_filter| kernel_filter.flags()),
            flags,
            "{words:?}"
        );
    }
}

#[test]
fn decode_reads_icmp_zones_labels_and_state() {
    let tuple = |zone: u16, kind: u8| {
        move |body: &mut patchbay_netlink::Body<'_>| {
            body.nest(consts::CTA_TUPLE_IP, |ip| {
                ip.bytes(consts::CTA_IP_V4_SRC, [10, 0, 0, 9]);
                ip.bytes(consts::CTA_IP_V4_DST, [10, 0, 0, 1]);
            });
            body.nest(consts::CTA_TUPLE_PROTO, |proto| {
                proto.u8(consts::CTA_PROTO_NUM, 1);
                proto.bytes(consts::CTA_PROTO_ICMP_ID, [1, 2]);
                proto.u8(consts::CTA_PROTO_ICMP_TYPE, kind);
                proto.u8(consts::CTA_PROTO_ICMP_CODE, 3);
            });
            body.bytes(consts::CTA_TUPLE_ZONE, zone.to_be_bytes());
        }
    };
    let message: Batch<Netfilter> = Batch::of(0x100, Flags::Plain, |body| {
        body.raw(&[2, 0, 0, 0]);
        body.nest(consts::CTA_TUPLE_ORIG, tuple(5, 8));
        body.nest(consts::CTA_TUPLE_REPLY, tuple(6, 0));
        // CTA_PROTOINFO_SCTP
        body.nest(consts::CTA_PROTOINFO, |info| {
            info.nest(3, |sctp| sctp.u8(consts::CTA_PROTOINFO_STATE, 4));
        });
        let mut labels = [0; 16];
        (labels[0], labels[15]) = (0b1000, 0x80);
        body.bytes(consts::CTA_LABELS, labels);
    });
    let listed = decode::flow(&message.bytes()[16..]).unwrap().unwrap();
    let icmp = |kind| {
        Some(Icmp {
            kind,
            code: 3,
            id: 258,
        })
    };
    let Flow {
        orig,
        reply,
        state,
        labels,
        ..
    } = listed.flow;
    assert_eq!((orig.icmp, reply.icmp), (icmp(8), icmp(0)));
    assert_eq!((orig.zone, reply.zone, state), (5, 6, Some(4)));
    assert_eq!(labels, 1 << 127 | 1 << 3);
}

proptest::proptest! {
    #[test]
    fn decode_of_any_reply_terminates(payload: Vec<u8>) {
        let _ = decode::flow(&payload);
    }
}
