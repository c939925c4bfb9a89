//! Connection tracking by nfnetlink: find flows, list or delete those that are meant.
//!
//! The kernel's own filter is asked only for IPv4: its IPv6 half matches the flows that it should
//! not on Linux 6.1. What it lets through is matched again here, so a kernel without the filter
//! costs time and nothing else.

mod decode;
mod request;
#[cfg(test)]
mod tests;

use nix::errno::Errno;
use patchbay_types::conntrack::{Filter, Flow};

use patchbay_netlink::{Batch, Dump, Error, KernelError, Netfilter, Transport, collect_dump};
use request::Sieve;

/// What a kernel answers that lacks the filter, or lacks it for this message.
fn no_filter(refusal: &KernelError) -> bool {
    refusal.is(Errno::EINVAL) || refusal.is(Errno::EOPNOTSUPP)
}

/// Flows that are looked at before one message deletes them all. To list 10,000 takes the kernel
/// three times as long as to delete them.
const LOOKED_AT: usize = 512;

/// Requests that delete the flows that are meant, one each.
#[derive(Default)]
struct Found {
    deletes: Batch<Netfilter>,
    /// Flows that the kernel let through and the filter does not mean.
    strays: usize,
}

impl Found {
    fn take(&mut self, filter: &Filter, payload: &[u8]) -> Result<(), Error> {
        match decode::flow(payload)? {
            Some(tracked) if filter.matches(&tracked.flow) => {
                request::push_delete(&mut self.deletes, &tracked);
            }
            _ => self.strays += 1,
        }
        Ok(())
    }
}

/// Deletes every flow that agrees with the whole filter, and returns how many there were: those
/// that were found, less those that ended by themselves before their turn. Where the kernel deletes
/// by the filter itself, flows that began after the count go too and are not in it. If it deletes
/// more than `LOOKED_AT` that way, the number is by how much the whole table shrank.
pub fn delete(kernel: &mut impl Transport<Netfilter>, filter: &Filter) -> Result<usize, Error> {
    let listing = request::listing(filter.parts().family);
    let Some(sieve) = Sieve::of(filter) else {
        return listed(kernel, &listing, filter);
    };
    match sifted(kernel, &sieve, filter) {
        Err(Error::Refused(refusal)) if no_filter(&refusal) => listed(kernel, &listing, filter),
        done => done,
    }
}

/// By the kernel's own filter, or its refusal of that.
fn sifted(
    kernel: &mut impl Transport<Netfilter>,
    sieve: &Sieve,
    filter: &Filter,
) -> Result<usize, Error> {
    let listing = sieve.listing();
    if !sieve.deletes_all(filter) {
        return listed(kernel, &listing, filter);
    }
    let mut found = Found::default();
    let take = &mut |payload: &[u8]| found.take(filter, payload);
    let extent = kernel.dump_first(&listing, LOOKED_AT, take)?;
    // One message may delete for the kernel only what its filter was just seen to mean.
    if found.strays == 0
        && found.deletes.len() > 1
        && let Some(shrunk) = at_once(kernel, sieve)?
    {
        return Ok(match extent {
            Dump::Complete => found.deletes.len(),
            Dump::Truncated => shrunk.max(found.deletes.len()),
        });
    }
    match extent {
        Dump::Complete => one_by_one(kernel, &found.deletes),
        Dump::Truncated => listed(kernel, &listing, filter),
    }
}

/// Deletes what the sieve lets through by one message, and returns how many flows the table has
/// fewer; `None` where the kernel can't and has deleted nothing: before Linux 6.12.
fn at_once(kernel: &mut impl Transport<Netfilter>, sieve: &Sieve) -> Result<Option<usize>, Error> {
    let before = tracked(kernel)?;
    match kernel.send(&sieve.delete())?.pop() {
        None => Ok(Some(before.saturating_sub(tracked(kernel)?))),
        Some((_, refusal)) if no_filter(&refusal) => Ok(None),
        Some((_, refusal)) => Err(Error::Refused(refusal)),
    }
}

/// Number of flows in the whole table.
fn tracked(kernel: &mut impl Transport<Netfilter>) -> Result<usize, Error> {
    let mut entries = 0;
    kernel.dump(&request::totals(), &mut |payload| {
        entries = decode::entries(payload)?;
        Ok(())
    })?;
    Ok(usize::try_from(entries).unwrap_or(usize::MAX))
}

fn listed(
    kernel: &mut impl Transport<Netfilter>,
    listing: &Batch<Netfilter>,
    filter: &Filter,
) -> Result<usize, Error> {
    let found = collect_dump(kernel, listing, |found: &mut Found, payload| {
        found.take(filter, payload)
    })?;
    one_by_one(kernel, &found.deletes)
}

fn one_by_one(
    kernel: &mut impl Transport<Netfilter>,
    requests: &Batch<Netfilter>,
) -> Result<usize, Error> {
    let mut deleted = requests.len();
    for (_, refusal) in kernel.send(requests)? {
        if !refusal.is(Errno::ENOENT) {
            return Err(Error::Refused(refusal));
        }
        deleted -= 1;
    }
    Ok(deleted)
}

/// Hands over every flow, or those that agree with the whole filter. The table goes on changing
/// meanwhile, and the kernel says nothing of that.
pub fn each(
    kernel: &mut impl Transport<Netfilter>,
    filter: Option<&Filter>,
    flow: &mut dyn FnMut(&Flow),
) -> Result<(), Error> {
    let mut matching = |payload: &[u8]| {
        let tracked = decode::flow(payload)?;
        let meant = tracked.filter(|tracked| filter.is_none_or(|f| f.matches(&tracked.flow)));
        if let Some(tracked) = meant {
            flow(&tracked.flow);
        }
        Ok(())
    };
    if let Some(sieve) = filter.and_then(Sieve::of) {
        match kernel.dump(&sieve.listing(), &mut matching) {
            Err(Error::Refused(refusal)) if no_filter(&refusal) => {}
            done => return done,
        }
    }
    let family = filter.and_then(|filter| filter.parts().family);
    kernel.dump(&request::listing(family), &mut matching)
}
