//! Cancellation of a change when the command is interrupted (docs/decisions/0017).

use std::convert::Infallible;
use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use nix::errno::Errno;
use patchbay_types::failure::{Failure, Kind};
use patchbay_wire::proto::agent as wire;
use patchbay_wire::{Feature, Token};

use super::call_error::CallError;
use super::{Agent, HANDSHAKE_TIMEOUT};

/// Interval of requests to cancel: the agent ignores one that arrives before it carries out the change.
const INTERVAL: Duration = Duration::from_millis(100);

/// Returns a token that no other request has.
pub(super) fn token() -> Token {
    // Its keys are random.
    Token(RandomState::new().hash_one(()))
}

impl Agent {
    /// Waits for the reply to a change. If the command is interrupted, the agent cancels the change. One
    /// without the feature completes it, as does one that gets the request too late.
    pub(super) async fn completed_or_cancelled<T>(
        &self,
        token: Token,
        call: impl Future<Output = Result<T, CallError>>,
    ) -> Result<T, Failure> {
        let greeting = self.greeting.get();
        if !greeting.is_some_and(|greeting| greeting.has(Feature::Cancel)) {
            return Ok(call.await?);
        }
        tokio::pin!(call);
        tokio::select! {
            biased;
            reply = &mut call => return Ok(reply?),
            _ = self.interrupt.requested() => {}
        }
        let reply = tokio::select! {
            reply = call => reply,
            never = self.cancel(token) => match never {},
        };
        if reply.is_ok() {
            self.interrupt.postpone();
        }
        reply.map_err(outcome)
    }

    /// Requests the cancellation until the caller has the reply to the change.
    async fn cancel(&self, token: Token) -> Infallible {
        let request = wire::CancelRequest {
            token: token.0,
            ..wire::CancelRequest::default()
        };
        loop {
            let context = ttrpc::context::with_duration(HANDSHAKE_TIMEOUT);
            // The reply to the change is what counts.
            let _ = self.client.cancel(context, &request).await;
            tokio::time::sleep(INTERVAL).await;
        }
    }
}

/// Names the outcome of a change whose cancellation was requested.
fn outcome(error: CallError) -> Failure {
    match error {
        CallError::Refused(failure) if failure.errno() == Some(Errno::ECANCELED as i32) => {
            let is_undone = failure.chain().next().is_none();
            let message = if is_undone {
                "the change is undone"
            } else {
                "the change was stopped"
            };
            let stopped = Failure::new(Kind::Other, message);
            failure.chain().fold(stopped, Failure::with_cause)
        }
        CallError::Refused(failure) => failure,
        CallError::NoAnswer(failure) => {
            failure.with_cause("it is unknown whether the guest has carried out the change")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use async_trait::async_trait;
    use patchbay_wire::proto::agent_ttrpc;
    use patchbay_wire::status;
    use tokio::sync::Notify;
    use ttrpc::r#async::TtrpcContext;

    use super::super::tests::{hello, serve_agent};
    use super::*;
    use crate::interrupt::Interrupt;

    /// Agent whose host is interrupted by the first change.
    struct FakeAgent {
        features: &'static [&'static str],
        interrupt: Interrupt,
        /// Reply to a change, after the second request to cancel it if the agent has that feature.
        reply: Result<(), Failure>,
        cancelled: Notify,
        tokens: Arc<Mutex<Vec<Token>>>,
    }

    #[async_trait]
    impl agent_ttrpc::Agent for FakeAgent {
        async fn hello(
            &self,
            _: &TtrpcContext,
            _: wire::HelloRequest,
        ) -> ttrpc::Result<wire::HelloReply> {
            Ok(hello(self.features))
        }

        async fn replace_routes(
            &self,
            context: &TtrpcContext,
            _: wire::RoutesRequest,
        ) -> ttrpc::Result<wire::RoutesReply> {
            let token = Token::of_metadata(&context.metadata).unwrap();
            self.tokens.lock().unwrap().push(token);
            self.interrupt.request(|| ());
            if self.features.contains(&"cancel") {
                self.cancelled.notified().await;
            }
            let reply = self.reply.clone().map(|()| wire::RoutesReply::default());
            reply.map_err(|failure| status::from_failure(&failure))
        }

        async fn cancel(
            &self,
            _: &TtrpcContext,
            request: wire::CancelRequest,
        ) -> ttrpc::Result<wire::CancelReply> {
            let mut tokens = self.tokens.lock().unwrap();
            tokens.push(Token(request.token));
            if tokens.len() == 3 {
                self.cancelled.notify_one();
            }
            Ok(wire::CancelReply::default())
        }
    }

    /// Changes routes, and returns the result with the tokens that the agent has received.
    fn interrupted(
        features: &'static [&'static str],
        reply: Result<(), Failure>,
    ) -> (Result<(), Failure>, Vec<Token>) {
        let (result, tokens, _) = interrupted_before_check(features, reply);
        (result, tokens)
    }

    /// As [`interrupted`]; returns the result of the next check, too.
    fn interrupted_before_check(
        features: &'static [&'static str],
        reply: Result<(), Failure>,
    ) -> (Result<(), Failure>, Vec<Token>, Result<(), Failure>) {
        let dir = tempfile::tempdir().unwrap();
        let (interrupt, tokens) = (Interrupt::default(), Arc::default());
        let fake = FakeAgent {
            features,
            interrupt: interrupt.clone(),
            reply,
            cancelled: Notify::new(),
            tokens: Arc::clone(&tokens),
        };
        let agent = serve_agent(dir.path(), fake, &interrupt);
        let result = agent.replace_routes(&[]);
        let tokens = tokens.lock().unwrap().clone();
        (result, tokens, interrupt.check())
    }

    fn cancelled() -> Failure {
        Failure::new(Kind::Other, "cancelled").with_errno(Errno::ECANCELED as i32)
    }

    #[test]
    fn change_interrupted_is_cancelled_by_its_token() {
        let (result, tokens) = interrupted(&["routes", "cancel"], Err(cancelled()));
        assert_eq!(result.unwrap_err().line(), "the change is undone");
        assert_eq!(tokens.len(), 3);
        assert!(tokens.iter().all(|token| *token == tokens[0]));
        let (_, others) = interrupted(&["routes", "cancel"], Err(cancelled()));
        assert_ne!(others[0], tokens[0]);
    }

    #[test]
    fn change_interrupted_names_its_outcome() {
        let not_undone = cancelled().with_cause("and it could not be undone: x");
        let (result, _) = interrupted(&["routes", "cancel"], Err(not_undone));
        let line = "the change was stopped: and it could not be undone: x";
        assert_eq!(result.unwrap_err().line(), line);
        let (result, _) = interrupted(&["routes", "cancel"], Ok(()));
        assert_eq!(result, Ok(()));
        let refused = Failure::new(Kind::Exists, "there is another route");
        let (result, _) = interrupted(&["routes", "cancel"], Err(refused.clone()));
        assert_eq!(result, Err(refused));
        let lost = Failure::new(Kind::Timeout, "no answer in 60 s");
        let lost = outcome(CallError::NoAnswer(lost)).line();
        assert!(lost.contains("it is unknown whether"), "{lost}");
    }

    #[test]
    fn change_complete_in_spite_of_cancellation_leaves_the_request() {
        let features = &["routes", "cancel"];
        let (result, _, check) = interrupted_before_check(features, Ok(()));
        assert_eq!(result, Ok(()));
        assert_eq!(check.unwrap_err().line(), "the command was stopped");
        let (_, _, check) = interrupted_before_check(features, Err(cancelled()));
        assert_eq!(check, Ok(()));
    }

    #[test]
    fn change_interrupted_without_the_feature_completes() {
        let (result, tokens) = interrupted(&["routes"], Ok(()));
        assert_eq!((result, tokens.len()), (Ok(()), 1));
    }
}
