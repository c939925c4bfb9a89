//! Against a scripted kernel: one that deletes by a filter, as Linux 6.12 does, and older ones.

use std::collections::VecDeque;

use patchbay_grammar::conntrack::parse;

use super::*;
use patchbay_netlink::Flags;

/// A kernel's flows, and how it takes messages with a filter.
#[derive(Default)]
struct Script {
    /// Answers to the filtered listing, then to the plain one.
    listings: VecDeque<Result<Vec<Vec<u8>>, Errno>>,
    /// Refusals of the commits, in order.
    commits: VecDeque<Vec<(usize, Errno)>>,
    /// How many requests each commit had, and its bytes.
    sent: Vec<(usize, Vec<u8>)>,
    /// How many flows the whole table has, each time that it is asked.
    totals: VecDeque<u32>,
    asked: usize,
}

fn refusal(errno: Errno) -> KernelError {
    KernelError {
        errno: errno as i32,
        text: None,
    }
}

impl Transport<Netfilter> for Script {
    fn send(&mut self, batch: &Batch<Netfilter>) -> Result<Vec<(usize, KernelError)>, Error> {
        self.sent.push((batch.len(), batch.bytes().to_vec()));
        let refused = self.commits.pop_front().unwrap_or_default();
        Ok(refused
            .into_iter()
            .map(|(at, no)| (at, refusal(no)))
            .collect())
    }

    fn dump(
        &mut self,
        request: &Batch<Netfilter>,
        each: &mut dyn FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        if request.bytes() == request::totals().bytes() {
            let total = self.totals.pop_front().unwrap_or(0);
            return each(&[&[0; 4][..], &[8, 0, 1, 0], &total.to_be_bytes()].concat());
        }
        self.asked += 1;
        match self.listings.pop_front().unwrap_or_else(|| Ok(Vec::new())) {
            Ok(flows) => flows.iter().try_for_each(|flow| each(flow)),
            Err(errno) => Err(Error::Refused(refusal(errno))),
        }
    }
}

/// A TCP flow of 10.0.0.9 to this address of 10.0.0.0/24, as the kernel tells it.
fn flow(last: u8) -> Vec<u8> {
    let tuple = |src: [u8; 4], dst: [u8; 4]| {
        move |body: &mut patchbay_netlink::Body<'_>| {
            body.nest(decode::CTA_TUPLE_IP, |ip| {
                ip.bytes(decode::CTA_IP_V4_SRC, src);
                ip.bytes(decode::CTA_IP_V4_DST, dst);
            });
            body.nest(decode::CTA_TUPLE_PROTO, |proto| {
                proto.u8(decode::CTA_PROTO_NUM, 6);
                proto.bytes(decode::CTA_PROTO_SRC_PORT, [4, 0]);
                proto.bytes(decode::CTA_PROTO_DST_PORT, [0, 80]);
            });
        }
    };
    let (client, server) = ([10, 0, 0, 9], [10, 0, 0, last]);
    let message: Batch<Netfilter> = Batch::of(0x100, Flags::Plain, |body| {
        body.raw(&[2, 0, 0, 0]);
        body.nest(request::CTA_TUPLE_ORIG, tuple(client, server));
        body.nest(2, tuple(server, client));
        body.bytes(request::CTA_ID, [0, 0, 0, last]);
    });
    message.bytes()[16..].to_vec()
}

fn script(listings: impl IntoIterator<Item = Result<Vec<Vec<u8>>, Errno>>) -> Script {
    Script {
        listings: listings.into_iter().collect(),
        ..Script::default()
    }
}

fn deleted(kernel: &mut Script, words: &[&str]) -> usize {
    delete(kernel, &parse(words).unwrap()).unwrap()
}

fn counts(kernel: &Script) -> Vec<usize> {
    kernel.sent.iter().map(|(requests, _)| *requests).collect()
}

const TO_ONE: &[&str] = &["-d", "10.0.0.1", "-p", "tcp"];

#[test]
fn a_kernel_that_deletes_by_the_filter_gets_one_message() {
    let mut kernel = script([Ok(vec![flow(1); 300])]);
    assert_eq!(deleted(&mut kernel, TO_ONE), 300);
    assert_eq!((kernel.asked, counts(&kernel)), (1, vec![1]));
    // DELETE, and the same filter by which they were counted.
    let (_, message) = &kernel.sent[0];
    assert_eq!(message[4..6], [2, 1]);
    let sieve = Sieve::of(&parse(TO_ONE).unwrap()).unwrap();
    assert_eq!(message[16..], sieve.listing().bytes()[16..]);
}

#[test]
fn a_kernel_that_refuses_it_deletes_them_one_by_one() {
    for no in [Errno::EINVAL, Errno::EOPNOTSUPP] {
        let mut kernel = script([Ok(vec![flow(1); 300])]);
        // One of them ended by itself.
        kernel.commits = [vec![(0, no)], vec![(7, Errno::ENOENT)]].into();
        assert_eq!(deleted(&mut kernel, TO_ONE), 299);
        assert_eq!(counts(&kernel), [1, 300]);
    }
}

#[test]
fn many_are_not_counted_one_by_one() {
    for (totals, told) in [
        ([5000, 3000], 2000),
        // Others began meanwhile: no fewer were deleted than were seen.
        ([5000, 5001], LOOKED_AT),
    ] {
        let mut kernel = script([Ok(vec![flow(1); 2000])]);
        kernel.totals = totals.into();
        assert_eq!(deleted(&mut kernel, TO_ONE), told);
        assert_eq!((kernel.asked, counts(&kernel)), (1, vec![1]));
    }
}

#[test]
fn many_are_found_again_for_a_kernel_that_refuses() {
    let many = || Ok(vec![flow(1); 2000]);
    let mut kernel = script([many(), many()]);
    kernel.commits = [vec![(0, Errno::EINVAL)]].into();
    assert_eq!(deleted(&mut kernel, TO_ONE), 2000);
    assert_eq!((kernel.asked, counts(&kernel)), (2, vec![1, 2000]));
}

#[test]
fn another_refusal_is_no_reason_to_go_on() {
    let mut kernel = script([Ok(vec![flow(1); 2])]);
    kernel.commits = [vec![(0, Errno::EPERM)]].into();
    let refused = delete(&mut kernel, &parse(TO_ONE).unwrap()).unwrap_err();
    assert!(matches!(refused, Error::Refused(no) if no.is(Errno::EPERM)));
    assert_eq!(counts(&kernel), [1]);
}

#[test]
fn a_filter_that_lets_strays_through_deletes_nothing_by_itself() {
    let mut kernel = script([Ok(vec![flow(1), flow(2), flow(1)])]);
    assert_eq!(deleted(&mut kernel, TO_ONE), 2);
    assert_eq!(counts(&kernel), [2]);
}

#[test]
fn a_filter_that_a_kernel_may_misread_deletes_nothing_by_itself() {
    for words in [
        &["-d", "10.0.0.1", "-s", "10.0.0.0/24"][..],
        &["-d", "10.0.0.1", "--zone", "0"],
        // A whole tuple, which an older kernel takes for one flow.
        &[
            "-s", "10.0.0.9", "-d", "10.0.0.1", "-p", "tcp", "--sport", "1024", "--dport", "80",
        ],
        &["-d", "10.0.0.1", "--mark", "0"],
        &["-d", "10.0.0.1", "--reply-dst", "10.0.0.9"],
    ] {
        let mut kernel = script([Ok(vec![flow(1); 3])]);
        assert_eq!(deleted(&mut kernel, words), 3, "{words:?}");
        assert_eq!(counts(&kernel), [3], "{words:?}");
    }
}

#[test]
fn a_kernel_without_any_filter_tells_all_flows() {
    let all = Ok(vec![flow(1), flow(2), flow(1)]);
    let mut kernel = script([Err(Errno::EOPNOTSUPP), all]);
    assert_eq!(deleted(&mut kernel, TO_ONE), 2);
    assert_eq!((kernel.asked, counts(&kernel)), (2, vec![2]));
}

#[test]
fn only_what_the_kernel_reads_aright_is_its_to_sift() {
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
        let sieve = Sieve::of(&parse(words).unwrap());
        assert_eq!(sieve.map(|sieve| sieve.flags()), flags, "{words:?}");
    }
}

proptest::proptest! {
    #[test]
    fn any_answer_ends(payload: Vec<u8>) {
        let _ = decode::flow(&payload);
    }
}
