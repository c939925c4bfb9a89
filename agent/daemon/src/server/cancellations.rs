//! Cancellations of the requests in progress, by the token in a request's metadata.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use patchbay_netcfg::cancellation::Cancellation;
use patchbay_wire::Token;

/// Requests in progress that have a token; as many as there can be requests.
#[derive(Debug, Clone, Default)]
pub(super) struct Cancellations(Arc<Mutex<Vec<(Token, Cancellation)>>>);

/// Registration of a request in progress.
#[derive(Debug)]
pub(super) struct InProgress {
    all: Cancellations,
    token: Token,
}

impl Cancellations {
    /// Registers a request until the value is dropped.
    pub(super) fn register(&self, token: Token, cancellation: &Cancellation) -> InProgress {
        self.lock().push((token, cancellation.clone()));
        let all = self.clone();
        InProgress { all, token }
    }

    /// Cancels a request. One that has ended or has not begun is left alone.
    pub(super) fn request(&self, token: Token) {
        if let Some((_, found)) = self.lock().iter().find(|(other, _)| *other == token) {
            found.request();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Token, Cancellation)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        self.all.lock().retain(|(token, _)| *token != self.token);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_reaches_only_the_registered_token() {
        let (all, first, second) = <(Cancellations, Cancellation, Cancellation)>::default();
        all.request(Token(1));
        let registered = all.register(Token(1), &first);
        let _other = all.register(Token(2), &second);
        all.request(Token(3));
        assert!(!first.is_requested());
        all.request(Token(1));
        assert!(first.is_requested());
        assert!(!second.is_requested());
        drop(registered);
        assert_eq!(all.lock().len(), 1);
    }
}
