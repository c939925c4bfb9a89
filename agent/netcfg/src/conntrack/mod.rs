//! Connection tracking over nfnetlink: lists or deletes the flows that match a filter.
//!
//! The kernel's own filter is used for IPv4 only: on Linux 6.1 its IPv6 part also matches other flows.
//! Every flow is matched again here, so a kernel without the filter only costs time.

mod consts;
mod decode;
mod request;
#[cfg(test)]
mod tests;

use nix::errno::Errno;
use patchbay_types::conntrack::{Filter, Flow};

use patchbay_netlink::{Batch, Dump, Error, KernelError, Netfilter, Transport, collect_dump, get};
use request::KernelFilter;

/// Returns whether the kernel lacks the filter, or lacks it for this type of message.
fn is_unsupported(error: &KernelError) -> bool {
    error.is(Errno::EINVAL) || error.is(Errno::EOPNOTSUPP)
}

/// Maximum number of flows to list before a single request deletes all matching ones. Listing 10,000
/// flows takes the kernel three times as long as deleting them.
const SCAN_LIMIT: usize = 512;

/// Result of matching listed flows against a filter.
#[derive(Default)]
struct Matches {
    /// One delete request per matching flow.
    deletes: Batch<Netfilter>,
    /// Number of flows that don't match.
    unmatched: usize,
}

impl Matches {
    fn add(&mut self, filter: &Filter, payload: &[u8]) -> Result<(), Error> {
        match decode::flow(payload)? {
            Some(listed) if filter.matches(&listed.flow) => {
                request::push_delete(&mut self.deletes, &listed);
            }
            _ => self.unmatched += 1,
        }
        Ok(())
    }
}

/// Deletes every flow that matches `filter` and returns their number.
///
/// Flows that end by themselves before their deletion don't count. If the kernel deletes by its own
/// filter (Linux 6.12 and later), flows that begin after the count are deleted too and don't count,
/// and above 512 flows the number is the difference in size of the whole table.
///
/// # Errors
/// Fails if the transport fails, or the kernel refuses to list or delete.
pub fn delete(socket: &mut impl Transport<Netfilter>, filter: &Filter) -> Result<usize, Error> {
    if let Some(kernel_filter) = KernelFilter::of(filter) {
        match delete_filtered(socket, &kernel_filter, filter) {
            Err(Error::Refused(error)) if is_unsupported(&error) => {}
            result => return result,
        }
    }
    list_and_delete(socket, &request::list(filter.parts().family), filter)
}

/// Deletes with the kernel's filter; fails if the kernel doesn't support it.
fn delete_filtered(
    socket: &mut impl Transport<Netfilter>,
    kernel_filter: &KernelFilter,
    filter: &Filter,
) -> Result<usize, Error> {
    let list = kernel_filter.list();
    if !kernel_filter.can_delete(filter) {
        return list_and_delete(socket, &list, filter);
    }
    let mut matches = Matches::default();
    let add = &mut |payload: &[u8]| matches.add(filter, payload);
    let dump = socket.dump_first(&list, SCAN_LIMIT, add)?;
    // The kernel's filter may delete only if it has just listed nothing but matching flows.
    if matches.unmatched == 0
        && matches.deletes.len() > 1
        && let Some(shrunk) = delete_at_once(socket, kernel_filter)?
    {
        return Ok(match dump {
            Dump::Complete => matches.deletes.len(),
            Dump::Truncated => shrunk.max(matches.deletes.len()),
        });
    }
    match dump {
        Dump::Complete => delete_each(socket, &matches.deletes),
        Dump::Truncated => list_and_delete(socket, &list, filter),
    }
}

/// Deletes by the kernel's filter with a single request, and returns by how many flows the table
/// shrank. `None` if the kernel doesn't support that (Linux before 6.12) and has deleted nothing.
fn delete_at_once(
    socket: &mut impl Transport<Netfilter>,
    kernel_filter: &KernelFilter,
) -> Result<Option<usize>, Error> {
    let before = count(socket)?;
    match socket.send(&kernel_filter.delete())?.pop() {
        None => Ok(Some(before.saturating_sub(count(socket)?))),
        Some((_, error)) if is_unsupported(&error) => Ok(None),
        Some((_, error)) => Err(Error::Refused(error)),
    }
}

/// Returns the number of flows in the whole table.
fn count(socket: &mut impl Transport<Netfilter>) -> Result<usize, Error> {
    let count = get(socket, &request::count(), decode::count)?;
    Ok(usize::try_from(count).unwrap_or(usize::MAX))
}

fn list_and_delete(
    socket: &mut impl Transport<Netfilter>,
    list: &Batch<Netfilter>,
    filter: &Filter,
) -> Result<usize, Error> {
    let matches = collect_dump(socket, list, |matches: &mut Matches, payload| {
        matches.add(filter, payload)
    })?;
    delete_each(socket, &matches.deletes)
}

fn delete_each(
    socket: &mut impl Transport<Netfilter>,
    requests: &Batch<Netfilter>,
) -> Result<usize, Error> {
    let mut deleted = requests.len();
    for (_, error) in socket.send(requests)? {
        if !error.is(Errno::ENOENT) {
            return Err(Error::Refused(error));
        }
        deleted -= 1;
    }
    Ok(deleted)
}

/// Passes every flow, or those that match `filter`, to `each`. Not a snapshot: the table changes
/// during the dump and the kernel doesn't report it.
///
/// # Errors
/// Fails if the transport fails, or the kernel refuses to list.
pub fn each(
    socket: &mut impl Transport<Netfilter>,
    filter: Option<&Filter>,
    each: &mut dyn FnMut(&Flow),
) -> Result<(), Error> {
    let mut matching = |payload: &[u8]| {
        if let Some(listed) = decode::flow(payload)?
            && filter.is_none_or(|filter| filter.matches(&listed.flow))
        {
            each(&listed.flow);
        }
        Ok(())
    };
    if let Some(kernel_filter) = filter.and_then(KernelFilter::of) {
        match socket.dump(&kernel_filter.list(), &mut matching) {
            Err(Error::Refused(error)) if is_unsupported(&error) => {}
            result => return result,
        }
    }
    let family = filter.and_then(|filter| filter.parts().family);
    socket.dump(&request::list(family), &mut matching)
}
