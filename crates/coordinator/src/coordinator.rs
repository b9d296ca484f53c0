//! What the runtime asks of every coordinator.
//!
//! A coordinator is loaded ([`replay`](Coordinator::replay), then [`on_loaded`](Coordinator::on_loaded)), asked (through methods of its
//! own, which return an [`Outcome`]), ticked, and in the end unloaded. Every outcome that has records comes back through exactly one of
//! [`on_appended`](Coordinator::on_appended) and [`on_append_failed`](Coordinator::on_append_failed) before anything else is asked.

use crate::group::{GroupCoordinator, ReplayError, Topics};
use crate::outcome::{Outcome, Reply};
use ottla_protocol::ErrorCode;

/// The state of one partition of an internal topic.
pub trait Coordinator {
    /// The base sequence of its batches. Nobody looks at it, as no client sent them; but Kafka's tools print it.
    const BASE_SEQUENCE: i32;

    /// Applies one record of the partition: `offset` is where it is in the log, `producer_id` that of its batch if the batch is
    /// transactional, else -1.
    fn replay(
        &mut self,
        key: &[u8],
        value: Option<&[u8]>,
        offset: i64,
        producer_id: i64,
    ) -> Result<(), ReplayError>;

    /// Applies the marker that ends a transaction on the partition.
    fn replay_end_transaction(&mut self, producer_id: i64, commit: bool);

    /// The whole log was replayed; `coordinator_epoch` is the leader epoch of the partition. Requests may come.
    fn on_loaded(&mut self, coordinator_epoch: i32, now: i64, topics: &dyn Topics) -> Outcome;

    /// This node leads the partition no more: the replies to everybody who still waits, to be sent at once.
    fn on_unloaded(&mut self) -> Vec<Reply>;

    /// The records of an outcome are in the log, the first at `base_offset`: the replies to send once they are committed.
    fn on_appended(&mut self, outcome: Outcome, base_offset: i64, now: i64) -> Vec<Reply>;

    /// The records of an outcome are not in the log: the replies to send at once.
    fn on_append_failed(&mut self, outcome: Outcome, error: ErrorCode, now: i64) -> Vec<Reply>;

    /// When [`on_timeout`](Self::on_timeout) wants to be called, in ms since the epoch.
    fn next_deadline(&self) -> Option<i64>;

    /// Lets happen what is due, or a bounded part of it.
    fn on_timeout(&mut self, now: i64, topics: &dyn Topics) -> Outcome;
}

impl Coordinator for GroupCoordinator {
    // Of all batches, those without a producer too.
    const BASE_SEQUENCE: i32 = 0;

    fn replay(
        &mut self,
        key: &[u8],
        value: Option<&[u8]>,
        offset: i64,
        producer_id: i64,
    ) -> Result<(), ReplayError> {
        GroupCoordinator::replay(self, key, value, offset, producer_id)
    }

    fn replay_end_transaction(&mut self, producer_id: i64, commit: bool) {
        GroupCoordinator::replay_end_transaction(self, producer_id, commit);
    }

    fn on_loaded(&mut self, _coordinator_epoch: i32, now: i64, topics: &dyn Topics) -> Outcome {
        GroupCoordinator::on_loaded(self, now, topics)
    }

    fn on_unloaded(&mut self) -> Vec<Reply> {
        GroupCoordinator::on_unloaded(self)
    }

    fn on_appended(&mut self, outcome: Outcome, base_offset: i64, now: i64) -> Vec<Reply> {
        GroupCoordinator::on_appended(self, outcome, base_offset, now)
    }

    fn on_append_failed(&mut self, outcome: Outcome, error: ErrorCode, now: i64) -> Vec<Reply> {
        GroupCoordinator::on_append_failed(self, outcome, error, now)
    }

    fn next_deadline(&self) -> Option<i64> {
        GroupCoordinator::next_deadline(self)
    }

    fn on_timeout(&mut self, now: i64, topics: &dyn Topics) -> Outcome {
        GroupCoordinator::on_timeout(self, now, topics)
    }
}
