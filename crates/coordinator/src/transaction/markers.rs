//! Markers: the end of a decided transaction, written to each of its partitions.
//!
//! The coordinator does not write them: it emits a [`Deed`] when it decides, which the runtime performs once the decision is committed,
//! and gets a [`MarkerEvent`] for every partition. The tricky idea: nothing of the progress is in the log. A coordinator that is loaded
//! begins anew with all partitions, and a partition that has its marker already takes another without harm.

use super::coordinator::TransactionCoordinator;
use super::entry::Entry;
use super::state::TransactionState;
use super::{TopicPartition, TransactionVersion};
use crate::guards::Guard;
use crate::outcome::Outcome;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Something to be done once everything appended so far is committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    /// End a transaction in its partitions.
    WriteMarkers(Markers),
}

/// The markers of one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Markers {
    /// Whose transaction.
    pub transactional_id: Arc<str>,
    /// Tells this ending from every other of the same coordinator.
    pub round: u64,
    /// Of the markers.
    pub producer_id: i64,
    /// Of the markers.
    pub producer_epoch: i16,
    /// Leader epoch of the coordinator's partition.
    pub coordinator_epoch: i32,
    /// Commit or abort.
    pub commit: bool,
    /// The rules that the transaction was ended by; with version 2 the epoch must be a new one.
    pub version: TransactionVersion,
    /// Where they go.
    pub partitions: Vec<TopicPartition>,
}

/// What became of the marker of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MarkerResult {
    /// It is committed, or the partition was deleted, or it knows of a later producer: there is nothing left to end.
    Done,
    /// It may be written later: the partition is not there right now.
    NotNow,
    /// Another coordinator has taken over since.
    Fenced,
}

/// Tells a coordinator what became of a marker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarkerEvent {
    /// From the deed.
    pub transactional_id: Arc<str>,
    /// From the deed.
    pub coordinator_epoch: i32,
    /// From the deed.
    pub round: u64,
    /// Which partition.
    pub partition: TopicPartition,
    /// What became of it.
    pub result: MarkerResult,
}

/// A transaction whose markers are being written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ending {
    round: u64,
    /// Partitions that are not known to have their marker.
    missing: BTreeSet<TopicPartition>,
    /// Those of them whose marker has to be sent again.
    failed: BTreeSet<TopicPartition>,
}

impl Ending {
    pub fn has_all_markers(&self) -> bool {
        self.missing.is_empty()
    }
}

impl TransactionCoordinator {
    /// Begins to end a transaction: its markers are a deed, if there are any.
    pub(super) fn begin_ending(&mut self, id: &Arc<str>, entry: &Entry, out: &mut Outcome) -> Ending {
        self.last_round += 1;
        let ending =
            Ending { round: self.last_round, missing: entry.partitions.clone(), failed: BTreeSet::new() };
        if !ending.has_all_markers() {
            let partitions = entry.partitions.iter().cloned().collect();
            out.deeds.push(Deed::WriteMarkers(self.markers(id, entry, ending.round, partitions)));
        }
        ending
    }

    fn markers(&self, id: &Arc<str>, entry: &Entry, round: u64, partitions: Vec<TopicPartition>) -> Markers {
        Markers {
            transactional_id: id.clone(),
            round,
            producer_id: entry.producer_id,
            producer_epoch: entry.producer_epoch,
            coordinator_epoch: self.coordinator_epoch,
            commit: entry.state == TransactionState::PrepareCommit,
            version: entry.client_version,
            partitions,
        }
    }

    /// A marker was written, or not. When all are there, the transaction is complete.
    pub fn on_marker(&mut self, event: &MarkerEvent, now: i64) -> Outcome {
        let mut out = Outcome::default();
        let id = &event.transactional_id;
        let Some(ending) = self.endings.get_mut(id) else { return out };
        // News of an ending that is over, or of another coordinator's.
        if ending.round != event.round || self.coordinator_epoch != event.coordinator_epoch {
            return out;
        }
        match event.result {
            MarkerResult::Done => {
                ending.missing.remove(&event.partition);
                ending.failed.remove(&event.partition);
                if ending.missing.is_empty() || !Guard::CompleteNeedsAllMarkers.stands() {
                    self.complete(id, now, &mut out);
                }
            }
            MarkerResult::NotNow => {
                ending.failed.insert(event.partition.clone());
                if Guard::MarkersAreRetried.stands() {
                    self.retry_markers(id.clone(), now);
                }
            }
            // Whoever took over writes the markers, and this coordinator will soon be told to resign.
            MarkerResult::Fenced => {}
        }
        out
    }

    fn complete(&mut self, id: &Arc<str>, now: i64, out: &mut Outcome) {
        let completed = self.entries[id].completed(now);
        self.transit(id, completed, out);
    }

    pub(super) fn retry_markers(&mut self, id: Arc<str>, now: i64) {
        if !self.retries.iter().any(|(_, planned)| *planned == id) {
            self.retries.insert((now + self.config.marker_retry_ms, id));
        }
    }

    /// Sends markers again whose pause is over, and completes what could not be completed before.
    pub(super) fn resend_markers(&mut self, now: i64, out: &mut Outcome) {
        while self.retries.first().is_some_and(|(at, _)| *at <= now) {
            let (_, id) = self.retries.pop_first().expect("looked at above");
            let Some(ending) = self.endings.get_mut(&id) else { continue };
            if ending.has_all_markers() {
                self.complete(&id, now, out);
                continue;
            }
            let (round, failed) = (ending.round, std::mem::take(&mut ending.failed));
            if !failed.is_empty() {
                let failed = failed.into_iter().collect();
                out.deeds.push(Deed::WriteMarkers(self.markers(&id, &self.entries[&id], round, failed)));
            }
        }
    }
}
