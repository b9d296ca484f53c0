//! EndTxn 0-5: the client decides its transaction.
//!
//! Up to v4 the producer epoch stays, so the state alone tells a retry from something new. From v5 on (transaction version 2, KIP-890)
//! every end takes a new epoch, which is answered; the epoch before means a retry, and an abort without a transaction is fine, as the
//! client can not know whether its first produce arrived. While markers are written everybody is told to ask again
//! (CONCURRENT_TRANSACTIONS), also the client whose next producer id is not current before they are:
//!
//! ```text
//!  state           abort, retry   abort, current   commit, retry   commit, current
//!  Empty           fenced         new epoch        fenced          INVALID_TXN_STATE
//!  CompleteAbort   as before      new epoch        INVALID_TXN_..  INVALID_TXN_STATE
//!  CompleteCommit  INVALID_TXN_.. new epoch        as before       INVALID_TXN_STATE
//! ```

use super::coordinator::TransactionCoordinator;
use super::entry::{Entry, is_exhausted};
use super::state::TransactionState;
use crate::group::Context;
use crate::guards::Guard;
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
                self.end(&id, &entry, request, bumps, context.now, &mut out)
            }
        };
        let response = match ended {
            Ok((producer_id, producer_epoch)) if bumps => {
                EndTxnResponse { producer_id, producer_epoch, ..Default::default() }
            }
            Ok(_) => EndTxnResponse { producer_id: -1, producer_epoch: -1, ..Default::default() },
            Err(error) => end_txn_error(error, context.api_version),
        };
        out.reply(context.waiting(), Response::EndTxn(response));
        out
    }

    /// Ends a transaction, or finds that this was done before; returns the producer with which the client goes on.
    fn end(
        &mut self,
        id: &Arc<str>,
        entry: &Entry,
        request: &EndTxnRequest<'_>,
        bumps: bool,
        now: i64,
        out: &mut Outcome,
    ) -> Result<(i64, i16), ErrorCode> {
        use TransactionState::*;
        if entry.state.is_ending() {
            // Whoever asks, and for what: he is answered when the markers are there. Without the rule he is told that he was heard.
            let keeps = Guard::EndKeepsDecision.stands();
            let heard = (entry.producer_id, entry.producer_epoch);
            return if keeps { Err(ErrorCode::ConcurrentTransactions) } else { Ok(heard) };
        }
        let (epoch, commit) = (request.producer_epoch, request.committed);
        let is_current = epoch == entry.producer_epoch;
        // The epoch went up with the end that this one repeats, or, past the last epoch, the producer id changed.
        let is_bump_retry = bumps && i32::from(epoch) + 1 == i32::from(entry.producer_epoch);
        let is_overflow_retry = bumps
            && request.producer_id == entry.previous_producer_id
            && epoch == i16::MAX - 1
            && entry.producer_epoch == 0;
        let is_retry = is_bump_retry || is_overflow_retry;
        if request.producer_id != entry.producer_id && !is_overflow_retry {
            return Err(ErrorCode::InvalidProducerIdMapping);
        }
        let may_end = match entry.state {
            CompleteCommit | CompleteAbort => is_retry || is_current,
            _ => is_current,
        };
        if !may_end && Guard::EndChecksEpoch.stands() {
            return Err(ErrorCode::ProducerFenced);
        }
        let is_known_retry = is_retry && Guard::EndKnowsRetry.stands();
        match (entry.state, commit) {
            (Ongoing, _) => {}
            (CompleteCommit, true) | (CompleteAbort, false) if is_known_retry || !bumps => {
                return Ok((entry.producer_id, entry.producer_epoch));
            }
            (CompleteCommit | CompleteAbort, false) if bumps && !is_known_retry => {}
            (Empty, false) if bumps => {}
            _ => return Err(ErrorCode::InvalidTxnState),
        }
        let next = if bumps {
            let next_id = if is_exhausted(entry.producer_epoch) { Some(self.fresh_id()?) } else { None };
            entry.ended_with_bump(commit, next_id, now)
        } else {
            entry.ended(commit, now)
        };
        let given = next.producer_after_end();
        self.transit(id, next, out);
        Ok(given)
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
