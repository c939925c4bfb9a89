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
use patchbay_protocols::conntrack::{Filter, Flow};

use crate::netlink::{Batch, Error, Kernel, Netfilter, Refusal, gather};
use request::Sieve;

/// What a kernel answers that lacks the filter, or lacks it for this message.
fn no_filter(refusal: &Refusal) -> bool {
    refusal.is(Errno::EINVAL) || refusal.is(Errno::EOPNOTSUPP)
}

/// Requests that delete the flows that are meant, one each.
#[derive(Default)]
struct Found {
    deletes: Batch<Netfilter>,
    /// Flows that the kernel let through and the filter does not mean.
    strays: usize,
}

/// Deletes every flow that agrees with the whole filter, and returns how many there were: those
/// that were found, less those that ended by themselves before their turn. Where the kernel deletes
/// by the filter itself, flows that began after the count go too and are not in it.
pub fn delete(kernel: &mut impl Kernel<Netfilter>, filter: &Filter) -> Result<usize, Error> {
    let sieve = Sieve::of(filter);
    let sifted = match &sieve {
        Some(sieve) => match find(kernel, &sieve.listing(), filter) {
            Err(Error::Refused(refusal)) if no_filter(&refusal) => None,
            found => Some(found?),
        },
        None => None,
    };
    let Some(found) = sifted else {
        let listing = request::listing(filter.parts().family);
        let found = find(kernel, &listing, filter)?;
        return one_by_one(kernel, &found.deletes);
    };
    // One message may delete for the kernel only what its filter was just seen to mean.
    let whole = sieve.filter(|sieve| sieve.deletes_all(filter) && found.strays == 0);
    match whole {
        Some(sieve) if found.deletes.len() > 1 => match kernel.commit(&sieve.delete())?.pop() {
            None => Ok(found.deletes.len()),
            // Linux before 6.12 says so, and deletes nothing.
            Some((_, refusal)) if no_filter(&refusal) => one_by_one(kernel, &found.deletes),
            Some((_, refusal)) => Err(Error::Refused(refusal)),
        },
        _ => one_by_one(kernel, &found.deletes),
    }
}

fn find(
    kernel: &mut impl Kernel<Netfilter>,
    listing: &Batch<Netfilter>,
    filter: &Filter,
) -> Result<Found, Error> {
    gather(kernel, listing, |found: &mut Found, payload| {
        match decode::flow(payload)? {
            Some(tracked) if filter.matches(&tracked.flow) => {
                request::push_delete(&mut found.deletes, &tracked);
            }
            _ => found.strays += 1,
        }
        Ok(())
    })
}

fn one_by_one(
    kernel: &mut impl Kernel<Netfilter>,
    requests: &Batch<Netfilter>,
) -> Result<usize, Error> {
    let mut deleted = requests.len();
    for (_, refusal) in kernel.commit(requests)? {
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
    kernel: &mut impl Kernel<Netfilter>,
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
        match kernel.ask(&sieve.listing(), &mut matching) {
            Err(Error::Refused(refusal)) if no_filter(&refusal) => {}
            done => return done,
        }
    }
    let family = filter.and_then(|filter| filter.parts().family);
    kernel.ask(&request::listing(family), &mut matching)
}
