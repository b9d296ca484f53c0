//! Reading from a partition: what a fetch gets of it, and how it waits for more.
//!
//! The tricky idea: whoever has to wait for the disk does so without the lock, so what was seen before may be gone afterwards; and a fetch
//! that found too little is parked only if nothing has changed since it looked.

use std::sync::Arc;

use ottla_protocol::{Chain, ErrorCode};
use ottla_storage::Log;

use super::agreement::{is_diverging, is_receipt};
use super::{Core, FollowerFetch, Partition, Positions, Role, Wakes};
use crate::api::fetch::PendingFetch;
use crate::effect::{Effects, Millis};

/// What one partition gives to a fetch.
#[derive(Debug)]
pub(crate) struct PartitionRead {
    pub error: ErrorCode,
    pub positions: Option<Positions>,
    pub records: Chain,
    pub aborted: Vec<(i64, i64)>,
    pub diverging: Option<(i32, i64)>,
    /// The replica that the consumer should read from instead.
    pub preferred: Option<i32>,
    /// Who is woken by what a follower's fetch says, and whether that follower should be in the ISR.
    pub wakes: Wakes,
    pub has_proposal: bool,
    /// The follower's log begins later than it did.
    pub begins_later: bool,
}

impl PartitionRead {
    pub fn failed(error: ErrorCode) -> Self {
        PartitionRead {
            error,
            positions: None,
            records: Chain::default(),
            aborted: Vec::new(),
            diverging: None,
            preferred: None,
            wakes: Wakes::default(),
            has_proposal: false,
            begins_later: false,
        }
    }
}

/// A request to read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReadRequest {
    pub offset: i64,
    pub max_bytes: usize,
    pub current_leader_epoch: i32,
    pub last_fetched_epoch: i32,
    pub committed_only: bool,
    /// The first batch comes whole even if it is larger than `max_bytes` (KIP-74).
    pub at_least_one: bool,
    /// Whether the caller may wait for the disk.
    pub may_wait: bool,
    /// A follower reads up to the log's end.
    pub by_follower: bool,
    /// Nothing is to be had now, although there may be something.
    pub is_throttled: bool,
    /// Consumers that know of KIP-392 may read from followers.
    pub from_any_replica: bool,
    /// Who it is, when its fetch is looked at for the first time: a fetch is a receipt once.
    pub receipt: Option<FollowerFetch>,
}

impl Partition {
    /// Reads committed records. `None`: the disk is needed and the caller may not wait for it.
    pub(crate) fn read(&self, request: ReadRequest, now: Millis) -> Option<PartitionRead> {
        let mut core = self.lock();
        if let Err(error) = core.check_readable(&request) {
            return Some(PartitionRead::failed(error));
        }
        if !core.is_at_hand() {
            if !request.may_wait {
                return None;
            }
            drop(core);
            if let Err(error) = self.settle(now) {
                return Some(PartitionRead::failed(error));
            }
            core = self.lock();
        }
        core.used = true;
        let positions = match core.positions() {
            Ok(positions) => positions,
            Err(error) => return Some(PartitionRead::failed(error)),
        };
        let mut read = PartitionRead { positions: Some(positions), ..PartitionRead::failed(ErrorCode::None) };
        if request.last_fetched_epoch >= 0 {
            let log = core.log(self, now);
            let log = match log {
                Ok(log) => log,
                Err(error) => return Some(PartitionRead::failed(error)),
            };
            match log.end_offset_for_epoch(request.last_fetched_epoch) {
                Some(found) if is_diverging(found, request.last_fetched_epoch, request.offset) => {
                    read.diverging = Some(found);
                    if is_receipt(true) {
                        core.take_receipt(&request, &mut read, now);
                    }
                    return Some(read);
                }
                Some(_) => {}
                None => return Some(PartitionRead::failed(ErrorCode::OffsetOutOfRange)),
            }
        }
        if request.offset < positions.log_start_offset || request.offset > positions.log_end_offset {
            return Some(PartitionRead::failed(ErrorCode::OffsetOutOfRange));
        }
        let bound = match request.by_follower {
            true => positions.log_end_offset,
            false if request.committed_only => positions.last_stable_offset,
            false => positions.high_watermark,
        };
        if request.offset >= bound || request.is_throttled {
            if let Some(log) = core.log.as_mut() {
                log.expect_reader();
            }
            core.take_receipt(&request, &mut read, now);
            return Some(read);
        }
        let (offset, max_bytes, one) = (request.offset, request.max_bytes, request.at_least_one);
        let log = core.log.as_mut().expect("what is committed is in an open log");
        let cached = log.read_now(offset, max_bytes, bound, one);
        if cached.as_ref().is_some_and(|slice| slice.next_offset >= bound) {
            log.expect_reader();
        }
        let slice = match cached {
            Some(slice) => slice,
            None if !request.may_wait => return None,
            None => loop {
                let swaps = core.log.as_ref().map(Log::swaps);
                drop(core);
                let slice = match self.read_disk(offset, max_bytes, bound, one) {
                    Ok(slice) => slice,
                    Err(error) => return Some(PartitionRead::failed(error)),
                };
                core = self.lock();
                // With a segment that was compacted meanwhile, the list of its aborted transactions went as well.
                if swaps == core.log.as_ref().map(Log::swaps) {
                    break slice;
                }
            },
        };
        if let (true, Some(log)) = (request.committed_only, core.log.as_ref()) {
            read.aborted = log.aborted_transactions(offset, slice.next_offset);
        }
        read.records = slice.records;
        core.take_receipt(&request, &mut read, now);
        Some(read)
    }

    /// Parks a fetch here, unless the high watermark is no longer the one that the fetch saw. Data that waits for a flush is hurried.
    pub(crate) fn park(
        self: &Arc<Self>,
        fetch: &Arc<PendingFetch>,
        seen: Positions,
        by_follower: bool,
        now: Millis,
        out: &mut Effects,
    ) -> bool {
        let mut core = self.lock();
        if by_follower {
            // It is woken by the append itself, not by a timer.
            let end = core.log.as_ref().map_or(0, Log::log_end_offset);
            if end == seen.log_end_offset && core.role == Role::Leader {
                core.replica_fetches.retain(|fetch| !fetch.is_answered());
                core.replica_fetches.push(fetch.clone());
                return true;
            }
            return false;
        }
        if core.high_watermark != seen.high_watermark {
            return false;
        }
        if core.fetches.len() >= 2 * core.fetches_purged_len.max(8) {
            core.fetches.retain(|fetch| !fetch.is_answered());
            core.fetches_purged_len = core.fetches.len();
        }
        core.fetches.push(fetch.clone());
        if let Some(log) = core.log.as_mut() {
            log.expect_reader();
        }
        core.plan_flush(self, true, now, out);
        true
    }
}

impl Core {
    /// Followers serve consumers what they know to be committed; leaders serve followers that are theirs.
    fn check_readable(&self, request: &ReadRequest) -> Result<(), ErrorCode> {
        if self.role == Role::Follower && request.from_any_replica {
            return self.check_epoch(request.current_leader_epoch);
        }
        self.check_leader(request.current_leader_epoch)?;
        let knows = |from| self.leading.as_ref().is_none_or(|leading| leading.knows(from));
        if request.receipt.as_ref().is_none_or(knows) { Ok(()) } else { Err(ErrorCode::NotLeaderOrFollower) }
    }
}
