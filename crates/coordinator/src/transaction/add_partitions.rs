//! AddPartitionsToTxn 0-5 and AddOffsetsToTxn 0-4: partitions become part of the open transaction, before anything is written to them.
//!
//! - From producers of versions 0 and 1: a request of its own before the first produce.
//! - From brokers, for producers of version 2: with the first produce (KIP-890).
//! - Verification, for older producers: is it part of the transaction? Nothing is changed.

use super::coordinator::TransactionCoordinator;
use super::state::TransactionState;
use super::{TopicPartition, TransactionVersion};
use crate::group::Context;
use crate::guards::Guard;
use crate::outcome::{Outcome, Response};
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::add_offsets_to_txn_request::AddOffsetsToTxnRequest;
use ottla_protocol::messages::add_offsets_to_txn_response::AddOffsetsToTxnResponse;
use ottla_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResult, AddPartitionsToTxnTopicResult,
};
use std::sync::Arc;

/// Asks for partitions to be part of a transaction, or whether they are.
#[derive(Debug, Clone, Copy)]
pub struct AddPartitions<'a> {
    /// Whose transaction.
    pub transactional_id: &'a str,
    /// The producer that asks.
    pub producer_id: i64,
    /// Its epoch.
    pub producer_epoch: i16,
    /// Which partitions.
    pub partitions: &'a [TopicPartition],
    /// Only asks.
    pub verify_only: bool,
    /// The rules that the producer plays by.
    pub client_version: TransactionVersion,
}

/// What became of each partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionsAnswer {
    /// Whose transaction.
    pub transactional_id: Arc<str>,
    /// The partitions of the request, each with its error.
    pub partitions: Vec<(TopicPartition, ErrorCode)>,
}

impl PartitionsAnswer {
    /// The same error for all.
    pub fn all(transactional_id: &str, partitions: &[TopicPartition], error: ErrorCode) -> PartitionsAnswer {
        let partitions = partitions.iter().map(|partition| (partition.clone(), error)).collect();
        PartitionsAnswer { transactional_id: transactional_id.into(), partitions }
    }

    /// In the form of the protocol. Partitions of one topic that follow one another are put together.
    pub fn to_result(&self) -> AddPartitionsToTxnResult<'static> {
        let mut topic_results: Vec<AddPartitionsToTxnTopicResult<'static>> = Vec::new();
        for ((topic, partition_index), error) in &self.partitions {
            let result = AddPartitionsToTxnPartitionResult {
                partition_index: *partition_index,
                partition_error_code: error.code(),
            };
            match topic_results.last_mut() {
                Some(last) if *last.name == **topic => last.results_by_partition.push(result),
                _ => topic_results.push(AddPartitionsToTxnTopicResult {
                    name: topic.to_string().into(),
                    results_by_partition: vec![result],
                }),
            }
        }
        let transactional_id = self.transactional_id.to_string().into();
        AddPartitionsToTxnResult { transactional_id, topic_results }
    }
}

impl TransactionCoordinator {
    /// Handles one transaction of AddPartitionsToTxn. The caller has seen that the partitions exist.
    pub fn handle_add_partitions(&mut self, asked: &AddPartitions<'_>, context: &Context<'_>) -> Outcome {
        let mut out = Outcome::default();
        let answer = if asked.verify_only {
            self.verify_partitions(asked)
        } else {
            let added = self.add_partitions(asked, context.now, &mut out);
            let error = added.err().unwrap_or(ErrorCode::None);
            PartitionsAnswer::all(asked.transactional_id, asked.partitions, error)
        };
        out.reply(context.waiting(), Response::AddPartitionsToTxn(answer));
        out
    }

    /// Handles AddOffsetsToTxn: the partition of `__consumer_offsets` that holds the group becomes part of the transaction.
    pub fn handle_add_offsets(
        &mut self,
        request: &AddOffsetsToTxnRequest<'_>,
        offsets_partition: TopicPartition,
        context: &Context<'_>,
    ) -> Outcome {
        let mut out = Outcome::default();
        let asked = AddPartitions {
            transactional_id: &request.transactional_id,
            producer_id: request.producer_id,
            producer_epoch: request.producer_epoch,
            partitions: &[offsets_partition],
            verify_only: false,
            // Producers of version 2 do without this request.
            client_version: TransactionVersion::V0,
        };
        let error = match self.add_partitions(&asked, context.now, &mut out) {
            Ok(()) => ErrorCode::None,
            Err(ErrorCode::ProducerFenced) if context.api_version < 2 => ErrorCode::InvalidProducerEpoch,
            Err(error) => error,
        };
        let response = AddOffsetsToTxnResponse { error_code: error.code(), ..Default::default() };
        out.reply(context.waiting(), Response::AddOffsetsToTxn(response));
        out
    }

    fn add_partitions(
        &mut self,
        asked: &AddPartitions<'_>,
        now: i64,
        out: &mut Outcome,
    ) -> Result<(), ErrorCode> {
        if asked.transactional_id.is_empty() {
            return Err(ErrorCode::InvalidRequest);
        }
        let found = self.entries.get_key_value(asked.transactional_id);
        let (id, entry) = found.ok_or(ErrorCode::InvalidProducerIdMapping)?;
        if entry.state.is_ending() {
            // Nothing is added to what is decided, and who may add to what comes next is known when the markers are there: the client
            // may have been given a producer id that is not current before. Without the rule nothing is changed, and that is well.
            let waits = Guard::AddWaitsForMarkers.stands();
            return if waits { Err(ErrorCode::ConcurrentTransactions) } else { Ok(()) };
        }
        if entry.producer_id != asked.producer_id {
            return Err(ErrorCode::InvalidProducerIdMapping);
        }
        if entry.producer_epoch != asked.producer_epoch && Guard::AddChecksEpoch.stands() {
            return Err(ErrorCode::ProducerFenced);
        }
        let is_part = |partition| entry.partitions.contains(partition);
        if entry.state == TransactionState::Ongoing && asked.partitions.iter().all(is_part) {
            return Ok(());
        }
        let next = entry.with_partitions(asked.partitions.iter().cloned(), asked.client_version, now);
        let id = id.clone();
        self.transit(&id, next, out);
        Ok(())
    }

    fn verify_partitions(&self, asked: &AddPartitions<'_>) -> PartitionsAnswer {
        let all = |error| PartitionsAnswer::all(asked.transactional_id, asked.partitions, error);
        if asked.transactional_id.is_empty() {
            return all(ErrorCode::InvalidRequest);
        }
        let Some(entry) = self.entries.get(asked.transactional_id) else {
            return all(ErrorCode::InvalidProducerIdMapping);
        };
        if entry.producer_id != asked.producer_id {
            return all(ErrorCode::InvalidProducerIdMapping);
        }
        if entry.producer_epoch != asked.producer_epoch && Guard::VerifyChecksEpoch.stands() {
            return all(ErrorCode::ProducerFenced);
        }
        if entry.state.is_ending() {
            return all(ErrorCode::ConcurrentTransactions);
        }
        let verify = |partition: &TopicPartition| {
            let is_part = entry.partitions.contains(partition) || !Guard::VerifyChecksPartition.stands();
            let error = if is_part { ErrorCode::None } else { ErrorCode::TransactionAbortable };
            (partition.clone(), error)
        };
        let partitions = asked.partitions.iter().map(verify).collect();
        PartitionsAnswer { transactional_id: asked.transactional_id.into(), partitions }
    }
}
