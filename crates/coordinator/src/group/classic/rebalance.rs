//! The rebalance of a classic group, step by step.
//!
//! A [`Room`] is a borrowed view: one group, the timers, and the outcome that collects records and replies. Everything a
//! rebalance does is done in a room, whoever starts it: a request, a timer, or the load of a group. The members are in
//! one of two phases: *join* (PreparingRebalance: JoinGroup requests are parked until all members are back or the time is
//! up) and *sync* (CompletingRebalance: SyncGroup requests are parked until the leader's assignment is in the log).

use crate::group::classic::group::{Group, InitialDelay, State};
use crate::group::classic::member::{Member, empty_assignment};
use crate::group::config::Config;
use crate::group::outcome::{Outcome, Then};
use crate::group::records;
use crate::group::timers::{TimerKey, Timers};
use crate::guards::Guard;
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::join_group_response::{JoinGroupResponse, JoinGroupResponseMember};
use ottla_protocol::messages::sync_group_response::SyncGroupResponse;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A rebalance to which nobody came is tried again after the rebalance timeout, which clients choose and may choose as 0.
const EMPTY_REBALANCE_PAUSE_MS_MIN: i64 = 1_000;

pub(crate) struct Room<'a> {
    pub group: &'a mut Group,
    pub timers: &'a mut Timers,
    pub config: &'a Config,
    pub now: i64,
    pub out: &'a mut Outcome,
}

impl Room<'_> {
    fn join_key(&self) -> TimerKey {
        TimerKey::Join(self.group.id.clone())
    }

    fn sync_key(&self) -> TimerKey {
        TimerKey::Sync(self.group.id.clone())
    }

    pub(crate) fn session_key(&self, member_id: &Arc<str>) -> TimerKey {
        TimerKey::Session(self.group.id.clone(), member_id.clone())
    }

    pub(crate) fn schedule_session(&mut self, member_id: &Arc<str>, timeout_ms: i32) {
        let key = self.session_key(member_id);
        self.timers.schedule(key, self.now + i64::from(timeout_ms));
    }

    /// The member was heard of: its session starts anew.
    pub(crate) fn renew_session(&mut self, member_id: &str) {
        if let Some(member) = self.group.members.get(member_id) {
            let (id, timeout_ms) = (member.id.clone(), member.session_timeout_ms);
            self.schedule_session(&id, timeout_ms);
        }
    }

    /// Removes a member or pending member, with its session; whatever it waits for is answered with `error`.
    pub(crate) fn drop_member(&mut self, member_id: &Arc<str>, error: ErrorCode) {
        let key = self.session_key(member_id);
        self.timers.cancel(&key);
        if let Some(member) = self.group.remove_member(member_id) {
            self.answer_waiters(&member, error);
        }
    }

    fn answer_waiters(&mut self, member: &Member, error: ErrorCode) {
        if let Some(waiting) = member.awaiting_join {
            self.out.join_error(waiting, "", error);
        }
        if let Some(waiting) = member.awaiting_sync {
            self.out.sync_error(waiting, error);
        }
    }

    /// Starts a rebalance where the state allows one; else looks whether the one under way can go on.
    pub(crate) fn rebalance_or_complete_join(&mut self) {
        if self.group.state == State::PreparingRebalance {
            self.maybe_complete_join();
        } else {
            self.prepare_rebalance();
        }
    }

    pub(crate) fn prepare_rebalance(&mut self) {
        if self.group.state == State::CompletingRebalance {
            self.reset_assignment(ErrorCode::RebalanceInProgress);
        }
        self.group.pending_sync.clear();
        self.timers.cancel(&self.sync_key());
        if self.group.state == State::Empty {
            let delay_ms = i64::from(self.config.group_initial_rebalance_delay_ms);
            let remaining_ms = (self.group.rebalance_timeout_ms() - delay_ms).max(0);
            self.group.initial_delay = Some(InitialDelay { delay_ms, remaining_ms });
            self.timers.schedule(self.join_key(), self.now + delay_ms);
            self.group.transition(State::PreparingRebalance, self.now);
            return;
        }
        self.group.transition(State::PreparingRebalance, self.now);
        if self.group.has_all_members_joined() {
            self.complete_join();
        } else {
            self.timers.schedule(self.join_key(), self.now + self.group.rebalance_timeout_ms());
        }
    }

    /// Completes the join phase if everybody is there. The first rebalance of an empty group waits for its timer.
    pub(crate) fn maybe_complete_join(&mut self) {
        let initial = self.group.previous_state == State::Empty;
        if self.group.state == State::PreparingRebalance && !initial && self.group.has_all_members_joined() {
            self.complete_join();
        }
    }

    /// The timer of the join phase fired.
    pub(crate) fn on_join_timeout(&mut self) {
        if self.group.state != State::PreparingRebalance {
            return;
        }
        match self.group.initial_delay {
            Some(delay) if self.group.new_member_added && delay.remaining_ms != 0 => {
                // Members keep coming: one more delay, as long as the rebalance timeout is not used up.
                self.group.new_member_added = false;
                let delay_ms =
                    i64::from(self.config.group_initial_rebalance_delay_ms).min(delay.remaining_ms);
                let remaining_ms = (delay.remaining_ms - delay.delay_ms).max(0);
                self.group.initial_delay = Some(InitialDelay { delay_ms, remaining_ms });
                self.timers.schedule(self.join_key(), self.now + delay_ms);
            }
            _ => self.complete_join(),
        }
    }

    /// Ends the join phase: dynamic members that did not come back are out, the rest form the next generation.
    pub(crate) fn complete_join(&mut self) {
        assert_eq!(self.group.state, State::PreparingRebalance, "only a prepared rebalance completes");
        self.timers.cancel(&self.join_key());
        let is_missing = |m: &&Member| !m.is_awaiting_join() && m.instance_id.is_none();
        let missing: Vec<_> = self.group.members.values().filter(is_missing).map(|m| m.id.clone()).collect();
        for member_id in missing.iter().filter(|_| Guard::MissingMemberIsOut.stands()) {
            self.drop_member(member_id, ErrorCode::UnknownMemberId);
        }
        if !self.group.elect_joined_leader() && !self.group.members.is_empty() {
            // Only static members are left and none of them is back: wait for them, or for the end of their sessions.
            let pause_ms = self.group.rebalance_timeout_ms().max(EMPTY_REBALANCE_PAUSE_MS_MIN);
            self.timers.schedule(self.join_key(), self.now + pause_ms);
            return;
        }
        self.group.initial_delay = None;
        self.group.new_member_added = false;
        self.group.begin_generation(self.now);
        if self.group.state == State::Empty {
            // If this record is lost the previous generation is loaded some day and times out: nothing to undo.
            self.out.records.push(records::group_metadata(self.group, &BTreeMap::new()));
        } else {
            self.answer_joined();
            self.timers.schedule(self.sync_key(), self.now + self.group.rebalance_timeout_ms());
        }
    }

    fn answer_joined(&mut self) {
        let ids: Vec<_> = self.group.members.keys().cloned().collect();
        for id in ids {
            if let Some(waiting) = self.group.take_join(&id) {
                let response = self.joined(&id, false);
                self.out.join(waiting, response);
            }
            self.renew_session(&id);
            self.group.members.get_mut(&id).expect("the member is there").is_new = false;
            self.group.pending_sync.insert(id);
        }
    }

    /// The answer to a member of the current generation; only the leader is told the members.
    pub(crate) fn joined(&self, member_id: &str, skip_assignment: bool) -> JoinGroupResponse<'static> {
        let group = &*self.group;
        let protocol = group.protocol_name.as_deref().unwrap_or("");
        let describe = |member: &Member| JoinGroupResponseMember {
            member_id: owned(&member.id),
            group_instance_id: member.instance_id.as_deref().map(owned),
            metadata: Cow::Owned(member.metadata(protocol).to_vec()),
        };
        let members =
            if group.is_leader(member_id) { group.members.values().map(describe).collect() } else { vec![] };
        JoinGroupResponse {
            generation_id: group.generation_id,
            protocol_type: group.protocol_type.as_deref().map(owned),
            protocol_name: group.protocol_name.as_deref().map(owned),
            leader: owned(group.leader_id.as_deref().unwrap_or("")),
            member_id: owned(member_id),
            skip_assignment,
            members,
            ..Default::default()
        }
    }

    /// The answer to a member that asks for its assignment.
    pub(crate) fn synced(&self, member: &Member) -> SyncGroupResponse<'static> {
        SyncGroupResponse {
            protocol_type: self.group.protocol_type.as_deref().map(owned),
            protocol_name: self.group.protocol_name.as_deref().map(owned),
            assignment: Cow::Owned(member.assignment.to_vec()),
            ..Default::default()
        }
    }

    /// The member asked for its assignment; when all have, nobody is waited for any more.
    pub(crate) fn note_sync(&mut self, member_id: &str) {
        self.group.pending_sync.remove(member_id);
        if self.group.pending_sync.is_empty() {
            self.timers.cancel(&self.sync_key());
        }
    }

    /// The leader's assignment is in the log and was replayed: hand it out.
    pub(crate) fn stabilize(&mut self) {
        self.group.transition(State::Stable, self.now);
        let ids: Vec<_> = self.group.members.keys().cloned().collect();
        for id in ids {
            if let Some(waiting) = self.group.take_sync(&id) {
                let response = self.synced(&self.group.members[&id]);
                self.out.sync(waiting, response);
                self.renew_session(&id);
            }
        }
    }

    /// There will be no assignment in this generation: who waits for one hears `error`.
    pub(crate) fn reset_assignment(&mut self, error: ErrorCode) {
        assert_eq!(self.group.state, State::CompletingRebalance, "only then an assignment is awaited");
        let ids: Vec<_> = self.group.members.keys().cloned().collect();
        for id in ids {
            self.group.members.get_mut(&id).expect("the member is there").assignment = empty_assignment();
            if let Some(waiting) = self.group.take_sync(&id) {
                self.out.sync_error(waiting, error);
                self.renew_session(&id);
            }
        }
    }

    /// The session of a member is over, or the patience with a member that was told its id.
    pub(crate) fn on_session_timeout(&mut self, member_id: &Arc<str>) {
        let Some(member) = self.group.members.get(member_id) else {
            if self.group.pending_join.remove(member_id) {
                self.after_removal();
            }
            return;
        };
        // A parked member gets a new session with the answer to its request.
        if !member.has_satisfied_heartbeat() && Guard::SessionEnds.stands() {
            self.drop_member(member_id, ErrorCode::UnknownMemberId);
            self.after_removal();
        }
    }

    fn after_removal(&mut self) {
        match self.group.state {
            State::Stable | State::CompletingRebalance => self.prepare_rebalance(),
            State::PreparingRebalance if self.group.has_all_members_joined() => self.complete_join(),
            State::PreparingRebalance | State::Empty => {}
        }
    }

    /// The sync phase took too long: members that never asked for their assignment are out.
    pub(crate) fn on_sync_timeout(&mut self) {
        let awaited = matches!(self.group.state, State::CompletingRebalance | State::Stable);
        if !awaited || self.group.pending_sync.is_empty() || !Guard::SyncTimesOut.stands() {
            return;
        }
        let silent: Vec<_> = self.group.pending_sync.iter().cloned().collect();
        for member_id in &silent {
            self.drop_member(member_id, ErrorCode::UnknownMemberId);
        }
        self.prepare_rebalance();
    }

    /// Asks for the leader's assignment to be written; members without one get an empty one.
    pub(crate) fn write_assignment(&mut self, assignment: &BTreeMap<Arc<str>, Arc<[u8]>>) {
        self.out.records.push(records::group_metadata(self.group, assignment));
        let (group, generation_id) = (self.group.id.clone(), self.group.generation_id);
        self.out.then.push(Then::Stabilize { group, generation_id });
    }
}

pub(crate) fn owned(text: &str) -> Cow<'static, str> {
    Cow::Owned(text.to_string())
}
