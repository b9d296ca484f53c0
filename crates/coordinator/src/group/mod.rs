//! Groups and their offsets.
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
//! it is. Which record means what, is in `records.rs` and `replay.rs`.

mod classic;
mod config;
mod consumer;
mod coordinator;
mod delete;
mod describe;
mod ids;
mod offsets;
pub(crate) mod outcome;
pub(crate) mod records;
mod replay;
mod subscription;
mod timers;
mod topics;

pub use config::{ASSIGNORS, Config, ConsumerConfig, MigrationPolicy, NAME_BYTES_MAX};
pub use coordinator::{Context, ForeignRecords, GroupCoordinator};
pub use offsets::fetch::{offset_fetch_error, offset_fetch_groups, offset_fetch_response};
pub use records::ReplayError;
pub use topics::{GroupOverrides, Topics};
