//! KRaft as a pure state machine over epochs and offsets: who leads the metadata quorum, who votes in it, and up to where
//! its log is committed. The protocol is that of Kafka 4.4: KIP-595, pre-votes (KIP-996), check-quorum, voters that are
//! known by their disk and change at run time (KIP-853), snapshots (KIP-630), and high watermarks in fetches (KIP-1166).
//! What the other records mean, and how messages are encoded, is not known here.
//!
//! ```text
//!            higher epoch, vote granted               majority of
//!          ┌────────────┐                             pre-votes
//!          ▼            │ election timeout  Prospective ──────► Candidate
//!      Unattached ──────┴──────────────────────▲ │ ▲                │  │ majority of votes,
//!          ▲   │ leader known                  │ │ └── lost, late ──┘  │ own vote on disk
//!          │   ▼                 fetch timeout │ │ lost, had a leader  ▼
//!          │ Follower ◄────────────────────────┴─┘                  Leader
//!          └──────────────────────── Resigned ◄── no majority fetches, removed, shutdown
//! ```
//!
//! A replica that is no voter, an observer, is only ever Unattached or Follower.
//!
//! One [`Raft`] takes [`Event`]s and gives [`Effect`]s. The one tricky idea is how *every effect is safe to perform
//! the moment it is emitted*: when an event changes what must be remembered (epoch, vote, leader), [`Raft`] asks for
//! it to be persisted, and keeps back every message until [`Event::QuorumStatePersisted`] says that it was. A
//! candidate's own vote counts only then; a replica's own log counts only as far as it is flushed.
//!
//! | file | what |
//! |---|---|
//! | `raft` | the machine, what it remembers, the changes of role |
//! | `election` | pre-votes, votes, winning |
//! | `leader` | followers, the high watermark, giving up |
//! | `change` | the leader changes the voters and kraft.version |
//! | `fetch` | following: fetch, append or truncate, flush, fetch again; finding the leader |
//! | `download` | a snapshot in place of a log that the leader has deleted; what a snapshot may be |
//! | `join` | a voter tells the leader about itself; a controller becomes a voter |
//! | `voters` | sets of voters, and their history by offset |
//! | `guard` | the load-bearing conditions by name |

mod change;
mod describe;
mod download;
mod election;
mod event;
mod fetch;
mod fingerprint;
mod guard;
mod join;
mod leader;
mod message;
mod raft;
mod replica;
mod voters;

pub use describe::{QuorumDescription, ReplicaDescription};
pub use event::{Destination, Effect, Event};
pub use guard::Guard;
pub use message::{
    AddVoterRequest, BeginQuorumEpochRequest, EndQuorumEpochRequest, FetchRequest, FetchResponse,
    FetchSnapshotRequest, FetchSnapshotResponse, FetchedRecords, Leader, QuorumResponse, Refusal,
    RemoveVoterRequest, SupportedVersions, UpdateVoterRequest, VoteRequest, VoteResponse,
};
pub use raft::{Raft, RoleName, Settings};
pub use replica::{EpochLog, OffsetAndEpoch, QuorumState, ReplicaKey};
pub use voters::{Control, Endpoint, Endpoints, VersionRange, Voter, Voters};
