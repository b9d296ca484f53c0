//! EndTxn 0-5: the client decides its transaction.
//!
//! Up to v4 the producer epoch stays, so the state alone tells a retry from something new. From v5 on (transaction version 2, KIP-890)
//! every end takes a new epoch, which is answered; the epoch before means a retry, and an abort without a transaction is fine, as the
//! client can not know whether its first produce arrived:
//!
//! ```text
//!  state           abort, retry   abort, current   commit, retry   commit, current
//!  Empty           fenced         new epoch        fenced          INVALID_TXN_STATE
//!  CompleteAbort   as before      new epoch        INVALID_TXN_..  INVALID_TXN_STATE
//!  CompleteCommit  INVALID_TXN_.. new epoch        as before       INVALID_TXN_STATE
//! ```

use super::coordinator::TransactionCoordinator;
use super::entry::{Entry, is_exhausted};
use super::guards::Guard;
use super::state::TransactionState;
use crate::group::Context;
use crate::outcome::{Outcome, Response};
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::end_txn_request::EndTxnRequest;
use ottla_protocol::messages::end_txn_response::EndTxnResponse;
use std::sync::Arc;

/// First version whose clients take a new epoch with every end.
const FIRST_BUMPING_VERSION: i16 = 5;

impl TransactionCoordinator {
    /// Handles EndTxn. The reply leaves when the decision is committed, which is before the markers are written.
    pub fn handle_end_txn(&mut self, request: &EndTxnRequest<'_>, context: &Context<'_>) -> Outcome {
        let mut out = Outcome::default();
        let bumps = context.api_version >= FIRST_BUMPING_VERSION;
        let ended = match self.entries.get_key_value(&*request.transactional_id) {
            _ if request.transactional_id.is_empty() => Err(ErrorCode::InvalidRequest),
            None => Err(ErrorCode::InvalidProducerIdMapping),
            Some((id, entry)) => {
                let (id, entry) = (id.clone(), entry.clone());
                if bumps {
                    self.end_with_bump(&id, &entry, request, context.now, &mut out)
                } else {
                    self.end(&id, &entry, request, context.now, &mut out)
                }
            }
        };
        let response = match ended {
            Ok((producer_id, producer_epoch)) => {
                EndTxnResponse { producer_id, producer_epoch, ..Default::default() }
            }
            Err(error) => end_txn_error(error, context.api_version),
        };
        out.reply(context.waiting(), Response::EndTxn(response));
        out
    }

    /// By rules of versions 0 and 1.
    fn end(
        &mut self,
        id: &Arc<str>,
        entry: &Entry,
        request: &EndTxnRequest<'_>,
        now: i64,
        out: &mut Outcome,
    ) -> Result<(i64, i16), ErrorCode> {
        let guards = self.config.guards;
        if request.producer_id != entry.producer_id {
            return Err(ErrorCode::InvalidProducerIdMapping);
        }
        if request.producer_epoch != entry.producer_epoch && guards.stand(Guard::EndChecksEpoch) {
            return Err(ErrorCode::ProducerFenced);
        }
        let commit = request.committed;
        match (entry.state, commit) {
            (TransactionState::Ongoing, _) => {
                self.transit(id, entry.ended(commit, now), out);
                Ok((-1, -1))
            }
            (TransactionState::CompleteCommit, true) | (TransactionState::CompleteAbort, false) => {
                Ok((-1, -1))
            }
            _ => Err(self.undecidable(entry, commit)),
        }
    }

    /// By rules of version 2.
    fn end_with_bump(
        &mut self,
        id: &Arc<str>,
        entry: &Entry,
        request: &EndTxnRequest<'_>,
        now: i64,
        out: &mut Outcome,
    ) -> Result<(i64, i16), ErrorCode> {
        use TransactionState::*;
        let guards = self.config.guards;
        let (epoch, commit) = (request.producer_epoch, request.committed);
        let is_current = epoch == entry.producer_epoch;
        // The epoch went up with the end that this one repeats, or, past the last epoch, the producer id changed.
        let is_bump_retry = i32::from(epoch) + 1 == i32::from(entry.producer_epoch);
        let is_overflow_retry = request.producer_id == entry.previous_producer_id
            && epoch == i16::MAX - 1
            && entry.producer_epoch == 0;
        let is_retry = is_bump_retry || is_overflow_retry;
        if request.producer_id != entry.producer_id && !is_overflow_retry {
            return Err(ErrorCode::InvalidProducerIdMapping);
        }
        let may_end = match entry.state {
            Empty | Ongoing | Dead | PrepareEpochFence => is_current,
            PrepareCommit | PrepareAbort => is_bump_retry,
            CompleteCommit | CompleteAbort => is_retry || is_current,
        };
        if !may_end && guards.stand(Guard::EndChecksEpoch) {
            return Err(ErrorCode::ProducerFenced);
        }
        let is_known_retry = is_retry && guards.stand(Guard::EndKnowsRetry);
        match (entry.state, commit) {
            (Ongoing, _) => {}
            (CompleteCommit, true) | (CompleteAbort, false) if is_known_retry => {
                return Ok((entry.producer_id, entry.producer_epoch));
            }
            (CompleteCommit | CompleteAbort, false) if !is_known_retry => {}
            (Empty, false) => {}
            _ => return Err(self.undecidable(entry, commit)),
        }
        let next_id = if is_exhausted(entry.producer_epoch) { Some(self.fresh_id()?) } else { None };
        let next = entry.ended_with_bump(commit, next_id, now, guards);
        let given = next.producer_after_end();
        self.transit(id, next, out);
        Ok(given)
    }

    /// Why a transaction that is not open can not be ended in this way.
    fn undecidable(&self, entry: &Entry, commit: bool) -> ErrorCode {
        let keeps = self.config.guards.stand(Guard::EndKeepsDecision);
        match (entry.state, commit) {
            (TransactionState::PrepareCommit, true) | (TransactionState::PrepareAbort, false) => {
                ErrorCode::ConcurrentTransactions
            }
            // Without the rule the client is told that its change of mind was heard.
            (TransactionState::PrepareCommit | TransactionState::PrepareAbort, _) if !keeps => {
                ErrorCode::None
            }
            _ => ErrorCode::InvalidTxnState,
        }
    }
}

/// An answer that reports an error. Before v2 there is no PRODUCER_FENCED (90): INVALID_PRODUCER_EPOCH (47) stands for it.
pub fn end_txn_error(error: ErrorCode, api_version: i16) -> EndTxnResponse {
    let error = match error {
        ErrorCode::ProducerFenced if api_version < 2 => ErrorCode::InvalidProducerEpoch,
        error => error,
    };
    EndTxnResponse { error_code: error.code(), producer_id: -1, producer_epoch: -1, ..Default::default() }
}
