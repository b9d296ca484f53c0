//! Snapshots: fetching one in place of a log whose beginning the leader has deleted (KIP-630), and what a snapshot may be.
//!
//! A snapshot has only what was committed, so that it may take the place of any log that ends before it, whatever that
//! log has: a log that ends there and has other records was never committed.

use crate::event::Effect;
use crate::fetch::{Fetch, Following};
use crate::guard::Guard;
use crate::message::{FetchSnapshotRequest, FetchSnapshotResponse, Refusal};
use crate::raft::{Raft, Role, Step, valid_epoch};
use crate::replica::{EpochLog, OffsetAndEpoch};
use crate::voters::Control;

/// A snapshot on its way.
#[derive(Debug, Clone, Copy, Hash)]
pub(crate) struct Download {
    pub id: OffsetAndEpoch,
    /// Bytes that are here.
    pub position: i64,
}

impl Download {
    pub fn request(&self, request: u64, raft: &Raft) -> FetchSnapshotRequest {
        let (replica, epoch) = (raft.settings.me, raft.state.epoch);
        FetchSnapshotRequest { request, replica, epoch, snapshot: self.id, position: self.position }
    }
}

impl Raft {
    /// The header of an answer with bytes of a snapshot, as of now; what it says of bytes is for the shell to fill in.
    pub fn fetch_snapshot_response(&self, snapshot: OffsetAndEpoch) -> FetchSnapshotResponse {
        FetchSnapshotResponse {
            refusal: (!matches!(self.role, Role::Leader(_))).then_some(Refusal::NotLeader),
            epoch: self.state.epoch,
            leader: self.known_leader(),
            snapshot,
            size: 0,
            position: 0,
            bytes: 0,
        }
    }

    /// Whether a snapshot may be taken of everything before `id`: all of it is committed, the log has it, and no batch
    /// goes over its end (`at_batch`: one begins there, or the log ends there), because whoever loads the snapshot
    /// fetches from there on (KAFKA-14618, KAFKA-14619).
    pub fn may_take_snapshot(&self, id: OffsetAndEpoch, at_batch: bool, log: &dyn EpochLog) -> bool {
        let committed = self.high_watermark.is_some_and(|committed| id.offset <= committed);
        let inside = (log.log_start_offset()..=log.log_end_offset()).contains(&id.offset);
        let epoch = log.end_offset_for_epoch(id.epoch);
        let ours = epoch.epoch == id.epoch && epoch.offset >= id.offset;
        id.offset > 0
            && inside
            && ours
            && Guard::SnapshotCommitted.holds(committed)
            && Guard::SnapshotAtBatch.holds(at_batch)
    }

    pub(crate) fn on_fetch_snapshot_request(
        &mut self,
        token: u64,
        request: &FetchSnapshotRequest,
        step: &mut Step<'_>,
    ) {
        let snapshot = request.snapshot;
        let checked = self.check_leads(request.epoch).and_then(|()| {
            // The snapshot that a log began with is not replicated: the first leader wrote its content to the log.
            let kept = snapshot.offset > 0 && step.log.has_snapshot(snapshot);
            if kept { Ok(()) } else { Err(Refusal::SnapshotNotFound) }?;
            if request.position >= 0 { Ok(()) } else { Err(Refusal::PositionOutOfRange) }
        });
        match checked {
            Err(refusal) => {
                let header = self.fetch_snapshot_response(snapshot);
                let response = FetchSnapshotResponse { refusal: Some(refusal), ..header };
                step.send(Effect::RespondFetchSnapshot { token, response });
            }
            Ok(()) => {
                self.on_replica_heard(&request.replica, step);
                step.send(Effect::ServeSnapshot { token, snapshot, position: request.position });
            }
        }
    }

    pub(crate) fn begin_download(&mut self, id: OffsetAndEpoch, step: &mut Step<'_>) {
        let end = step.log_end();
        let newer = id.offset > 0 && (id.epoch, id.offset) > (end.epoch, end.offset);
        let complete = self.high_watermark.is_none_or(|committed| committed <= id.offset);
        let Role::Follower(following) = &mut self.role else { return };
        if newer && complete && id.epoch <= self.state.epoch {
            following.download = Some(Download { id, position: 0 });
            self.fetch_next(false, step);
        } else {
            // It has less than is here: the leader is confused, or will find that the logs differ.
            self.pause_fetch(false, step);
        }
    }

    pub(crate) fn on_fetch_snapshot_response(
        &mut self,
        request: u64,
        response: &FetchSnapshotResponse,
        step: &mut Step<'_>,
    ) {
        if !valid_epoch(response.epoch) {
            return;
        }
        let epoch = self.state.epoch;
        let consistent = self.learn(response.epoch, response.leader.as_ref(), step);
        if !consistent || !self.fetch.awaits(request) || response.epoch != epoch || self.state.epoch != epoch
        {
            return;
        }
        let fetch_deadline = step.now + self.settings.fetch_timeout_ms;
        let Role::Follower(following) = &mut self.role else { return };
        let Following { download: Some(download), .. } = following else { return };
        let belongs = response.snapshot == download.id && response.position == download.position;
        let (id, position) = (download.id, download.position);
        match response.refusal {
            None if belongs && response.bytes > 0 && position + response.bytes <= response.size => {
                download.position += response.bytes;
                following.fetch_deadline = fetch_deadline;
                following.has_fetched = true;
                step.perform(Effect::WriteSnapshot { request, id, position });
                if position + response.bytes == response.size {
                    following.download = None;
                    self.fetch = Fetch::Flushing;
                    step.perform(Effect::LoadSnapshot { id });
                } else {
                    self.fetch_next(false, step);
                }
            }
            // The leader has a newer one by now, or answers something else than it was asked: begin anew.
            None | Some(Refusal::SnapshotNotFound | Refusal::PositionOutOfRange) => {
                following.download = None;
                following.fetch_deadline = fetch_deadline;
                self.pause_fetch(false, step);
            }
            Some(_) => self.pause_fetch(false, step),
        }
    }

    pub(crate) fn on_snapshot_loaded(
        &mut self,
        id: OffsetAndEpoch,
        control: Vec<Control>,
        step: &mut Step<'_>,
    ) {
        assert_eq!(step.log_end(), id, "the log begins and ends where the snapshot ends");
        self.history.replace(id.offset, control);
        self.flushed_end = id.offset;
        if Some(id.offset) > self.high_watermark {
            self.high_watermark = Some(id.offset);
            step.perform(Effect::HighWatermark { offset: id.offset });
        }
        self.on_fetcher_flushed(step);
    }
}
