//! How two logs of a partition agree: what a leader refuses, where two logs part, what a follower takes over. Plain questions about numbers,
//! which [`Core`](super::Core) asks of its log and a model of its own.

use ottla_metadata::config::Durability;
use ottla_protocol::ErrorCode;

use super::guard::ReplicaGuard as Guard;

/// Whether a request speaks of the leader epoch that is `known` here; -1 says nothing.
pub fn check_epoch(known: i32, asked: i32) -> Result<(), ErrorCode> {
    if asked >= 0 && !Guard::FetchNotOlder.holds(asked >= known) {
        return Err(ErrorCode::FencedLeaderEpoch);
    }
    if !Guard::FetchNotNewer.holds(asked <= known) {
        return Err(ErrorCode::UnknownLeaderEpoch);
    }
    Ok(())
}

/// Whether a log whose last record is of `last_epoch` and that ends at `offset` differs from this one, in which the largest epoch up to
/// that is `found`, with its end.
pub fn is_diverging(found: (i32, i64), last_epoch: i32, offset: i64) -> bool {
    !Guard::DivergingEpoch.holds(found.0 >= last_epoch) || !Guard::DivergingOffset.holds(found.1 >= offset)
}

/// Whether a fetch of a log that differs, or not, is a receipt.
pub fn is_receipt(is_diverging: bool) -> bool {
    Guard::ReceiptOfSameLog.holds(!is_diverging)
}

/// Whether a follower in `epoch` listens to what a leader answers that was asked in `asked`.
pub fn follows_in(is_follower: bool, epoch: i32, asked: i32) -> bool {
    is_follower && Guard::FetchedInThisEpoch.holds(epoch == asked)
}

/// Whether records that begin at `first` may follow a log that ends at `end`. A leader that compacted has nothing at some offsets.
pub fn fits(first: i64, end: i64) -> bool {
    Guard::FetchedFits.holds(first >= end)
}

/// Where a log is cut off that differs from the leader's: the leader's largest epoch up to the own one is `theirs`, with its end; `own` is
/// the same of the own log, which begins at `start`.
pub fn common_end(own: Option<(i32, i64)>, theirs: (i32, i64), start: i64) -> i64 {
    match own {
        _ if !Guard::CutsAtCommonEnd.stands() => theirs.1,
        Some((epoch, end)) if epoch == theirs.0 => end.min(theirs.1),
        Some((_, end)) => end,
        None => start,
    }
}

/// What a follower knows to be committed, of a log that ends at `end`.
pub fn followed_high_watermark(of_leader: i64, end: i64) -> i64 {
    if Guard::CommittedIsThere.stands() { of_leader.clamp(0, end) } else { of_leader }
}

/// How far the leader's own log counts.
pub fn own_end(durability: Durability, synced: i64, end: i64) -> i64 {
    match durability {
        Durability::Flushed if Guard::OwnLogFlushed.stands() => synced,
        Durability::Flushed | Durability::Replicated => end,
    }
}

/// Whether a follower may fetch, which says that it has everything before.
pub fn is_receipted(durability: Durability, synced: i64, end: i64) -> bool {
    durability == Durability::Replicated || Guard::ReceiptAfterFlush.holds(synced >= end)
}
