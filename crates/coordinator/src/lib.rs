//! Groups and their offsets: a request becomes records and a response, replay changes the state.
//!
//! One [`GroupCoordinator`] owns the groups and offsets of one partition of `__consumer_offsets`. The broker keeps it
//! behind the lock of that partition and does, for every request and every timeout:
//!
//! ```text
//! outcome = coordinator.handle_…(request, context)             looks, decides; only soft state changes
//! append(outcome.records)  ─ ok ─►  replies = coordinator.on_appended(outcome, base_offset, now)    (replays them)
//!                          ─ no ─►  replies = coordinator.on_append_failed(outcome, error, now)
//! no records               ──────►  replies = outcome.replies
//! hold the replies until everything appended so far is committed, then send
//! arm a timer for coordinator.next_deadline()
//! ```
//!
//! JoinGroup and SyncGroup are parked: their reply comes out of a later call, often many at once. A [`Waiter`] says whose
//! it is. What the rebalance does, and in which order, is in `rebalance.rs`; which record means what, in `records.rs` and
//! `replay.rs`.

mod commit;
mod config;
mod coordinator;
mod delete;
mod describe;
mod fetch;
mod group;
mod heartbeat;
mod ids;
mod join;
mod leave;
mod member;
mod offset_store;
mod outcome;
mod rebalance;
mod records;
mod replay;
mod subscription;
mod sync;
mod timers;
mod topics;

pub use config::{Config, NAME_BYTES_MAX};
pub use coordinator::{Context, ForeignRecords, GroupCoordinator};
pub use fetch::{offset_fetch_error, offset_fetch_groups, offset_fetch_response};
pub use outcome::{Outcome, Record, Reply, Response, Transaction, Waiter};
pub use records::ReplayError;
pub use topics::Topics;
