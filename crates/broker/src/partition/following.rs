//! A partition as its followers see it, and as a follower itself: who leads, what the leader's log has, and what of the own log is to go.
//!
//! The one tricky idea: everything that comes from a leader names the leader epoch that it was asked in. An answer that arrives when the
//! partition has gone on to another epoch, or is led here by now, is dropped: what it says was true of another log (KAFKA-18991).

use std::sync::Arc;

use bytes::Bytes;
use ottla_metadata::Partition as Described;
use ottla_protocol::{ErrorCode, records};
use ottla_storage::{AppendOrigin, DeleteJob, Log};

use super::agreement::{self, common_end, fits, followed_high_watermark, own_end};
use super::{
    Core, FollowerFetch, Leading, Partition, PartitionRead, Proposal, ReadRequest, Readable, Role, Wakes,
};
use crate::effect::{Effects, Millis};

/// Where a follower's log stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FollowPosition {
    pub log_start_offset: i64,
    pub log_end_offset: i64,
    /// Epoch of the last record; -1 if there is none.
    pub last_epoch: i32,
}

/// What an answer of the leader brought.
#[must_use]
pub(crate) struct Fetched {
    pub wakes: Wakes,
    /// The leader has more that is committed.
    pub is_behind: bool,
}

impl Partition {
    /// Leads, as the image says. Returns who is woken by that: with other members of the ISR other things are committed.
    pub(crate) fn become_leader(&self, me: i32, described: &Described, now: Millis) -> Wakes {
        let mut wakes = Wakes::default();
        let core = &mut *self.lock();
        if core.role == Role::Deleted || core.role == Role::Offline {
            return wakes;
        }
        let leader_epoch = described.leader_epoch.0;
        assert!(leader_epoch >= core.leader_epoch, "leader epochs never go back");
        let goes_on = core.role == Role::Leader && leader_epoch == core.leader_epoch;
        let end = core.log.as_ref().map_or(0, Log::log_end_offset);
        core.leading = Some(Leading::of_image(core.leading.take(), me, described, end, now));
        if !goes_on {
            // Consumers that read from a follower find a leader.
            wakes.fetches.append(&mut core.fetches);
        }
        core.role = Role::Leader;
        if leader_epoch > core.leader_epoch
            && let Some(log) = core.log.as_mut()
        {
            log.begin_epoch(leader_epoch);
        }
        core.leader_epoch = leader_epoch;
        core.advance_own(now, &mut wakes);
        wakes
    }

    /// Follows another node. Returns whether it did not in this epoch before.
    pub(crate) fn become_follower(&self, leader_epoch: i32) -> (bool, Wakes) {
        let mut core = self.lock();
        if core.role == Role::Deleted || core.role == Role::Offline {
            return (false, Wakes::default());
        }
        let is_new = core.role != Role::Follower || leader_epoch > core.leader_epoch;
        core.role = Role::Follower;
        core.leading = None;
        core.leader_epoch = leader_epoch.max(core.leader_epoch);
        (is_new, core.abandon(ErrorCode::NotLeaderOrFollower))
    }

    /// Gives leadership up: nobody leads, or there is no replica here.
    pub(crate) fn resign(&self, leader_epoch: i32) -> Wakes {
        let mut core = self.lock();
        if matches!(core.role, Role::Leader | Role::Follower) {
            core.role = Role::Idle;
        }
        core.leading = None;
        core.leader_epoch = leader_epoch.max(core.leader_epoch);
        core.abandon(ErrorCode::NotLeaderOrFollower)
    }

    /// Whether there is no log yet.
    pub(crate) fn is_fresh(&self) -> bool {
        self.lock().fresh
    }

    /// Whether this node leads and others follow.
    pub(crate) fn has_followers(&self) -> bool {
        self.lock().leading.as_ref().is_some_and(|leading| !leading.is_alone())
    }

    /// Whether everything that was fetched is on disk, as far as it has to be before the next fetch says so.
    pub(crate) fn is_receipted(&self) -> bool {
        let core = self.lock();
        let durability = core.settings.durability;
        let is_receipted =
            |log: &Log| agreement::is_receipted(durability, core.durable_end(), log.log_end_offset());
        core.role != Role::Follower || core.log.as_ref().is_none_or(is_receipted)
    }

    /// Where the log of a follower stands. Waits for the disk unless the log [is at hand](Partition::is_at_hand).
    pub(crate) fn follow_position(
        &self,
        leader_epoch: i32,
        now: Millis,
    ) -> Result<FollowPosition, ErrorCode> {
        if !self.is_at_hand() {
            self.settle(now)?;
        }
        let core = self.lock();
        if !core.follows_in(leader_epoch) {
            return Err(ErrorCode::FencedLeaderEpoch);
        }
        Ok(core.log.as_ref().map_or(
            FollowPosition { log_start_offset: 0, log_end_offset: 0, last_epoch: -1 },
            |log| FollowPosition {
                log_start_offset: log.log_start_offset(),
                log_end_offset: log.log_end_offset(),
                last_epoch: log.latest_epoch().unwrap_or(-1),
            },
        ))
    }

    /// Appends what was fetched in that epoch, and takes over what the leader says is committed, which wakes consumers that read here.
    /// `Err`: it does not fit; it is dropped.
    pub(crate) fn append_fetched(
        self: &Arc<Self>,
        leader_epoch: i32,
        records: &Bytes,
        leader_high_watermark: i64,
        now: Millis,
        out: &mut Effects,
    ) -> Result<Fetched, ()> {
        let core = &mut *self.lock();
        if !core.follows_in(leader_epoch) {
            return Err(());
        }
        // The first batch may begin before the offset that was asked for, if the leader compacted: then it is not for this log.
        let first = records::batches(records).next().and_then(Result::ok).map(|batch| batch.base_offset);
        if let Some(first) = first {
            core.check_space().map_err(|_| ())?;
            let log = core.log(self, now).map_err(|_| ())?;
            if !fits(first, log.log_end_offset()) {
                return Err(());
            }
            match log.append(records, AppendOrigin::Replication, leader_epoch, now) {
                Ok(info) => core.uncommitted.push_back((info.last_offset + 1, info.bytes as u64)),
                Err(error) => {
                    if error.is_storage_failure() {
                        core.on_append_failed(self, &error, now, out);
                    }
                    return Err(());
                }
            }
            core.append_failed = false;
        }
        let end = core.log.as_ref().map_or(0, Log::log_end_offset);
        // It may be less than what was known of an earlier leader.
        let followed = followed_high_watermark(leader_high_watermark, end);
        let before = std::mem::replace(&mut core.high_watermark, followed);
        let bytes = core.take_committed();
        let mut wakes = Wakes::default();
        if core.high_watermark > before {
            core.wake_fetches(bytes, &mut wakes);
        }
        core.plan_flush(self, true, now, out);
        Ok(Fetched { wakes, is_behind: leader_high_watermark > end })
    }

    /// The leader's log begins there: this one does too, as far as it knows it to be committed. Returns what has to be removed by that, after
    /// the new start is durable.
    pub(crate) fn follow_start(&self, leader_epoch: i32, leader_start: i64) -> Option<DeleteJob> {
        let core = &mut *self.lock();
        if !core.follows_in(leader_epoch) {
            return None;
        }
        let to = leader_start.min(core.high_watermark);
        let log = core.log.as_mut().filter(|log| to > log.log_start_offset())?;
        // A log that is not healthy says so when it is appended to.
        log.advance_log_start_offset(to).ok()
    }

    /// Whether a follower has to wait when too much goes to throttled replicas.
    pub(crate) fn throttles(&self, me: i32, follower: i32) -> bool {
        let core = self.lock();
        let is_in_sync = core.leading.as_ref().is_some_and(|leading| leading.is_in_sync(follower));
        !is_in_sync && core.settings.leader_throttled.include(self.index, me)
    }

    /// The followers from which a consumer could read on at `offset`, if this node leads.
    pub(crate) fn readable(&self, offset: i64) -> Vec<Readable> {
        self.lock().leading.as_ref().map_or(Vec::new(), |leading| leading.readable(offset))
    }

    /// Below it no living replica has a record, if this node leads.
    pub(crate) fn low_watermark(&self, is_alive: impl Fn(i32) -> bool) -> Result<i64, ErrorCode> {
        let core = self.lock();
        core.check_leader(-1)?;
        let start = core.log.as_ref().map_or(0, Log::log_start_offset);
        let leading = core.leading.as_ref().ok_or(ErrorCode::NotLeaderOrFollower)?;
        Ok(leading.low_watermark(start, is_alive))
    }

    /// Fetches of followers that wait here for records look again: there is something else to tell them.
    pub(crate) fn wake_followers(&self) -> Wakes {
        Wakes { fetches: std::mem::take(&mut self.lock().replica_fetches), ..Wakes::default() }
    }

    /// Cuts off what the leader of that epoch does not have. Returns whether the recovery point fell. Waits for the disk.
    pub(crate) fn cut_off(&self, leader_epoch: i32, theirs: (i32, i64), now: Millis) -> Result<bool, ()> {
        let core = &mut *self.lock();
        if !core.follows_in(leader_epoch) {
            return Err(());
        }
        let Some(log) = core.log.as_mut() else { return Err(()) };
        let end = common_end(log.end_offset_for_epoch(theirs.0), theirs, log.log_start_offset());
        // With an unclean leader that may be before the start of this log, which begins anew there.
        let fell = log.truncate_to(end, now);
        core.after_cut();
        fell.map_err(|error| drop(core.fail(self, &error)))
    }

    /// The leader's log does not have the end of this one: begins anew where the leader's begins, if this one ends before, or has no record
    /// that could be compared. Returns whether the recovery point fell. Waits for the disk.
    pub(crate) fn start_over(&self, leader_epoch: i32, leader_start: i64, now: Millis) -> Result<bool, ()> {
        let core = &mut *self.lock();
        if !core.follows_in(leader_epoch) {
            return Err(());
        }
        let log = core.log(self, now).map_err(|_| ())?;
        let (start, end) = (log.log_start_offset(), log.log_end_offset());
        if end == leader_start || (end > leader_start && start < end) {
            return Ok(false);
        }
        let fell = log.truncate_fully_and_start_at(leader_start, now);
        core.after_cut();
        fell.map_err(|error| drop(core.fail(self, &error)))
    }

    /// The change of the ISR that waits to be decided.
    pub(crate) fn proposal(&self) -> Option<Proposal> {
        let core = self.lock();
        core.leading.as_ref().filter(|_| core.role == Role::Leader)?.proposal()
    }

    /// Proposes that those leave the ISR who do not keep up. Returns whether there are any.
    pub(crate) fn propose_without_laggards(&self, lag_ms: Millis, now: Millis) -> bool {
        let core = &mut *self.lock();
        let Some(end) = core.log.as_ref().map(Log::log_end_offset) else { return false };
        core.leading.as_mut().is_some_and(|leading| leading.propose_without_laggards(end, lag_ms, now))
    }

    /// The controller decided about a proposal: leader epoch, ISR and partition epoch are these now. `None`: it refused.
    pub(crate) fn on_isr_decided(
        self: &Arc<Self>,
        decided: Option<(i32, Vec<i32>, i32)>,
        now: Millis,
        out: &mut Effects,
    ) -> Wakes {
        let mut wakes = Wakes::default();
        let core = &mut *self.lock();
        match (&mut core.leading, decided) {
            (Some(leading), Some((leader_epoch, isr, partition_epoch))) => {
                leading.on_decided(leader_epoch, isr, partition_epoch);
            }
            (Some(leading), None) => leading.on_refused(),
            (None, _) => {}
        }
        core.advance_own(now, &mut wakes);
        core.plan_flush(self, !core.acks.is_empty(), now, out);
        wakes
    }
}

impl Core {
    fn follows_in(&self, leader_epoch: i32) -> bool {
        agreement::follows_in(self.role == Role::Follower, self.leader_epoch, leader_epoch)
    }

    fn after_cut(&mut self) {
        let end = self.log.as_ref().map_or(0, Log::log_end_offset);
        self.high_watermark = self.high_watermark.min(end);
        self.uncommitted.retain(|(at, _)| *at <= end);
        self.cut_copy(end);
    }

    /// Whether enough replicas are in sync for records that all of them shall have.
    pub(super) fn admits(&self) -> bool {
        self.leading.as_ref().is_some_and(|leading| leading.admits(self.settings.min_insync_replicas))
    }

    /// Takes note of what a follower's fetch says, once it is known that this look at the log counts: what follows must not get lost with
    /// one that has to be repeated on another thread.
    pub(super) fn take_receipt(&mut self, request: &ReadRequest, read: &mut PartitionRead, now: Millis) {
        if let Some(from) = request.receipt {
            let start_of =
                |core: &Core| core.leading.as_ref().map_or(-1, |leading| leading.start_of(from.id));
            let before = start_of(self);
            read.has_proposal = self.on_receipt(from, request.offset, now, &mut read.wakes);
            read.begins_later = start_of(self) > before;
            read.positions = self.positions().ok();
        }
    }

    /// A follower's fetch says what it has. Returns whether it is proposed that it joins the ISR.
    fn on_receipt(&mut self, from: FollowerFetch, offset: i64, now: Millis, wakes: &mut Wakes) -> bool {
        let end = self.log.as_ref().map_or(0, Log::log_end_offset);
        let high_watermark = self.high_watermark;
        let Some(leading) = &mut self.leading else { return false };
        let joins = leading.on_fetch(from, offset, (high_watermark, end), now);
        if joins {
            leading.propose_joined(from.id);
        }
        self.advance_own(now, wakes);
        joins
    }

    /// Raises the high watermark to what all in-sync replicas have. The own log counts as far as it is on disk, where the topic wants that.
    pub(super) fn advance_own(&mut self, now: Millis, wakes: &mut Wakes) {
        let Some(log) = &self.log else { return };
        let own_end = own_end(self.settings.durability, self.durable_end(), log.log_end_offset());
        let min_insync = self.settings.min_insync_replicas;
        let committed = self.leading.as_ref().and_then(|leading| leading.committed(own_end, min_insync, now));
        if let Some(to) = committed {
            self.advance(to, wakes);
        }
    }
}
