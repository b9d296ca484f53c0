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
use crate::partition::{Partition, Positions};
use ottla_storage::Lookup;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
/// Offset, timestamp and leader epoch of nothing.
const UNKNOWN: (i64, i64, i32) = (-1, -1, -1);
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

/// First version whose answer carries leader epochs.
const FIRST_EPOCH_VERSION: i16 = 4;

/// Handles the request, on a reader thread if any timestamp has to be looked up.
pub(crate) fn handle(broker: &Broker, call: &mut Call<'_>, request: ListOffsetsRequest<'_>) {
    let asked = || {
        request
            .topics
            .iter()
            .flat_map(|topic| topic.partitions.iter().map(move |asked| (&*topic.name, asked)))
    };
    let looks_up = asked().any(|(_, asked)| asked.timestamp >= 0 || asked.timestamp == MAX_TIMESTAMP);
    let known: Vec<_> = asked()
        .filter_map(|(name, asked)| broker.topics().partition_by_name(name, asked.partition_index).ok())
        .collect();
    if looks_up && !call.may_wait || call.must_leave(&known) {
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
    let found = match asked.timestamp {
        MAX_TIMESTAMP => look_up(partition, asked, Lookup::MaxTimestamp, committed_only, now),
        timestamp @ 0.. => look_up(partition, asked, Lookup::Timestamp(timestamp), committed_only, now),
        _ => partition.with_log(asked.current_leader_epoch, now, |log, positions| match asked.timestamp {
            LATEST => (bound(positions, committed_only), -1, log.latest_epoch().unwrap_or(-1)),
            EARLIEST | EARLIEST_LOCAL => {
                let start = positions.log_start_offset;
                (start, -1, log.epoch_at(start).unwrap_or(-1))
            }
            // Nothing is in remote storage.
            _ => UNKNOWN,
        }),
    };
    match found {
        Ok((offset, timestamp, leader_epoch)) => ListOffsetsPartitionResponse {
            partition_index: asked.partition_index,
            error_code: 0,
            timestamp,
            offset,
            leader_epoch: if version >= FIRST_EPOCH_VERSION { leader_epoch } else { -1 },
        },
        Err(error) => failed(asked, error),
    }
}

/// The first record that a reader may see and that the lookup finds, as (offset, timestamp, leader epoch).
fn look_up(
    partition: &Partition,
    asked: &ListOffsetsPartition,
    lookup: Lookup,
    committed_only: bool,
    now: i64,
) -> Result<(i64, i64, i32), ErrorCode> {
    let (found, positions) = partition.lookup(asked.current_leader_epoch, lookup, now)?;
    let found = found.filter(|found| found.offset < bound(positions, committed_only));
    Ok(found.map_or(UNKNOWN, |found| (found.offset, found.timestamp, found.leader_epoch)))
}

fn bound(positions: Positions, committed_only: bool) -> i64 {
    if committed_only { positions.last_stable_offset } else { positions.high_watermark }
}

fn failed(asked: &ListOffsetsPartition, error: ErrorCode) -> ListOffsetsPartitionResponse {
    ListOffsetsPartitionResponse {
        partition_index: asked.partition_index,
        error_code: error.code(),
        ..Default::default()
    }
}
