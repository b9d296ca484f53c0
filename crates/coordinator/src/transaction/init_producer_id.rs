//! InitProducerId with a transactional id: a producer begins, or goes on after an error (KIP-360), and every producer before it is
//! fenced.
//!
//! v3+: the producer says who it was. Before v4 there is no PRODUCER_FENCED (90): INVALID_PRODUCER_EPOCH (47) stands for it. v6:
//! transactions that another system decides about (KIP-939), which are refused.

use super::coordinator::TransactionCoordinator;
use super::entry::{Entry, NO_EPOCH, is_exhausted};
use super::state::TransactionState;
use crate::group::{Context, NAME_BYTES_MAX};
use crate::guards::Guard;
use crate::outcome::{Outcome, Response};
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::init_producer_id_request::InitProducerIdRequest;
use ottla_protocol::messages::init_producer_id_response::InitProducerIdResponse;
use std::sync::Arc;

impl TransactionCoordinator {
    /// Handles InitProducerId. The caller has seen that there is a transactional id.
    pub fn handle_init_producer_id(
        &mut self,
        request: &InitProducerIdRequest<'_>,
        context: &Context<'_>,
    ) -> Outcome {
        let mut out = Outcome::default();
        let result = self.init_producer_id(request, context.now, &mut out);
        let response = match result {
            Ok((producer_id, producer_epoch)) => {
                InitProducerIdResponse { producer_id, producer_epoch, ..Default::default() }
            }
            Err(error) => init_producer_id_error(error, context.api_version),
        };
        out.reply(context.waiting(), Response::InitProducerId(response));
        out
    }

    fn init_producer_id(
        &mut self,
        request: &InitProducerIdRequest<'_>,
        now: i64,
        out: &mut Outcome,
    ) -> Result<(i64, i16), ErrorCode> {
        let expected = match (request.producer_id, request.producer_epoch) {
            (-1, -1) => None,
            (-1, _) | (_, -1) => return Err(ErrorCode::InvalidRequest),
            expected => Some(expected),
        };
        let transactional_id = request.transactional_id.as_deref().unwrap_or("");
        if transactional_id.is_empty() || transactional_id.len() > NAME_BYTES_MAX {
            return Err(ErrorCode::InvalidRequest);
        }
        if request.enable2_pc {
            return Err(ErrorCode::TransactionalIdAuthorizationFailed);
        }
        if request.keep_prepared_txn {
            return Err(ErrorCode::UnsupportedVersion);
        }
        let timeout_ms = request.transaction_timeout_ms;
        if !(1..=self.config.max_timeout_ms).contains(&timeout_ms) {
            return Err(ErrorCode::InvalidTransactionTimeout);
        }
        let (id, entry) = match self.entries.get_key_value(transactional_id) {
            Some((id, entry)) => (id.clone(), entry.clone()),
            None => (Arc::from(transactional_id), Entry::new(self.fresh_id()?, timeout_ms, now)),
        };
        if entry.state.is_ending() && Guard::InitWaitsForMarkers.stands() {
            return Err(ErrorCode::ConcurrentTransactions);
        }
        // A producer that goes on is the current one, or the one whose epochs were used up, or it finds nobody.
        let is_current = |(producer_id, epoch): (i64, i16)| {
            entry.producer_epoch == NO_EPOCH
                || producer_id == entry.producer_id
                || producer_id == entry.previous_producer_id && is_exhausted(epoch)
        };
        if !expected.is_none_or(is_current) && Guard::InitChecksProducer.stands() {
            return Err(ErrorCode::ProducerFenced);
        }
        let aborts = Guard::InitAbortsOngoing.stands();
        match entry.state {
            TransactionState::Ongoing if aborts => {
                // The epoch that fences is never given to a client: this one asks again when the abort is through, and gets the next.
                self.abort(&id, now, out)?;
                Err(ErrorCode::ConcurrentTransactions)
            }
            TransactionState::Dead | TransactionState::PrepareEpochFence => {
                unreachable!("never in a record")
            }
            _ => {
                let is_last = expected.is_none_or(|(_, epoch)| epoch == entry.producer_epoch);
                let next = if is_exhausted(entry.producer_epoch) && is_last {
                    entry.rotated(self.fresh_id()?, timeout_ms, expected.is_some(), now)
                } else {
                    entry.next_epoch(timeout_ms, expected.map(|(_, epoch)| epoch), now)?
                };
                let given = (next.producer_id, next.producer_epoch);
                self.transit(&id, next, out);
                Ok(given)
            }
        }
    }

    pub(super) fn fresh_id(&self) -> Result<i64, ErrorCode> {
        // The next block of ids is on its way; clients know this error as one that passes.
        self.ids.next().ok_or(ErrorCode::CoordinatorLoadInProgress)
    }

    /// Aborts an open transaction on nobody's behalf: its producer is fenced.
    pub(super) fn abort(&mut self, id: &Arc<str>, now: i64, out: &mut Outcome) -> Result<(), ErrorCode> {
        let entry = &self.entries[id];
        let next = if self.version.bumps_epoch() {
            let next_id = if is_exhausted(entry.producer_epoch) { Some(self.fresh_id()?) } else { None };
            entry.ended_with_bump(false, next_id, now)
        } else {
            entry.fenced(now)
        };
        self.transit(id, next, out);
        Ok(())
    }
}

/// An answer that reports an error.
pub fn init_producer_id_error(error: ErrorCode, api_version: i16) -> InitProducerIdResponse {
    let error = match error {
        ErrorCode::ProducerFenced if api_version < 4 => ErrorCode::InvalidProducerEpoch,
        error => error,
    };
    InitProducerIdResponse {
        error_code: error.code(),
        producer_id: -1,
        producer_epoch: -1,
        ..Default::default()
    }
}
