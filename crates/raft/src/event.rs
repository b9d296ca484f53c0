//! Everything that can happen to a [`Raft`](crate::Raft), and everything that it asks for.

use crate::message::{
    AddVoterRequest, BeginQuorumEpochRequest, EndQuorumEpochRequest, FetchRequest, FetchResponse,
    FetchSnapshotRequest, FetchSnapshotResponse, Leader, QuorumResponse, RemoveVoterRequest,
    SupportedVersions, UpdateVoterRequest, VoteRequest, VoteResponse,
};
use crate::replica::{OffsetAndEpoch, QuorumState, ReplicaKey};
use crate::voters::{Control, Endpoints, Voters};

/// Something that happened. A `token` names a request that came from a peer, so that it can be answered later.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
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
    Appended {
        /// Bytes of them.
        bytes: u64,
    },
    /// Whoever makes the records can not go on: this node gives up leading if it leads, and goes on as a voter.
    Resign,
    /// The node is about to stop: it gives up leading if it leads, and stands for no election any more. It may stop as
    /// soon as [`Raft::can_stop`](crate::Raft::can_stop).
    Stop,
    /// A snapshot that [`Effect::LoadSnapshot`] named has taken the place of the whole log. This is the event that
    /// follows the effect: nothing else is taken in between.
    SnapshotLoaded {
        /// Which snapshot.
        id: OffsetAndEpoch,
        /// The control records in it that raft obeys.
        control: Vec<Control>,
    },
    /// A beginning of the log was deleted; it begins with the end of a snapshot now.
    LogPrefixDeleted,
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
        response: QuorumResponse,
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
        response: QuorumResponse,
    },
    /// A replica asks for records.
    FetchRequest {
        /// Names the request.
        token: u64,
        /// What was asked.
        request: FetchRequest,
    },
    /// Somebody answered [`Effect::SendFetch`].
    FetchResponse {
        /// [`FetchRequest::request`] of the request that was answered.
        request: u64,
        /// What it said.
        response: FetchResponse,
    },
    /// A replica asks for a part of a snapshot.
    FetchSnapshotRequest {
        /// Names the request.
        token: u64,
        /// What was asked.
        request: FetchSnapshotRequest,
    },
    /// The leader answered [`Effect::SendFetchSnapshot`].
    FetchSnapshotResponse {
        /// [`FetchSnapshotRequest::request`] of the request that was answered.
        request: u64,
        /// What it said.
        response: FetchSnapshotResponse,
    },
    /// A fetch of records or of a snapshot will not be answered: the connection is gone, or never was.
    FetchFailed {
        /// Number of the request.
        request: u64,
    },
    /// Somebody wants one more voter.
    AddVoterRequest {
        /// Names the request.
        token: u64,
        /// What is wanted.
        request: AddVoterRequest,
    },
    /// The node that shall become a voter answered [`Effect::SendApiVersions`].
    ApiVersionsResponse {
        /// Number of the effect.
        request: u64,
        /// What it supports; `None` if it did not answer, or knows nothing of kraft.version.
        kraft_versions: SupportedVersions,
    },
    /// Somebody wants one voter less.
    RemoveVoterRequest {
        /// Names the request.
        token: u64,
        /// What is wanted.
        request: RemoveVoterRequest,
    },
    /// A voter tells about itself.
    UpdateVoterRequest {
        /// Names the request.
        token: u64,
        /// What it says.
        request: UpdateVoterRequest,
    },
    /// The leader answered [`Effect::SendUpdateVoter`].
    UpdateVoterResponse {
        /// What it said.
        response: QuorumResponse,
    },
    /// The controller wants another level of kraft.version. It counts from the moment that it is appended, and is so for
    /// good once that is committed; where [`Raft::may_upgrade`](crate::Raft::may_upgrade) refuses it, nothing happens.
    UpgradeKRaftVersion {
        /// The level.
        level: i16,
    },
}

/// A deed, safe to perform at once and in any order with the others, except that those on the log are performed in
/// the order in which they were emitted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Write the quorum state durably, later numbers over earlier ones, and report
    /// [`Event::QuorumStatePersisted`].
    PersistQuorumState {
        /// Number to report.
        sequence: u64,
        /// What to write.
        state: QuorumState,
    },
    /// Append the leader-change control record of this epoch to the log: the first record of the epoch. `control`, if it
    /// is not empty, follows in the same batch.
    AppendLeaderChange {
        /// The epoch that begins.
        epoch: i32,
        /// Who votes.
        voters: Vec<i32>,
        /// Who voted for this node, itself included.
        granted_by: Vec<i32>,
        /// The level of kraft.version and the voters, if the log does not have them yet or they changed.
        control: Vec<Control>,
    },
    /// Append these control records to the log as one batch of the leader's epoch.
    AppendControl {
        /// The leader's epoch.
        epoch: i32,
        /// What they say.
        control: Vec<Control>,
    },
    /// Append the records that came with the answer to this fetch, all of them.
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
    /// This node leads and has committed the first record of its epoch: it has everything that was ever committed, and
    /// speaks for the quorum. Follows the [`Effect::HighWatermark`] that says so.
    BecameLeader {
        /// The epoch that it leads.
        epoch: i32,
        /// Offset of the leader-change record.
        epoch_start_offset: i64,
    },
    /// This node leads no more: what is appended and not committed may yet be lost. Comes also if
    /// [`Effect::BecameLeader`] never did.
    StoppedLeading {
        /// The epoch that it led.
        epoch: i32,
    },
    /// The voters changed: those of a record that was just appended, or of one before those that were cut off.
    VotersChanged {
        /// The newest voters.
        voters: Voters,
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
    /// Send a fetch request.
    SendFetch {
        /// To whom.
        to: Destination,
        /// What.
        request: FetchRequest,
    },
    /// Send a request for a part of a snapshot.
    SendFetchSnapshot {
        /// To whom.
        to: Leader,
        /// What.
        request: FetchSnapshotRequest,
    },
    /// Write the bytes that came with the answer to this fetch to the incomplete snapshot; at position 0 it begins
    /// anew, and one that was left incomplete before is dropped.
    WriteSnapshot {
        /// [`FetchSnapshotRequest::request`].
        request: u64,
        /// Which snapshot.
        id: OffsetAndEpoch,
        /// Where the bytes belong.
        position: i64,
    },
    /// The snapshot is complete: make it durable, drop the whole log, let it begin where the snapshot ends, all so that
    /// a crash in between leads to the same, and report [`Event::SnapshotLoaded`] at once.
    LoadSnapshot {
        /// Which snapshot.
        id: OffsetAndEpoch,
    },
    /// Ask a node that shall become a voter what it supports.
    SendApiVersions {
        /// Number to report.
        request: u64,
        /// Whom.
        to: ReplicaKey,
        /// Where it listens.
        endpoints: Endpoints,
    },
    /// Ask the leader to make this node a voter; the answer is of no interest.
    SendAddVoter {
        /// To whom.
        to: Leader,
        /// What.
        request: AddVoterRequest,
    },
    /// Ask the leader to remove the voter that this node was with another disk; the answer is of no interest.
    SendRemoveVoter {
        /// To whom.
        to: Leader,
        /// What.
        request: RemoveVoterRequest,
    },
    /// Tell the leader about this voter.
    SendUpdateVoter {
        /// To whom.
        to: Leader,
        /// What.
        request: UpdateVoterRequest,
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
        response: QuorumResponse,
    },
    /// Answer an end-quorum-epoch request.
    RespondEndQuorumEpoch {
        /// Names the request.
        token: u64,
        /// The answer.
        response: QuorumResponse,
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
    /// Answer with bytes of a snapshot from this position on and with
    /// [`Raft::fetch_snapshot_response`](crate::Raft::fetch_snapshot_response) of that moment; refuse with
    /// [`Refusal::SnapshotNotFound`] or [`Refusal::PositionOutOfRange`] what can not be read.
    ServeSnapshot {
        /// Names the request.
        token: u64,
        /// Which snapshot.
        snapshot: OffsetAndEpoch,
        /// From which byte on.
        position: i64,
    },
    /// Answer a request for a part of a snapshot without bytes: it was refused.
    RespondFetchSnapshot {
        /// Names the request.
        token: u64,
        /// The answer.
        response: FetchSnapshotResponse,
    },
    /// Answer a request to add, remove or update a voter.
    RespondVoters {
        /// Names the request.
        token: u64,
        /// The answer.
        response: QuorumResponse,
    },
}

/// Where a fetch goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Destination {
    /// To the leader.
    Leader(Leader),
    /// To a server of the configured list, to learn who leads.
    Bootstrap(usize),
}
