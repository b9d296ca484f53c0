//! Records of `__transaction_state`, byte for byte as Kafka 4.4 writes them: the key is type 0 and the transactional id, the value is
//! its schema version (0, or 1 with transaction version 1 and later) and the state of the transactional id.

use super::entry::Entry;
use super::state::TransactionState;
use super::{TopicPartition, TransactionVersion};
use crate::group::ReplayError;
use crate::group::records::framed;
use crate::outcome::Record;
use ottla_protocol::messages::transaction_log_key::TransactionLogKey;
use ottla_protocol::messages::transaction_log_value::{PartitionsSchema, TransactionLogValue};
use ottla_protocol::{Message, Reader};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

const TRANSACTION_LOG: i16 = 0;

fn key(transactional_id: &str) -> Vec<u8> {
    framed(TRANSACTION_LOG, 0, &TransactionLogKey { transactional_id: Cow::Borrowed(transactional_id) })
}

/// Forgets a transactional id.
pub(super) fn tombstone(transactional_id: &str) -> Record {
    Record { key: key(transactional_id), value: None }
}

/// The state of a transactional id.
pub(super) fn state(transactional_id: &str, entry: &Entry, version: TransactionVersion) -> Record {
    // Partitions are sorted, so those of one topic are together.
    let mut topics: Vec<PartitionsSchema<'_>> = Vec::new();
    for (topic, partition) in &entry.partitions {
        match topics.last_mut() {
            Some(last) if *last.topic == **topic => last.partition_ids.push(*partition),
            _ => {
                topics.push(PartitionsSchema { topic: Cow::Borrowed(topic), partition_ids: vec![*partition] })
            }
        }
    }
    let value = TransactionLogValue {
        producer_id: entry.producer_id,
        producer_epoch: entry.producer_epoch,
        transaction_timeout_ms: entry.timeout_ms,
        transaction_status: entry.state.id(),
        transaction_partitions: (entry.state != TransactionState::Empty).then_some(topics),
        transaction_last_update_timestamp_ms: entry.last_update_timestamp,
        transaction_start_timestamp_ms: entry.start_timestamp,
        ..TransactionLogValue::default()
    };
    let (version, value) = if version >= TransactionVersion::V1 {
        let value = TransactionLogValue {
            previous_producer_id: entry.previous_producer_id,
            next_producer_id: entry.next_producer_id,
            client_transaction_version: entry.client_version.0,
            ..value
        };
        (1, value)
    } else {
        // There is no place for them.
        (0, value)
    };
    Record { key: key(transactional_id), value: Some(framed(version, version, &value)) }
}

/// The transactional id of a record; `None` for a type that is not known (KIP-915).
pub(super) fn read_key(bytes: &[u8]) -> Result<Option<Arc<str>>, ReplayError> {
    let Some((record_type, body)) = split(bytes) else {
        return Err(ReplayError { record_type: -1, reason: "the key is shorter than a record type".into() });
    };
    if record_type != TRANSACTION_LOG {
        return Ok(None);
    }
    let key = TransactionLogKey::decode(&mut Reader::new(body), 0);
    let key = key.map_err(|error| ReplayError { record_type, reason: error.to_string() })?;
    Ok(Some((*key.transactional_id).into()))
}

/// The state in a record; `None` for a version that is not known (left over from an upgrade that was taken back).
pub(super) fn read_value(bytes: &[u8]) -> Result<Option<Entry>, ReplayError> {
    let fail = |reason: String| ReplayError { record_type: TRANSACTION_LOG, reason };
    let (version, body) = split(bytes).ok_or_else(|| fail("the value is shorter than a version".into()))?;
    if !(TransactionLogValue::MIN_VERSION..=TransactionLogValue::MAX_VERSION).contains(&version) {
        return Ok(None);
    }
    let value = TransactionLogValue::decode(&mut Reader::new(body), version);
    let value = value.map_err(|error| fail(error.to_string()))?;
    let state = TransactionState::from_id(value.transaction_status);
    let state = state
        .filter(|state| !matches!(state, TransactionState::Dead | TransactionState::PrepareEpochFence))
        .ok_or_else(|| fail(format!("a transaction is never in state {}", value.transaction_status)))?;
    let mut partitions: BTreeSet<TopicPartition> = BTreeSet::new();
    if state != TransactionState::Empty {
        for topic in value.transaction_partitions.iter().flatten() {
            let name: Arc<str> = (*topic.topic).into();
            partitions.extend(topic.partition_ids.iter().map(|partition| (name.clone(), *partition)));
        }
    }
    Ok(Some(Entry {
        producer_id: value.producer_id,
        previous_producer_id: value.previous_producer_id,
        next_producer_id: value.next_producer_id,
        producer_epoch: value.producer_epoch,
        last_producer_epoch: -1,
        timeout_ms: value.transaction_timeout_ms,
        state,
        partitions,
        start_timestamp: value.transaction_start_timestamp_ms,
        last_update_timestamp: value.transaction_last_update_timestamp_ms,
        client_version: TransactionVersion(value.client_transaction_version),
    }))
}

fn split(bytes: &[u8]) -> Option<(i16, &[u8])> {
    let (prefix, body) = bytes.split_first_chunk()?;
    Some((i16::from_be_bytes(*prefix), body))
}
