//! ListOffsets 1-11: where a log starts and ends, and the first record at or after a timestamp.
//!
//! Special timestamps: -1 latest, -2 earliest, -3 of the largest timestamp (v7, KIP-734), -4 earliest on local disk (v8), -5 latest in
//! remote storage (v9), -6 earliest not yet in remote storage (v11). Without remote storage the last two are unknown: offset -1.

use std::collections::BTreeSet;

use ottla_protocol::ErrorCode;
use ottla_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsRequest};
use ottla_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsResponse, ListOffsetsTopicResponse,
};

use crate::Broker;
use crate::call::Call;
use crate::partition::Partition;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

/// First version whose answer carries leader epochs.
const FIRST_EPOCH_VERSION: i16 = 4;

/// Handles the request, on a reader thread if any timestamp has to be looked up.
pub(crate) fn handle(broker: &Broker, call: &mut Call<'_>, request: ListOffsetsRequest<'_>) {
    let looks_up =
        |partition: &ListOffsetsPartition| partition.timestamp >= 0 || partition.timestamp == MAX_TIMESTAMP;
    if !call.may_wait && request.topics.iter().flat_map(|topic| &topic.partitions).any(looks_up) {
        return call.on_reader_thread();
    }
    let table = broker.topics();
    let committed_only = request.isolation_level == 1;
    let mut seen = BTreeSet::new();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let answer = |asked: &ListOffsetsPartition| {
            if !seen.insert((&*topic.name, asked.partition_index)) {
                return failed(asked, ErrorCode::InvalidRequest);
            }
            match table.partition_by_name(&topic.name, asked.partition_index) {
                Ok(partition) => list(&partition, asked, committed_only, call.reply.version, call.now),
                Err(error) => failed(asked, error),
            }
        };
        let partitions = topic.partitions.iter().map(answer).collect();
        topics.push(ListOffsetsTopicResponse { name: topic.name.clone(), partitions });
    }
    call.respond(&ListOffsetsResponse { topics, ..Default::default() });
}

fn list(
    partition: &Partition,
    asked: &ListOffsetsPartition,
    committed_only: bool,
    version: i16,
    now: i64,
) -> ListOffsetsPartitionResponse {
    let unsupported = match asked.timestamp {
        MAX_TIMESTAMP => version < 7,
        EARLIEST_LOCAL => version < 8,
        LATEST_TIERED => version < 9,
        EARLIEST_PENDING_UPLOAD => version < 11,
        other => other < EARLIEST_PENDING_UPLOAD,
    };
    if unsupported {
        return failed(asked, ErrorCode::UnsupportedVersion);
    }
    let found = partition.with_log(asked.current_leader_epoch, now, |log, positions| {
        let bound = if committed_only { positions.last_stable_offset } else { positions.high_watermark };
        let unknown = (-1, -1, -1);
        Ok(match asked.timestamp {
            LATEST => (bound, -1, log.latest_epoch().unwrap_or(-1)),
            EARLIEST | EARLIEST_LOCAL => {
                let start = positions.log_start_offset;
                (start, -1, log.epoch_at(start).unwrap_or(-1))
            }
            LATEST_TIERED | EARLIEST_PENDING_UPLOAD => unknown,
            MAX_TIMESTAMP => match log.max_timestamp()? {
                Some(found) if found.offset < bound => (found.offset, found.timestamp, found.leader_epoch),
                _ => unknown,
            },
            timestamp => match log.lookup_timestamp(timestamp)? {
                Some(found) if found.offset < bound => (found.offset, found.timestamp, found.leader_epoch),
                _ => unknown,
            },
        })
    });
    match found {
        Ok(Ok((offset, timestamp, leader_epoch))) => ListOffsetsPartitionResponse {
            partition_index: asked.partition_index,
            error_code: 0,
            timestamp,
            offset,
            leader_epoch: if version >= FIRST_EPOCH_VERSION { leader_epoch } else { -1 },
        },
        Ok(Err(error)) => {
            let error: ottla_storage::StorageError = error;
            failed(asked, error.code())
        }
        Err(error) => failed(asked, error),
    }
}

fn failed(asked: &ListOffsetsPartition, error: ErrorCode) -> ListOffsetsPartitionResponse {
    ListOffsetsPartitionResponse {
        partition_index: asked.partition_index,
        error_code: error.code(),
        ..Default::default()
    }
}
