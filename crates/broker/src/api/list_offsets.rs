//! ListOffsets 1-11: where a log starts and ends, and the first record at or after a timestamp.
//!
//! Special timestamps: -1 latest, -2 earliest, -3 of the largest timestamp (v7, KIP-734), -4 earliest on local disk (v8), -5 latest in
//! remote storage (v9), -6 earliest not yet in remote storage (v11). Without remote storage the last two are unknown: offset -1.
//!
//! A leader that was just elected does not know yet what is committed: until it does, consumers that ask for the end are told to come again
//! (v5, KIP-207).

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

/// `replica_id` of a consumer.
const CONSUMER: i32 = -1;
/// First version whose clients know OFFSET_NOT_AVAILABLE.
const FIRST_NOT_AVAILABLE_VERSION: i16 = 5;
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
    let reader = match (request.replica_id, request.isolation_level) {
        (CONSUMER, 1) => Reader::OfCommitted,
        (CONSUMER, _) => Reader::OfAll,
        _ => Reader::Replica,
    };
    let mut seen = BTreeSet::new();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let answer = |asked: &ListOffsetsPartition| {
            if !seen.insert((&*topic.name, asked.partition_index)) {
                return failed(asked, ErrorCode::InvalidRequest);
            }
            match table.partition_by_name(&topic.name, asked.partition_index) {
                Ok(partition) => list(&partition, asked, reader, call.reply.version, call.now),
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
    reader: Reader,
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
        MAX_TIMESTAMP => look_up(partition, asked, Lookup::MaxTimestamp, reader, now),
        timestamp @ 0.. => look_up(partition, asked, Lookup::Timestamp(timestamp), reader, now),
        _ => partition
            .with_log(asked.current_leader_epoch, now, |log, positions| match asked.timestamp {
                LATEST => {
                    reader.check(positions)?;
                    Ok((reader.bound(positions), -1, log.latest_epoch().unwrap_or(-1)))
                }
                EARLIEST | EARLIEST_LOCAL => {
                    let start = positions.log_start_offset;
                    Ok((start, -1, log.epoch_at(start).unwrap_or(-1)))
                }
                // Nothing is in remote storage.
                _ => Ok(UNKNOWN),
            })
            .flatten(),
    };
    match found {
        Ok((offset, timestamp, leader_epoch)) => ListOffsetsPartitionResponse {
            partition_index: asked.partition_index,
            error_code: 0,
            timestamp,
            offset,
            leader_epoch: if version >= FIRST_EPOCH_VERSION { leader_epoch } else { -1 },
        },
        Err(ErrorCode::OffsetNotAvailable) if version < FIRST_NOT_AVAILABLE_VERSION => {
            failed(asked, ErrorCode::LeaderNotAvailable)
        }
        Err(error) => failed(asked, error),
    }
}

/// The first record that a reader may see and that the lookup finds, as (offset, timestamp, leader epoch).
fn look_up(
    partition: &Partition,
    asked: &ListOffsetsPartition,
    lookup: Lookup,
    reader: Reader,
    now: i64,
) -> Result<(i64, i64, i32), ErrorCode> {
    let (found, positions) = partition.lookup(asked.current_leader_epoch, lookup, now)?;
    let is_beyond = found.as_ref().is_some_and(|found| found.offset >= reader.bound(positions));
    if is_beyond {
        reader.check(positions)?;
    }
    let found = found.filter(|_| !is_beyond);
    Ok(found.map_or(UNKNOWN, |found| (found.offset, found.timestamp, found.leader_epoch)))
}

/// Who asks, and so what there is for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reader {
    /// A consumer, of decided transactions only.
    OfCommitted,
    /// A consumer.
    OfAll,
    /// A follower, or a tool that looks at replicas.
    Replica,
}

impl Reader {
    fn bound(self, positions: Positions) -> i64 {
        match self {
            Reader::OfCommitted => positions.last_stable_offset,
            Reader::OfAll => positions.high_watermark,
            Reader::Replica => positions.log_end_offset,
        }
    }

    /// What a leader knows to be committed may be old when it is elected: a consumer that was told of more by its predecessor must not be
    /// told less now (KIP-207).
    fn check(self, positions: Positions) -> Result<(), ErrorCode> {
        let is_known = positions.high_watermark >= positions.epoch_start_offset;
        if is_known || self == Reader::Replica { Ok(()) } else { Err(ErrorCode::OffsetNotAvailable) }
    }
}

fn failed(asked: &ListOffsetsPartition, error: ErrorCode) -> ListOffsetsPartitionResponse {
    ListOffsetsPartitionResponse {
        partition_index: asked.partition_index,
        error_code: error.code(),
        ..Default::default()
    }
}
