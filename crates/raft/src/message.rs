//! What replicas say to each other, reduced to what the protocol needs; the broker translates from and to Kafka's
//! Vote, BeginQuorumEpoch, EndQuorumEpoch, Fetch, FetchSnapshot, and Add-, Remove- and UpdateRaftVoter.

use crate::replica::{OffsetAndEpoch, ReplicaKey};
use crate::voters::{Control, Endpoints, VersionRange, Voter};

/// Why a request was not honoured; each has its Kafka error code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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
    /// Another change of the voters is not over, or this one was not in time (REQUEST_TIMED_OUT, 7).
    TimedOut,
    /// The cluster's kraft.version does not know of that (UNSUPPORTED_VERSION, 35).
    UnsupportedVersion,
    /// A voter has this id already (DUPLICATE_VOTER, 126).
    DuplicateVoter,
    /// There is no such voter (VOTER_NOT_FOUND, 127).
    VoterNotFound,
    /// The level of a feature can not be changed to that (INVALID_UPDATE_VERSION, 95).
    InvalidUpdateVersion,
    /// There is no such snapshot (SNAPSHOT_NOT_FOUND, 98).
    SnapshotNotFound,
    /// The snapshot does not reach to that position (POSITION_OUT_OF_RANGE, 99).
    PositionOutOfRange,
}

/// A leader, and where to reach it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Leader {
    /// Node id.
    pub id: i32,
    /// Its listeners; empty if the message does not say.
    pub endpoints: Endpoints,
}

/// Asks for a vote, or whether one would be given.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
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
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct VoteResponse {
    /// Why there was no vote on the question at all.
    pub refusal: Option<Refusal>,
    /// The answerer's epoch.
    pub epoch: i32,
    /// The leader of that epoch, if the answerer knows one.
    pub leader: Option<Leader>,
    /// Whether the vote is given.
    pub granted: bool,
}

/// The leader of an epoch makes itself known.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BeginQuorumEpochRequest {
    /// The epoch that it leads.
    pub epoch: i32,
    /// The leader.
    pub leader: Leader,
    /// Who is told; `None` in old versions of the request.
    pub voter: Option<ReplicaKey>,
}

/// The leader of an epoch steps down.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EndQuorumEpochRequest {
    /// The epoch that it led.
    pub epoch: i32,
    /// The leader that was.
    pub leader: Leader,
    /// Who should stand next, the best first.
    pub preferred: Vec<ReplicaKey>,
}

/// Answers requests that say who leads, and those that change the voters.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct QuorumResponse {
    /// Why the request was not honoured.
    pub refusal: Option<Refusal>,
    /// The answerer's epoch.
    pub epoch: i32,
    /// The leader of that epoch, if the answerer knows one.
    pub leader: Option<Leader>,
}

/// A replica asks for records, and by that says how far its own log is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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

/// Answers a [`FetchRequest`]; the bytes of the records travel beside it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FetchResponse {
    /// Why the request was not honoured.
    pub refusal: Option<Refusal>,
    /// The answerer's epoch.
    pub epoch: i32,
    /// The leader of that epoch, if the answerer knows one.
    pub leader: Option<Leader>,
    /// The leader's high watermark, once its epoch has one.
    pub high_watermark: Option<i64>,
    /// The logs differ: the largest epoch of the leader's log that is not beyond the sender's, and its end.
    pub diverging: Option<OffsetAndEpoch>,
    /// The leader's log begins after what was asked for: the snapshot that has it.
    pub snapshot: Option<OffsetAndEpoch>,
    /// What came with the answer, if records did. Whoever hands it over has checked that the batches are whole and
    /// undamaged, and that their offsets and epochs follow each other.
    pub records: Option<FetchedRecords>,
}

/// What raft needs to know of fetched batches.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FetchedRecords {
    /// Offset of the first record.
    pub base_offset: i64,
    /// Epoch of the first batch.
    pub first_epoch: i32,
    /// Where the log will end with them.
    pub end: OffsetAndEpoch,
    /// The control records among them that raft obeys, with their offsets.
    pub control: Vec<(i64, Control)>,
}

/// Asks for a part of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FetchSnapshotRequest {
    /// Names this request among those of the sender.
    pub request: u64,
    /// Who asks.
    pub replica: ReplicaKey,
    /// The epoch of the leader that is asked.
    pub epoch: i32,
    /// Which snapshot.
    pub snapshot: OffsetAndEpoch,
    /// From which byte on.
    pub position: i64,
}

/// Answers a [`FetchSnapshotRequest`]; the bytes travel beside it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FetchSnapshotResponse {
    /// Why the request was not honoured.
    pub refusal: Option<Refusal>,
    /// The answerer's epoch.
    pub epoch: i32,
    /// The leader of that epoch, if the answerer knows one.
    pub leader: Option<Leader>,
    /// Which snapshot.
    pub snapshot: OffsetAndEpoch,
    /// Bytes of the whole snapshot.
    pub size: i64,
    /// Where the bytes that came belong.
    pub position: i64,
    /// How many bytes came.
    pub bytes: i64,
}

/// Asks the leader for one more voter.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AddVoterRequest {
    /// Node and disk.
    pub voter: ReplicaKey,
    /// Where it listens.
    pub endpoints: Endpoints,
    /// Whether to answer when the change is committed, or as soon as it is appended.
    pub ack_when_committed: bool,
}

/// Asks the leader for one voter less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RemoveVoterRequest {
    /// Node and disk.
    pub voter: ReplicaKey,
}

/// A voter tells the leader about itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UpdateVoterRequest {
    /// The epoch of the leader that is told.
    pub epoch: i32,
    /// The voter.
    pub voter: Voter,
}

/// Answers the question which levels of kraft.version a replica supports (ApiVersions).
pub type SupportedVersions = Option<VersionRange>;
