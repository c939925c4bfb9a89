//! Calls of an agent: requirements, limits and interruption.

use std::time::{Duration, Instant};

use patchbay_types::failure::{Failure, Kind};
use patchbay_wire::{Feature, Token, status};
use ttrpc::context::Context;

use super::call_error::CallError;
use super::{Agent, MARGIN, MAX_HANDSHAKE_BYTES, MAX_REPLY_BYTES, REPLY_TIMEOUT, cancel};

/// Requirements and limits of a call.
#[derive(Clone, Copy)]
pub(super) struct Call {
    pub(super) feature: Feature,
    pub(super) max_bytes: u32,
    pub(super) timeout: Duration,
    pub(super) effect: Effect,
}

/// Effect of a call on the guest. It decides how the call is interrupted; a change is sent after the
/// handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// None.
    Reads,
    /// A change, which an interruption cancels.
    Changes,
    /// The same for one whose begin the caller marks.
    MarkedChange,
    /// A change that the caller undoes if it is given up.
    Undoable,
    /// A change whose begin the caller marks, and which is completed.
    Marked,
}

impl Call {
    /// A call that needs only the guest's kernel.
    pub(super) const fn short(feature: Feature) -> Self {
        Self {
            feature,
            max_bytes: MAX_REPLY_BYTES,
            timeout: REPLY_TIMEOUT,
            effect: Effect::Changes,
        }
    }

    /// The same for a call that changes nothing.
    pub(super) const fn reading(self) -> Self {
        self.with_effect(Effect::Reads)
    }

    pub(super) const fn with_effect(self, effect: Effect) -> Self {
        Self { effect, ..self }
    }

    pub(super) const fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }
}

/// Wait for the guest.
#[derive(Debug, Clone, Copy)]
pub struct GuestWait {
    /// Limit of the guest's part.
    pub limit: Duration,
    /// Effect of the call.
    pub effect: Effect,
}

impl Agent {
    pub(super) fn call<T, F: Future<Output = ttrpc::Result<T>>>(
        &self,
        limits: Call,
        call: impl FnOnce(Context) -> F,
    ) -> Result<T, Failure> {
        let _phase = tracing::info_span!("transport").entered();
        self.exchange(limits, call)
    }

    pub(super) fn exchange<T, F: Future<Output = ttrpc::Result<T>>>(
        &self,
        limits: Call,
        call: impl FnOnce(Context) -> F,
    ) -> Result<T, Failure> {
        self.budget
            .reset(limits.max_bytes.saturating_add(MAX_HANDSHAKE_BYTES));
        let token = cancel::token();
        let mut context = context(limits.timeout);
        context.add(Token::KEY.to_owned(), token.0.to_string());
        let call = with_timeout(limits.timeout, call(context));
        let call = self.interruptible(limits.effect, token, call);
        let handshake = async {
            match self.greeting.get() {
                Some(greeting) => greeting.require(limits.feature),
                None => self.handshake().await?.require(limits.feature),
            }
        };
        let reply = self.runtime.block_on(async {
            if limits.effect != Effect::Reads {
                handshake.await?;
                if matches!(limits.effect, Effect::Changes | Effect::Undoable) {
                    self.interrupt.begin_change()?;
                }
                return Ok(call.await);
            }
            // If the handshake fails, don't wait for the call.
            let both = tokio::try_join!(handshake, async { Ok(call.await) });
            both.map(|((), reply)| reply)
        })?;
        reply.map_err(|failure| self.budget.limit_error(failure))
    }

    async fn interruptible<T>(
        &self,
        effect: Effect,
        token: Token,
        call: impl Future<Output = Result<T, CallError>>,
    ) -> Result<T, Failure> {
        match effect {
            Effect::Changes | Effect::MarkedChange => {
                self.completed_or_cancelled(token, call).await
            }
            Effect::Undoable => tokio::select! {
                reply = call => Ok(reply?),
                failure = self.interrupt.requested() => Err(failure),
            },
            Effect::Reads | Effect::Marked => Ok(call.await?),
        }
    }
}

/// Returns the context of a call. ttrpc's own deadline is later than that of [`with_timeout`]: it has no
/// kind, and a peer that stops reading delays it.
pub(super) fn context(timeout: Duration) -> Context {
    ttrpc::context::with_duration(timeout + MARGIN)
}

pub(super) async fn with_timeout<T>(
    timeout: Duration,
    call: impl Future<Output = ttrpc::Result<T>>,
) -> Result<T, CallError> {
    let begun = Instant::now();
    match tokio::time::timeout(timeout, call).await {
        Ok(Ok(reply)) => Ok(reply),
        // On a busy host both deadlines can have passed before this process runs again.
        Ok(Err(error)) if begun.elapsed() < timeout => Err(match error {
            ttrpc::Error::RpcStatus(_) => CallError::Refused(status::to_failure(error)),
            _ => CallError::NoAnswer(status::to_failure(error)),
        }),
        Ok(Err(_)) | Err(_) => {
            let message = format!("the agent gave no answer in {} s", timeout.as_secs());
            Err(CallError::NoAnswer(Failure::new(Kind::Timeout, message)))
        }
    }
}
