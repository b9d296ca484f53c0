//! DescribeTransactions and ListTransactions (KIP-664): what tools see.

use super::coordinator::TransactionCoordinator;
use super::state::TransactionState;
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::describe_transactions_response::{self, TopicData};
use ottla_protocol::messages::list_transactions_response;

/// Which transactions ListTransactions is about. Empty lists let everything through.
#[allow(missing_debug_implementations)]
pub struct TransactionFilter<'a> {
    /// Only these producer ids.
    pub producer_ids: &'a [i64],
    /// Only these states.
    pub states: Option<Vec<TransactionState>>,
    /// Only transactions that run for longer than this, in ms; negative: all.
    pub duration_ms: i64,
    /// Only transactional ids that this accepts.
    pub id_matches: &'a dyn Fn(&str) -> bool,
}

impl TransactionCoordinator {
    /// Describes a transactional id.
    pub fn describe(
        &self,
        transactional_id: &str,
    ) -> describe_transactions_response::TransactionState<'static> {
        let mut described = describe_transactions_response::TransactionState {
            transactional_id: transactional_id.to_string().into(),
            ..Default::default()
        };
        let Some(entry) = self.entries.get(transactional_id) else {
            described.error_code = ErrorCode::TransactionalIdNotFound.code();
            return described;
        };
        described.transaction_state = entry.state.name().into();
        described.transaction_timeout_ms = entry.timeout_ms;
        described.transaction_start_time_ms = entry.start_timestamp;
        described.producer_id = entry.producer_id;
        described.producer_epoch = entry.producer_epoch;
        // Partitions are sorted, so those of one topic are together.
        for (topic, partition) in &entry.partitions {
            match described.topics.last_mut() {
                Some(last) if *last.topic == **topic => last.partitions.push(*partition),
                _ => described
                    .topics
                    .push(TopicData { topic: topic.to_string().into(), partitions: vec![*partition] }),
            }
        }
        described
    }

    /// Lists transactional ids.
    pub fn list(
        &self,
        filter: &TransactionFilter<'_>,
        now: i64,
    ) -> Vec<list_transactions_response::TransactionState<'static>> {
        let entries = self.entries.iter().filter(|(id, entry)| {
            (filter.producer_ids.is_empty() || filter.producer_ids.contains(&entry.producer_id))
                && filter.states.as_ref().is_none_or(|states| states.contains(&entry.state))
                && (filter.duration_ms < 0 || now.saturating_sub(entry.start_timestamp) > filter.duration_ms)
                && (filter.id_matches)(id)
        });
        let listed = entries.map(|(id, entry)| list_transactions_response::TransactionState {
            transactional_id: id.to_string().into(),
            producer_id: entry.producer_id,
            transaction_state: entry.state.name().into(),
        });
        listed.collect()
    }
}
