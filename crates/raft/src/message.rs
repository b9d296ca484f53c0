//! What voters say to each other, reduced to what the protocol needs; the broker translates from and to Kafka's
//! Vote, BeginQuorumEpoch, EndQuorumEpoch and Fetch.

use crate::{OffsetAndEpoch, ReplicaKey};

/// Why a request was not honoured; each has its Kafka error code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The sender's epoch is older than the receiver's (FENCED_LEADER_EPOCH, 74).
    FencedEpoch,
    /// The sender's epoch is newer than the receiver's (UNKNOWN_LEADER_EPOCH, 75).
    UnknownEpoch,
    /// Only a leader can answer that (NOT_LEADER_OR_FOLLOWER, 6).
    NotLeader,
    /// The request contradicts itself or what is known (INVALID_REQUEST, 42).
    InvalidRequest,
    /// The request was meant for another voter or another disk (INVALID_VOTER_KEY, 125).
    InvalidVoter,
}

/// Asks for a vote, or whether one would be given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VoteRequest {
    /// The epoch that the sender stands in; for a pre-vote the epoch that it is still in.
    pub epoch: i32,
    /// Who asks.
    pub candidate: ReplicaKey,
    /// Who is asked; `None` in old versions of the request.
    pub voter: Option<ReplicaKey>,
    /// Where the sender's log ends.
    pub log_end: OffsetAndEpoch,
    /// Only a question (KIP-996): nothing is promised and nothing remembered.
    pub pre_vote: bool,
}

/// Answers a [`VoteRequest`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VoteResponse {
    /// Why there was no vote on the question at all.
    pub refusal: Option<Refusal>,
    /// The answerer's epoch.
    pub epoch: i32,
    /// The leader of that epoch, if the answerer knows one.
    pub leader: Option<i32>,
    /// Whether the vote is given.
    pub granted: bool,
}

/// The leader of an epoch makes itself known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BeginQuorumEpochRequest {
    /// The epoch that it leads.
    pub epoch: i32,
    /// The leader.
    pub leader: i32,
    /// Who is told; `None` in old versions of the request.
    pub voter: Option<ReplicaKey>,
}

/// The leader of an epoch steps down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndQuorumEpochRequest {
    /// The epoch that it led.
    pub epoch: i32,
    /// The leader that was.
    pub leader: i32,
    /// Who should stand next, the best first.
    pub preferred: Vec<ReplicaKey>,
}

/// Answers [`BeginQuorumEpochRequest`] and [`EndQuorumEpochRequest`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuorumEpochResponse {
    /// Why the request was not honoured.
    pub refusal: Option<Refusal>,
    /// The answerer's epoch.
    pub epoch: i32,
    /// The leader of that epoch, if the answerer knows one.
    pub leader: Option<i32>,
}

/// A replica asks for records, and by that says how far its own log is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchRequest {
    /// Names this request among those of the sender.
    pub request: u64,
    /// Who asks.
    pub replica: ReplicaKey,
    /// The epoch of the leader that is asked.
    pub epoch: i32,
    /// Where the sender's log ends, and the epoch of its last record.
    pub log_end: OffsetAndEpoch,
    /// The sender's high watermark, so that a newer one is worth an answer (KIP-1166).
    pub high_watermark: Option<i64>,
}

/// Answers a [`FetchRequest`]; the records travel beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchResponse {
    /// Why the request was not honoured.
    pub refusal: Option<Refusal>,
    /// The answerer's epoch.
    pub epoch: i32,
    /// The leader of that epoch, if the answerer knows one.
    pub leader: Option<i32>,
    /// The leader's high watermark, once it has one.
    pub high_watermark: Option<i64>,
    /// The logs differ: the largest epoch of the leader's log that is not beyond the sender's, and its end.
    pub diverging: Option<OffsetAndEpoch>,
    /// Whether records came with the answer.
    pub has_records: bool,
}
