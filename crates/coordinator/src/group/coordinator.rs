//! The coordinator of one partition of `__consumer_offsets`: its state, its life (load, lead, unload), its timers.
//!
//! Requests are handled in files of their own (`join.rs`, `commit.rs`, …). They read everything and change only soft
//! facts: who waits, whose session runs until when, members that are not written yet. What is written changes in
//! [`GroupCoordinator::replay`] alone.

use crate::group::classic::group::{Group, State};
use crate::group::classic::rebalance::Room;
use crate::group::config::Config;
use crate::group::consumer::TopicHashes;
use crate::group::consumer::group::ConsumerGroup;
use crate::group::consumer::regex::Job;
use crate::group::ids::MemberIds;
use crate::group::offsets::store::OffsetStore;
use crate::group::outcome::{Outcome, Reply, Then, Waiter, Waiting, response_error};
use crate::group::timers::{TimerKey, Timers};
use crate::group::topics::Topics;
use crate::guards::Guard;
use ottla_protocol::{ErrorCode, Uuid};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A timeout whose records could not be written is tried again after this time.
const TIMEOUT_RETRY_MS: i64 = 500;

/// The circumstances of a request.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Milliseconds since the epoch.
    pub now: i64,
    /// Comes back with the reply.
    pub waiter: Waiter,
    /// Version of the request.
    pub api_version: i16,
    /// Client id of the request's header, empty if it has none.
    pub client_id: &'a str,
    /// Where the client connects from, as tools expect to see it: `/10.0.0.7`.
    pub client_host: &'a str,
    /// The topics of the cluster.
    pub topics: &'a dyn Topics,
}

impl Context<'_> {
    pub(crate) fn waiting(&self) -> Waiting {
        Waiting { waiter: self.waiter, api_version: self.api_version }
    }
}

/// Records on this partition that belong to kinds of groups which this coordinator does not lead.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct ForeignRecords {
    /// Record type → how many were replayed (tombstones included).
    pub by_type: BTreeMap<i16, u64>,
}

/// Groups and offsets of one partition of `__consumer_offsets`.
///
/// A new coordinator is passive: feed it the log with [`replay`](Self::replay). After [`on_loaded`](Self::on_loaded) it is
/// active: requests may come, and timers run.
#[derive(Debug, Clone)]
pub struct GroupCoordinator {
    pub(crate) config: Config,
    pub(crate) groups: BTreeMap<Arc<str>, Group>,
    pub(crate) offsets: OffsetStore,
    pub(crate) timers: Timers,
    pub(crate) ids: MemberIds,
    pub(crate) consumer_groups: BTreeMap<Arc<str>, ConsumerGroup>,
    pub(crate) topic_hashes: TopicHashes,
    /// Groups whose regular expressions are being resolved, one job each.
    pub(crate) regex_jobs: BTreeMap<Arc<str>, Job>,
    /// The version of the metadata that last brought new topics.
    pub(crate) new_topics_version: i64,
    /// Groups of other kinds (group id → record type of its metadata): they are let alone.
    pub(crate) foreign_groups: BTreeMap<Arc<str>, i16>,
    pub(crate) foreign_records: ForeignRecords,
    pub(crate) deleted_topics: Vec<(Uuid, String)>,
    pub(crate) is_active: bool,
}

impl GroupCoordinator {
    /// An empty, passive coordinator. `seed` decides the member ids that it will hand out: never the same one twice.
    pub fn new(config: Config, seed: u64) -> GroupCoordinator {
        GroupCoordinator {
            config,
            groups: BTreeMap::new(),
            offsets: OffsetStore::default(),
            timers: Timers::default(),
            ids: MemberIds::new(seed),
            consumer_groups: BTreeMap::new(),
            topic_hashes: TopicHashes::default(),
            regex_jobs: BTreeMap::new(),
            new_topics_version: -1,
            foreign_groups: BTreeMap::new(),
            foreign_records: ForeignRecords::default(),
            deleted_topics: Vec::new(),
            is_active: false,
        }
    }

    /// Takes over changed limits; deadlines that run keep their time.
    pub fn set_config(&mut self, config: Config) {
        self.config = config;
    }

    /// The whole log was replayed: sessions of all members start, requests may come. A group that is larger than the
    /// limit allows (it was lowered) is rebalanced, which lets only so many back in.
    pub fn on_loaded(&mut self, now: i64, topics: &dyn Topics) -> Outcome {
        assert!(!self.is_active, "a coordinator is loaded once");
        self.is_active = true;
        let mut out = Outcome::default();
        let ids: Vec<_> = self.groups.keys().cloned().collect();
        for id in ids {
            let max_size = self.config.group_max_size;
            let mut room = self.room(&id, now, &mut out).expect("the group is there");
            let members: Vec<_> = room.group.members.keys().cloned().collect();
            if Guard::LoadBeginsSessions.stands() {
                members.iter().for_each(|member_id| room.renew_session(member_id));
            }
            if members.len() > max_size {
                room.prepare_rebalance();
            }
        }
        assert!(out.records.is_empty(), "a rebalance with absent members writes nothing yet");
        self.new_topics_version = topics.version();
        self.load_consumer_groups(now, topics);
        self.timers.schedule(TimerKey::CleanUp, now + self.config.offsets_retention_check_interval_ms);
        out
    }

    /// Sessions of all members of consumer groups start, and the time of those that have partitions to give up.
    fn load_consumer_groups(&mut self, now: i64, topics: &dyn Topics) {
        let mut members = Vec::new();
        for group in self.consumer_groups.values() {
            let session_ms = topics.group_overrides(&group.id).session_timeout_ms;
            let session_ms = session_ms.unwrap_or(self.config.consumer.session_timeout_ms);
            for member in group.members().values() {
                let key = TimerKey::Session(group.id.clone(), member.id.clone());
                self.timers.schedule(key, now + i64::from(session_ms));
                members.push((group.id.clone(), member.id.clone()));
            }
        }
        members.iter().for_each(|(group, member)| self.on_moved(group, member, now));
    }

    /// Topics were created, got partitions, or went. Groups that subscribe to them look again with the next heartbeat;
    /// groups with regular expressions look for new names if any topic is new.
    pub fn on_topics_changed(&mut self, names: &[&str], some_are_new: bool, version: i64) {
        names.iter().for_each(|name| self.topic_hashes.forget(name));
        if some_are_new {
            self.new_topics_version = version;
        }
        for group in self.consumer_groups.values_mut() {
            if names.iter().any(|name| group.is_subscribed_to(name)) {
                group.checked_at = None;
            }
        }
    }

    /// This node leads the partition no more: everybody who waits is sent to look for the new coordinator. Send these
    /// replies at once, fail those that wait for a commit, and drop the coordinator.
    pub fn on_unloaded(&mut self) -> Vec<Reply> {
        let mut out = Outcome::default();
        for group in self.groups.values_mut() {
            let ids: Vec<_> = group.members.keys().cloned().collect();
            for id in ids {
                if let Some(waiting) = group.take_join(&id) {
                    out.join_error(waiting, &id, ErrorCode::NotCoordinator);
                }
                if let Some(waiting) = group.take_sync(&id) {
                    out.sync_error(waiting, ErrorCode::NotCoordinator);
                }
            }
        }
        self.timers.clear();
        self.is_active = false;
        out.replies
    }

    /// The records of an outcome are in the log, the first at `base_offset`, the others right behind it. Returns the
    /// replies to send once they are committed.
    ///
    /// If the records did not fit one batch and were appended as several, of which only the first ones succeeded: replay
    /// those, then call [`on_append_failed`](Self::on_append_failed).
    pub fn on_appended(&mut self, mut outcome: Outcome, base_offset: i64, now: i64) -> Vec<Reply> {
        assert!(self.is_active, "only an active coordinator appends");
        let producer_id = outcome.transaction.map_or(-1, |transaction| transaction.producer_id);
        for (offset, record) in (base_offset..).zip(&outcome.records) {
            let replayed = self.replay(&record.key, record.value.as_deref(), offset, producer_id);
            replayed.unwrap_or_else(|error| panic!("what we wrote we can read: {error}"));
        }
        outcome.records.clear();
        for then in std::mem::take(&mut outcome.then) {
            match then {
                Then::Created { .. } | Then::CleanUp { .. } | Then::TimedOut { .. } => {}
                Then::Stabilize { group, generation_id } => {
                    let mut room = self.room(&group, now, &mut outcome).expect("a group with members stays");
                    assert_eq!(
                        room.group.generation_id, generation_id,
                        "nothing happens between handle and append"
                    );
                    room.stabilize();
                }
                Then::Replaced(replaced) => self.on_replaced(&replaced, now, &mut outcome),
                Then::Heard { group, member, session_ends } => {
                    self.timers.schedule(TimerKey::Session(group, member), session_ends);
                }
                Then::Moved { group, member } => self.on_moved(&group, &member, now),
                Then::Upgraded { group } => self.on_upgraded(&group, now),
                Then::Downgraded(downgrade) => self.on_downgraded(*downgrade, now, &mut outcome),
            }
        }
        assert!(outcome.records.is_empty(), "an append leads to no further records");
        outcome.replies
    }

    /// The records of an outcome could not be appended: soft state goes back to where the log is, and everybody who was
    /// to be told of success is told of the failure instead. Send the replies that come back at once.
    pub fn on_append_failed(&mut self, mut outcome: Outcome, error: ErrorCode, now: i64) -> Vec<Reply> {
        let error = response_error(error);
        outcome.records.clear();
        outcome.replies.iter_mut().for_each(|reply| reply.fail(error));
        for then in std::mem::take(&mut outcome.then) {
            match then {
                Then::Created { group } => self.forget_group(&group, error, &mut outcome),
                Then::Stabilize { group, generation_id } => {
                    let mut room = self.room(&group, now, &mut outcome).expect("a group with members stays");
                    assert_eq!(
                        room.group.generation_id, generation_id,
                        "nothing happens between handle and append"
                    );
                    room.reset_assignment(error);
                    room.prepare_rebalance();
                }
                Then::Replaced(replaced) => self.undo_replaced(*replaced, error, now, &mut outcome),
                Then::Heard { .. } | Then::Moved { .. } | Then::Upgraded { .. } | Then::Downgraded(_) => {}
                Then::TimedOut { timers } => {
                    let at = now + TIMEOUT_RETRY_MS;
                    timers.into_iter().for_each(|key| self.timers.schedule(key, at));
                }
                Then::CleanUp { deleted_topics } => {
                    self.deleted_topics.extend(deleted_topics);
                    let at = now + self.config.offsets_retention_check_interval_ms;
                    self.timers.schedule(TimerKey::CleanUp, at);
                }
            }
        }
        assert!(outcome.records.is_empty(), "a failed append leads to no further records");
        outcome.replies
    }

    /// Undoes the birth of a group whose first record could not be written.
    fn forget_group(&mut self, group: &Arc<str>, error: ErrorCode, out: &mut Outcome) {
        let Some(mut group) = self.remove_group(group) else { return };
        let ids: Vec<_> = group.members.keys().cloned().collect();
        for id in ids {
            if let Some(waiting) = group.take_join(&id) {
                out.join_error(waiting, "", error);
            }
        }
    }

    /// Takes a group and its timers away.
    pub(crate) fn remove_group(&mut self, id: &str) -> Option<Group> {
        let group = self.groups.remove(id)?;
        self.timers.cancel(&TimerKey::Join(group.id.clone()));
        self.timers.cancel(&TimerKey::Sync(group.id.clone()));
        for member_id in group.members.keys().chain(&group.pending_join) {
            self.timers.cancel(&TimerKey::Session(group.id.clone(), member_id.clone()));
        }
        Some(group)
    }

    /// When [`on_timeout`](Self::on_timeout) wants to be called; it may change with every call to the coordinator.
    pub fn next_deadline(&self) -> Option<i64> {
        self.timers.next_deadline()
    }

    /// Lets everything happen whose time has come, or a bounded part of it: look at the next deadline again.
    pub fn on_timeout(&mut self, now: i64, topics: &dyn Topics) -> Outcome {
        let mut out = Outcome::default();
        // As many as there are now: a timer that is set again for this very moment has its turn in the next call.
        for _ in 0..self.timers.len() {
            if out.records.len() >= self.config.cleanup_records_max {
                break;
            }
            let Some(key) = self.timers.pop_due(now) else { break };
            match key {
                TimerKey::CleanUp => {
                    // Its records are counted against the limit of one pass, so it is alone in its outcome.
                    if !out.records.is_empty() {
                        self.timers.schedule(TimerKey::CleanUp, now);
                        break;
                    }
                    self.clean_up(now, &mut out);
                    break;
                }
                TimerKey::Join(group) => {
                    if let Some(mut room) = self.room(&group, now, &mut out) {
                        room.on_join_timeout();
                    }
                }
                TimerKey::Sync(group) => {
                    if let Some(mut room) = self.room(&group, now, &mut out) {
                        room.on_sync_timeout();
                    }
                }
                TimerKey::Resolve(_)
                | TimerKey::Revocation(..)
                | TimerKey::ClassicJoin(..)
                | TimerKey::ClassicSync(..)
                    if !out.records.is_empty() =>
                {
                    // One change of a consumer group is one outcome, for the next one has to see it.
                    self.timers.schedule(key, now);
                    break;
                }
                TimerKey::Session(ref group, _) if self.consumer_groups.contains_key(group) => {
                    match out.records.is_empty() {
                        true => self.on_member_timeouts(key, now, topics, &mut out),
                        false => self.timers.schedule(key, now),
                    }
                    break;
                }
                TimerKey::Revocation(..) | TimerKey::ClassicJoin(..) | TimerKey::ClassicSync(..) => {
                    self.on_member_timeouts(key, now, topics, &mut out);
                    break;
                }
                TimerKey::Resolve(group) => {
                    self.on_regex_step(&group, now, topics, &mut out);
                    break;
                }
                TimerKey::Session(group, member_id) => {
                    if let Some(mut room) = self.room(&group, now, &mut out) {
                        room.on_session_timeout(&member_id);
                    }
                }
            }
        }
        out
    }

    /// Whether there is a group of any kind with this id.
    pub(crate) fn has_group(&self, id: &str) -> bool {
        self.groups.contains_key(id)
            || self.consumer_groups.contains_key(id)
            || self.foreign_groups.contains_key(id)
    }

    pub(crate) fn room<'a>(&'a mut self, group: &str, now: i64, out: &'a mut Outcome) -> Option<Room<'a>> {
        let group = self.groups.get_mut(group)?;
        Some(Room { group, timers: &mut self.timers, config: &self.config, now, out })
    }

    /// How many offsets are committed on this partition, for metrics.
    pub fn offset_count(&self) -> usize {
        self.offsets.committed.count()
    }

    /// How many consumer groups are in each state, for metrics: (state, groups), states without groups left out.
    pub fn consumer_group_counts(&self) -> Vec<(&'static str, usize)> {
        let mut counts = BTreeMap::new();
        for group in self.consumer_groups.values() {
            *counts.entry(group.state().name()).or_default() += 1;
        }
        counts.into_iter().collect()
    }

    /// How many classic groups are in each state, for metrics: (state, groups), states without groups left out.
    pub fn group_counts(&self) -> Vec<(&'static str, usize)> {
        let states = [State::Empty, State::PreparingRebalance, State::CompletingRebalance, State::Stable];
        let count = |state: State| self.groups.values().filter(|group| group.state == state).count();
        states.into_iter().map(|state| (state.name(), count(state))).filter(|(_, count)| *count > 0).collect()
    }

    /// Records of other kinds of groups that were seen and let alone; worth a warning when there are any.
    pub fn foreign_records(&self) -> &ForeignRecords {
        &self.foreign_records
    }
}
