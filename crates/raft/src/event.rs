//! Everything that can happen to a [`Raft`](crate::Raft), and everything that it asks for.

use crate::{
    BeginQuorumEpochRequest, EndQuorumEpochRequest, FetchRequest, FetchResponse, OffsetAndEpoch,
    QuorumEpochResponse, QuorumState, ReplicaKey, VoteRequest, VoteResponse,
};

/// Something that happened. A `token` names a request that came from a peer, so that it can be answered later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The first event, once: the log is recovered and flushed.
    Start,
    /// The time of [`Raft::next_deadline`](crate::Raft::next_deadline) has come.
    Timeout,
    /// The state of [`Effect::PersistQuorumState`] with this number is on disk.
    QuorumStatePersisted {
        /// Number of the effect.
        sequence: u64,
    },
    /// The log is on disk up to here, exclusive. Only what is true now counts: a flush that began before the log was
    /// truncated must not be reported for records that were appended after it.
    LogFlushed {
        /// End of what is on disk.
        end_offset: i64,
    },
    /// The leader appended records of its epoch to the log.
    Appended,
    /// The node is about to stop, and gives up leading if it leads.
    Resign,
    /// A peer asks for a vote.
    VoteRequest {
        /// Names the request.
        token: u64,
        /// What was asked.
        request: VoteRequest,
    },
    /// A peer answered [`Effect::SendVote`].
    VoteResponse {
        /// Who answered.
        from: i32,
        /// What it said.
        response: VoteResponse,
    },
    /// A leader makes itself known.
    BeginQuorumEpochRequest {
        /// Names the request.
        token: u64,
        /// What it said.
        request: BeginQuorumEpochRequest,
    },
    /// A peer answered [`Effect::SendBeginQuorumEpoch`].
    BeginQuorumEpochResponse {
        /// Who answered.
        from: i32,
        /// What it said.
        response: QuorumEpochResponse,
    },
    /// A leader steps down.
    EndQuorumEpochRequest {
        /// Names the request.
        token: u64,
        /// What it said.
        request: EndQuorumEpochRequest,
    },
    /// A peer answered [`Effect::SendEndQuorumEpoch`].
    EndQuorumEpochResponse {
        /// Who answered.
        from: i32,
        /// What it said.
        response: QuorumEpochResponse,
    },
    /// A replica asks for records.
    FetchRequest {
        /// Names the request.
        token: u64,
        /// What was asked.
        request: FetchRequest,
    },
    /// The leader answered [`Effect::SendFetch`].
    FetchResponse {
        /// [`FetchRequest::request`] of the request that was answered.
        request: u64,
        /// What it said.
        response: FetchResponse,
    },
}

/// A deed, safe to perform at once and in any order with the others, except that those on the log are performed in
/// the order in which they were emitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Write the quorum state durably, later numbers over earlier ones, and report
    /// [`Event::QuorumStatePersisted`].
    PersistQuorumState {
        /// Number to report.
        sequence: u64,
        /// What to write.
        state: QuorumState,
    },
    /// Append the leader-change control record of this epoch to the log: the first record of the epoch.
    AppendLeaderChange {
        /// The epoch that begins.
        epoch: i32,
        /// Who voted for this node, itself included.
        granted_by: Vec<i32>,
    },
    /// Append the records that came with the answer to this fetch: those that follow the end of the log and whose
    /// epoch is not beyond the current one.
    AppendFetched {
        /// [`FetchRequest::request`].
        request: u64,
    },
    /// Cut the log off here, exclusive: what follows was never committed.
    TruncateLog {
        /// New end of the log.
        end_offset: i64,
    },
    /// Flush the log and report [`Event::LogFlushed`].
    FlushLog,
    /// This node leads; proposals may be appended. It speaks for the quorum once the high watermark has passed
    /// `epoch_start_offset`.
    BecameLeader {
        /// The epoch that it leads.
        epoch: i32,
        /// Offset of the leader-change record.
        epoch_start_offset: i64,
    },
    /// This node leads no more: what is appended and not committed may yet be lost.
    StoppedLeading {
        /// The epoch that it led.
        epoch: i32,
    },
    /// Epoch or leader, as this node knows them, changed.
    LeaderChanged {
        /// The epoch.
        epoch: i32,
        /// Its leader, if known.
        leader: Option<i32>,
    },
    /// Everything below is committed.
    HighWatermark {
        /// The high watermark, exclusive.
        offset: i64,
    },
    /// The leader's log contradicts what this node knows to be committed: stop, before anything is lost.
    Halt {
        /// This node's high watermark.
        high_watermark: i64,
        /// What the leader said.
        diverging: OffsetAndEpoch,
    },
    /// Send a vote request.
    SendVote {
        /// To whom.
        to: ReplicaKey,
        /// What.
        request: VoteRequest,
    },
    /// Send a begin-quorum-epoch request.
    SendBeginQuorumEpoch {
        /// To whom.
        to: ReplicaKey,
        /// What.
        request: BeginQuorumEpochRequest,
    },
    /// Send an end-quorum-epoch request.
    SendEndQuorumEpoch {
        /// To whom.
        to: ReplicaKey,
        /// What.
        request: EndQuorumEpochRequest,
    },
    /// Send a fetch request to the leader.
    SendFetch {
        /// Node id of the leader.
        to: i32,
        /// What.
        request: FetchRequest,
    },
    /// Answer a vote request.
    RespondVote {
        /// Names the request.
        token: u64,
        /// The answer.
        response: VoteResponse,
    },
    /// Answer a begin-quorum-epoch request.
    RespondBeginQuorumEpoch {
        /// Names the request.
        token: u64,
        /// The answer.
        response: QuorumEpochResponse,
    },
    /// Answer an end-quorum-epoch request.
    RespondEndQuorumEpoch {
        /// Names the request.
        token: u64,
        /// The answer.
        response: QuorumEpochResponse,
    },
    /// Answer a fetch request without records: it was refused, or the logs differ.
    RespondFetch {
        /// Names the request.
        token: u64,
        /// The answer.
        response: FetchResponse,
    },
    /// Answer a fetch request with records from `offset` on and with
    /// [`Raft::fetch_response`](crate::Raft::fetch_response) of that moment; it may wait for records, for a newer
    /// high watermark, or for [`Effect::StoppedLeading`]. An offset before the start of the log needs a snapshot.
    ServeFetch {
        /// Names the request.
        token: u64,
        /// Where to read.
        offset: i64,
        /// What the asker knows to be committed.
        high_watermark: Option<i64>,
    },
}
