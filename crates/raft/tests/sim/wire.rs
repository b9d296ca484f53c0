//! What is under way: messages, what the disk was asked for, and timers.

use ottla_raft::*;

use crate::sim::store::{Record, Snapshot};

/// A message on the wire. Requests carry the sender's number for it, answers bring it back.
#[derive(Debug, Clone, Hash)]
pub enum Message {
    Vote(VoteRequest),
    VoteAnswer(VoteResponse),
    Begin(BeginQuorumEpochRequest),
    BeginAnswer(QuorumResponse),
    End(EndQuorumEpochRequest),
    EndAnswer(QuorumResponse),
    Fetch(FetchRequest),
    FetchAnswer(u64, FetchResponse, Vec<Record>),
    FetchSnapshot(FetchSnapshotRequest),
    FetchSnapshotAnswer(u64, FetchSnapshotResponse, Option<Snapshot>),
    ApiVersions(u64, ReplicaKey),
    ApiVersionsAnswer(u64, SupportedVersions),
    AddVoter(AddVoterRequest),
    RemoveVoter(RemoveVoterRequest),
    UpdateVoter(UpdateVoterRequest),
    UpdateVoterAnswer(QuorumResponse),
    /// An answer that nobody looks at.
    Nothing,
}

/// A node in one of its lives: what it asked in one is not answered in the next, as connections do not outlive it.
#[derive(Debug, Clone, Copy, Hash)]
pub struct Life {
    pub node: i32,
    pub life: u32,
}

/// Whom a request came from.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    pub token: u64,
    /// `None`: from somebody outside.
    pub from: Option<Life>,
    pub request: u64,
    pub vote: Option<(i32, ReplicaKey)>,
    /// Whether a fetch is for the epoch that it arrived in.
    pub current: bool,
    pub kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Other,
    UpdateVoter,
}

#[derive(Debug, Clone, Hash)]
pub enum Happening {
    Deliver { from: Life, to: i32, life: Option<u32>, message: Message },
    Persisted { node: i32, life: u32, sequence: u64, state: QuorumState },
    Flushed { node: i32, life: u32, end: i64, truncations: u64 },
    Timeout { node: i32, life: u32, at: i64 },
    WakeFetch { node: i32, life: u32, token: u64 },
}

impl Happening {
    /// The node that it happens to.
    pub fn node(&self) -> i32 {
        match self {
            Happening::Deliver { to: node, .. }
            | Happening::Persisted { node, .. }
            | Happening::Flushed { node, .. }
            | Happening::Timeout { node, .. }
            | Happening::WakeFetch { node, .. } => *node,
        }
    }
}

/// Something under way in the order of time, and of its making among equals.
#[derive(Debug, Clone)]
pub struct Due {
    pub at: i64,
    pub order: u64,
    pub happening: Happening,
}

impl PartialEq for Due {
    fn eq(&self, other: &Due) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Due) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Due) -> std::cmp::Ordering {
        // The earliest is the greatest: a heap gives the greatest first.
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}
