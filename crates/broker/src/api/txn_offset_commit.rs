//! TxnOffsetCommit 0-6: offsets that count when the transaction commits. v3+ names member and generation (KIP-447), v5+ lets the offsets
//! join the transaction by being committed (KIP-890), v6 names topics by id.
//!
//! Like the first produce to a partition, the first offsets of a transaction wait for the word of the transaction's coordinator; the
//! request is handled again when it is there.

use std::sync::Arc;

use ottla_protocol::ErrorCode;
use ottla_protocol::messages::txn_offset_commit_request::TxnOffsetCommitRequest;
use ottla_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponse, TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use ottla_protocol::records::{Attributes, BatchHeader, NO_SEQUENCE};

use crate::Broker;
use crate::call::Call;
use crate::coordination::{Ask, Whom};

/// First version whose clients know TRANSACTION_ABORTABLE (120).
const FIRST_ABORTABLE_VERSION: i16 = 4;
/// First version whose offsets join the transaction by being committed (transaction version 2).
const FIRST_JOINING_VERSION: i16 = 5;

/// Handles the request.
pub(crate) fn handle(broker: &Broker, call: &mut Call<'_>, request: TxnOffsetCommitRequest<'_>) {
    let handled = admit(broker, call, &request).and_then(|is_admitted| {
        if !is_admitted {
            return Ok(());
        }
        broker.groups().handle(broker, call, &request.group_id, |coordinator, context| {
            coordinator.handle_txn_offset_commit(&request, context)
        })
    });
    if let Err(error) = handled {
        refuse(call, &request, error);
    }
}

/// Whether the offsets may be appended now; otherwise their coordinator is asked, and the request comes again.
fn admit(
    broker: &Broker,
    call: &mut Call<'_>,
    request: &TxnOffsetCommitRequest<'_>,
) -> Result<bool, ErrorCode> {
    let adds = call.reply.version >= FIRST_JOINING_VERSION;
    if request.group_id.is_empty() {
        return Err(ErrorCode::InvalidGroupId);
    }
    match call.admission {
        Some(admission) => return admission.map(|_| true),
        None if !adds && !broker.live_config().transactions.partition_verification => return Ok(true),
        None => {}
    }
    let partition = broker.groups().log_of(&request.group_id)?;
    let Some(admission) = partition.apply_for_admission(&header(request), adds, call.now)? else {
        return Ok(true);
    };
    let ask = Ask {
        transactional_id: request.transactional_id.to_string(),
        producer_id: request.producer_id,
        producer_epoch: request.producer_epoch,
        adds,
        knows_abortable: call.reply.version >= FIRST_ABORTABLE_VERSION,
        since: call.now,
        partitions: vec![(partition.topic.name.clone(), partition.index)],
        whom: Whom::Request(Box::new(call.to_deferred()), admission),
    };
    broker.ask(&Arc::new(ask), call.now, call.out);
    Ok(false)
}

/// The batch that the offsets will be in, as far as its admission goes.
fn header(request: &TxnOffsetCommitRequest<'_>) -> BatchHeader {
    BatchHeader {
        base_offset: 0,
        batch_length: 0,
        leader_epoch: -1,
        crc: 0,
        attributes: Attributes::default().with_transactional(true),
        last_offset_delta: 0,
        base_timestamp: 0,
        max_timestamp: 0,
        producer_id: request.producer_id,
        producer_epoch: request.producer_epoch,
        base_sequence: NO_SEQUENCE,
        record_count: 0,
    }
}

fn refuse(call: &mut Call<'_>, request: &TxnOffsetCommitRequest<'_>, error: ErrorCode) {
    let error = match error {
        ErrorCode::CoordinatorLoadInProgress if call.reply.version < 2 => ErrorCode::CoordinatorNotAvailable,
        error => error,
    };
    let topics = request.topics.iter().map(|topic| TxnOffsetCommitResponseTopic {
        name: topic.name.clone(),
        topic_id: topic.topic_id,
        partitions: topic
            .partitions
            .iter()
            .map(|partition| TxnOffsetCommitResponsePartition {
                partition_index: partition.partition_index,
                error_code: error.code(),
            })
            .collect(),
    });
    call.respond(&TxnOffsetCommitResponse { topics: topics.collect(), ..Default::default() });
}
