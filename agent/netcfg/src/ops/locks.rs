//! Locks between requests. Lists of interfaces take none, changes exclude others of the same link.
//! Changes of routes exclude each other, lists of routes, and the moments in which the change of a link
//! can lose routes.

use std::collections::HashSet;
use std::sync::{
    Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
};

/// Links that are being changed.
#[derive(Debug, Default)]
pub(super) struct BusyLinks {
    indexes: Mutex<HashSet<u32>>,
    freed: Condvar,
}

/// A link that no other request changes.
#[derive(Debug)]
pub(super) struct BusyLink<'a> {
    links: &'a BusyLinks,
    index: u32,
}

impl BusyLinks {
    /// Waits until no other request changes link `index`.
    pub(super) fn take(&self, index: u32) -> BusyLink<'_> {
        let mut indexes = self.lock();
        while !indexes.insert(index) {
            let waited = self.freed.wait(indexes);
            indexes = waited.unwrap_or_else(PoisonError::into_inner);
        }
        BusyLink { links: self, index }
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<u32>> {
        self.indexes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for BusyLink<'_> {
    fn drop(&mut self) {
        self.links.lock().remove(&self.index);
        self.links.freed.notify_all();
    }
}

/// Lock of the routing tables.
#[derive(Debug, Default)]
pub(super) struct Tables(RwLock<()>);

impl Tables {
    /// Excludes changes of routes while a change of a link loses and restores some.
    pub(super) fn share(&self) -> RwLockReadGuard<'_, ()> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Excludes all others, for a change or a list of routes.
    pub(super) fn exclude(&self) -> RwLockWriteGuard<'_, ()> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use super::*;

    #[test]
    fn busy_link_excludes_the_same_link_only() {
        let (links, freed) = (BusyLinks::default(), AtomicBool::new(false));
        thread::scope(|scope| {
            let first = links.take(1);
            scope.spawn(|| {
                let _same = links.take(1);
                assert!(freed.load(Ordering::SeqCst));
            });
            drop(links.take(2));
            freed.store(true, Ordering::SeqCst);
            drop(first);
        });
        drop(links.take(1));
    }
}
