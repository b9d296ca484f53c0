//! KRaft as a pure state machine over epochs and offsets: who leads the metadata quorum, and up to where its log is
//! committed. The protocol is that of KIP-595 with pre-votes (KIP-996), check-quorum, and voters that are known by
//! the directory of their disk too (KIP-853); what the records mean, and how messages are encoded, is not known here.
//!
//! ```text
//!            higher epoch, vote granted               majority of
//!          ┌────────────┐                             pre-votes
//!          ▼            │ election timeout  Prospective ──────► Candidate
//!      Unattached ──────┴──────────────────────▲ │ ▲                │  │ majority of votes,
//!          ▲   │ leader known                  │ │ └── lost, late ──┘  │ own vote on disk
//!          │   ▼                 fetch timeout │ │ lost, had a leader  ▼
//!          │ Follower ◄────────────────────────┴─┘                  Leader
//!          └──────────────────────── Resigned ◄── no majority fetches, shutdown
//! ```
//!
//! One [`Raft`] takes [`Event`]s and gives [`Effect`]s. The one tricky idea is how *every effect is safe to perform
//! the moment it is emitted*: when an event changes what must be remembered (epoch, vote, leader), [`Raft`] asks for
//! it to be persisted, and keeps back every message until [`Event::QuorumStatePersisted`] says that it was. A
//! candidate's own vote counts only then; a replica's own log counts only as far as it is flushed.

mod election;
mod event;
mod follower;
mod leader;
mod message;
mod raft;

pub use event::{Effect, Event};
pub use message::{
    BeginQuorumEpochRequest, EndQuorumEpochRequest, FetchRequest, FetchResponse, QuorumEpochResponse,
    Refusal, VoteRequest, VoteResponse,
};
pub use raft::{EpochLog, OffsetAndEpoch, QuorumState, Raft, ReplicaKey, RoleName, Settings};
