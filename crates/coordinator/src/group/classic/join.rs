//! JoinGroup, versions 0-9.
//!
//! - 0: no rebalance timeout of its own, the session timeout counts.
//! - 4+ (KIP-394): a dynamic member without an id is told one and asked to come back with it (MEMBER_ID_REQUIRED, 79).
//! - 5+ (KIP-345): `group.instance.id`; a static member that returns takes its old place, without a rebalance if the
//!   group is stable and the protocol would stay the same.
//! - 9+ (KIP-814): such a member that leads is told so and to skip the assignment; before, it is told of a leader id that
//!   is not its own.
//!
//! The answer is parked until the join phase is over, see [`crate::group::classic::rebalance`].

use crate::group::classic::group::{Group, State};
use crate::group::classic::member::{Member, Protocol, empty_assignment};
use crate::group::classic::rebalance::{Room, owned};
use crate::group::config::NAME_BYTES_MAX;
use crate::group::coordinator::{Context, GroupCoordinator};
use crate::group::outcome::{Outcome, Replaced, Then, Waiting};
use crate::group::records;
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::join_group_request::JoinGroupRequest;
use ottla_protocol::messages::join_group_response::JoinGroupResponse;
use std::sync::Arc;

/// A JoinGroup request in our own terms.
pub(crate) struct Join<'a> {
    pub member_id: &'a str,
    pub instance_id: Option<&'a str>,
    pub protocol_type: &'a str,
    pub protocols: Vec<Protocol>,
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
    pub client_id: &'a str,
    pub client_host: &'a str,
    pub waiting: Waiting,
}

impl GroupCoordinator {
    /// Handles JoinGroup. The reply may come with a later outcome.
    pub fn handle_join_group(&mut self, request: &JoinGroupRequest<'_>, context: &Context<'_>) -> Outcome {
        let mut out = Outcome::default();
        let (now, waiting) = (context.now, context.waiting());
        let group_id = &*request.group_id;
        let member_id = &*request.member_id;
        if let Err(error) = self.join_validate(request) {
            out.join_error(waiting, member_id, error);
            return out;
        }
        let join = Join {
            member_id,
            instance_id: request.group_instance_id.as_deref(),
            protocol_type: &request.protocol_type,
            protocols: protocols_of(request),
            rebalance_timeout_ms: match context.api_version {
                0 => request.session_timeout_ms,
                _ => request.rebalance_timeout_ms,
            },
            session_timeout_ms: request.session_timeout_ms,
            client_id: truncated(context.client_id),
            client_host: context.client_host,
            waiting,
        };
        if self.foreign_groups.contains_key(group_id) {
            out.join_error(waiting, "", ErrorCode::InconsistentGroupProtocol);
            return out;
        }
        if self.consumer_groups.get(group_id).is_some_and(|group| !group.members().is_empty()) {
            self.classic_join(group_id, &join, context, &mut out);
            return out;
        }
        // An empty consumer group becomes a classic one.
        let mut emptied = Vec::new();
        if self.consumer_groups.contains_key(group_id) {
            self.write_group_tombstones(group_id, &mut emptied);
        }
        let is_new = !self.groups.contains_key(group_id);
        if is_new {
            let group = Group::new(Arc::from(group_id), Some(now));
            if !member_id.is_empty() {
                out.join_error(waiting, member_id, ErrorCode::UnknownMemberId);
                return out;
            }
            if !group.supports(join.protocol_type, &join.protocols) {
                out.join_error(waiting, "", ErrorCode::InconsistentGroupProtocol);
                return out;
            }
            self.groups.insert(group.id.clone(), group);
        }
        let new_member_id = member_id.is_empty().then(|| {
            let group = &self.groups[group_id];
            self.ids.generate(join.instance_id.unwrap_or(join.client_id), |id| {
                !group.members.contains_key(id) && !group.pending_join.contains(id)
            })
        });
        let mut room = self.room(group_id, now, &mut out).expect("the group is there");
        if !room.accepts(member_id) {
            room.drop_member(&Arc::from(member_id), ErrorCode::GroupMaxSizeReached);
            room.out.join_error(waiting, "", ErrorCode::GroupMaxSizeReached);
            room.maybe_complete_join();
        } else if let Some(new_member_id) = new_member_id {
            room.join_new_member(join, Arc::from(new_member_id));
        } else {
            room.join_known_member(join);
        }
        if is_new {
            assert!(out.records.is_empty(), "the first rebalance of a group waits");
            out.records.append(&mut emptied);
            out.records.push(records::new_group(group_id, now));
            out.then.push(Then::Created { group: Arc::from(group_id) });
        }
        out
    }

    fn join_validate(&self, request: &JoinGroupRequest<'_>) -> Result<(), ErrorCode> {
        if request.group_id.is_empty() || request.group_id.len() > NAME_BYTES_MAX {
            return Err(ErrorCode::InvalidGroupId);
        }
        let session = self.config.group_min_session_timeout_ms..=self.config.group_max_session_timeout_ms;
        if !session.contains(&request.session_timeout_ms) {
            return Err(ErrorCode::InvalidSessionTimeout);
        }
        if request.group_instance_id.as_ref().is_some_and(|id| id.is_empty() || id.len() > NAME_BYTES_MAX) {
            return Err(ErrorCode::InvalidRequest);
        }
        let is_long = |name: &str| name.len() > NAME_BYTES_MAX;
        if is_long(&request.protocol_type) || request.protocols.iter().any(|p| is_long(&p.name)) {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        Ok(())
    }

    /// The new id of a returning static member is in the log: it may go on where it was.
    pub(crate) fn on_replaced(&mut self, replaced: &Replaced, now: i64, out: &mut Outcome) {
        let room = self.room(&replaced.group, now, out).expect("a group with members stays");
        let id = &replaced.new_member_id;
        let waiting = room.group.take_join(id).expect("parked when its record was made");
        let is_leader = room.group.is_leader(id);
        let response = if waiting.api_version >= 9 {
            room.joined(id, is_leader)
        } else {
            // An old client that leads would assign anew, and a stable group would not listen: name the old leader.
            let leader = owned(replaced.old_leader_id.as_deref().unwrap_or(""));
            JoinGroupResponse { leader, members: vec![], ..room.joined(id, false) }
        };
        room.out.join(waiting, response);
    }

    /// The new id of a returning static member could not be written: the old one is good again.
    pub(crate) fn undo_replaced(
        &mut self,
        replaced: Replaced,
        error: ErrorCode,
        now: i64,
        out: &mut Outcome,
    ) {
        let mut room = self.room(&replaced.group, now, out).expect("a group with members stays");
        let (old_id, new_id) = (&replaced.old_member_id, &replaced.new_member_id);
        if let Some(waiting) = room.group.take_join(new_id) {
            room.out.join_error(waiting, "", error);
        }
        room.timers.cancel(&room.session_key(new_id));
        room.group.replace_static_member(&replaced.instance_id, new_id, old_id);
        room.group.set_protocols(old_id, replaced.old_protocols);
        let member = room.group.members.get_mut(old_id).expect("it is back");
        member.rebalance_timeout_ms = replaced.old_rebalance_timeout_ms;
        member.session_timeout_ms = replaced.old_session_timeout_ms;
        room.renew_session(old_id);
    }
}

impl Room<'_> {
    /// Whether the group has room for this member (GROUP_MAX_SIZE_REACHED, 81). During the join phase those who are back
    /// are counted, not the members: a group that is too large lets in the first ones that return.
    fn accepts(&self, member_id: &str) -> bool {
        let group = &*self.group;
        let member = group.members.get(member_id);
        match group.state {
            State::Empty => true,
            State::PreparingRebalance => {
                member.is_some_and(Member::is_awaiting_join)
                    || group.awaiting_join_count() < self.config.group_max_size
            }
            State::CompletingRebalance | State::Stable => {
                member.is_some() || group.members.len() < self.config.group_max_size
            }
        }
    }

    fn join_new_member(&mut self, join: Join<'_>, member_id: Arc<str>) {
        if !self.group.supports(join.protocol_type, &join.protocols) {
            self.out.join_error(join.waiting, "", ErrorCode::InconsistentGroupProtocol);
            return;
        }
        match join.instance_id {
            Some(instance_id) => match self.group.static_members.get(instance_id).cloned() {
                Some(old_member_id) => self.join_returning_static_member(join, old_member_id, member_id),
                None => self.join_add_member(join, member_id),
            },
            None if join.waiting.api_version >= 4 => {
                self.group.pending_join.insert(member_id.clone());
                self.schedule_session(&member_id, join.session_timeout_ms);
                self.out.join_error(join.waiting, &member_id, ErrorCode::MemberIdRequired);
            }
            None => self.join_add_member(join, member_id),
        }
    }

    fn join_add_member(&mut self, join: Join<'_>, member_id: Arc<str>) {
        let member = Member {
            id: member_id.clone(),
            instance_id: join.instance_id.map(Arc::from),
            client_id: Arc::from(join.client_id),
            client_host: Arc::from(join.client_host),
            rebalance_timeout_ms: join.rebalance_timeout_ms,
            session_timeout_ms: join.session_timeout_ms,
            protocols: join.protocols,
            assignment: empty_assignment(),
            awaiting_join: Some(join.waiting),
            awaiting_sync: None,
            is_new: true,
        };
        if self.group.state == State::PreparingRebalance && self.group.previous_state == State::Empty {
            self.group.new_member_added = true;
        }
        self.group.add_member(member, Some(&Arc::from(join.protocol_type)));
        // It can not send heartbeats while it is parked, and if its client is gone nobody tells us: it must not be waited
        // for forever. A client that is still there tries again.
        self.schedule_session(&member_id, self.config.new_member_join_timeout_ms);
        self.rebalance_or_complete_join();
    }

    fn join_known_member(&mut self, join: Join<'_>) {
        let member_id = join.member_id;
        if !self.group.supports(join.protocol_type, &join.protocols) {
            self.out.join_error(join.waiting, member_id, ErrorCode::InconsistentGroupProtocol);
            return;
        }
        if self.group.pending_join.contains(member_id) {
            if join.instance_id.is_some() {
                // Only dynamic members are told an id beforehand.
                self.out.join_error(join.waiting, member_id, ErrorCode::UnknownMemberId);
            } else {
                self.join_add_member(join, Arc::from(member_id));
            }
            return;
        }
        if let Err(error) = self.group.validate_member(member_id, join.instance_id) {
            self.out.join_error(join.waiting, member_id, error);
            return;
        }
        let is_unchanged = self.group.members[member_id].protocols == join.protocols;
        match self.group.state {
            State::PreparingRebalance => self.join_update_member(join),
            // It may have missed the answer to its JoinGroup.
            State::CompletingRebalance if is_unchanged => {
                let response = self.joined(member_id, false);
                self.out.join(join.waiting, response);
            }
            // A leader that comes back wants a rebalance, for reasons that only it knows (new partitions, say).
            State::Stable if is_unchanged && !self.group.is_leader(member_id) => {
                let response = self.joined(member_id, false);
                self.out.join(join.waiting, response);
            }
            State::CompletingRebalance | State::Stable => self.join_update_member(join),
            State::Empty => unreachable!("an empty group has no members, and this one was found"),
        }
    }

    fn join_update_member(&mut self, join: Join<'_>) {
        self.join_take_over(join.member_id, &join);
        self.rebalance_or_complete_join();
    }

    /// The member now is what this request says, and waits for the join phase to end.
    fn join_take_over(&mut self, member_id: &str, join: &Join<'_>) {
        self.group.set_protocols(member_id, join.protocols.clone());
        let member = self.group.members.get_mut(member_id).expect("the member is there");
        member.rebalance_timeout_ms = join.rebalance_timeout_ms;
        member.session_timeout_ms = join.session_timeout_ms;
        if let Some(earlier) = self.group.park_join(member_id, join.waiting) {
            // Its client gave up on the earlier request, or it would not send another.
            self.out.join_error(earlier, member_id, ErrorCode::RebalanceInProgress);
        }
    }

    /// A static member starts again and does not know its member id: it gets a new one, and its old place.
    fn join_returning_static_member(&mut self, join: Join<'_>, old_id: Arc<str>, new_id: Arc<str>) {
        let instance_id: Arc<str> = Arc::from(join.instance_id.expect("a static member has an instance id"));
        let old_leader_id = self.group.leader_id.clone();
        // Two clients with one instance id: the later one is right, the earlier one hears so at once.
        if let Some(waiting) = self.group.take_join(&old_id) {
            self.out.join_error(waiting, &old_id, ErrorCode::FencedInstanceId);
        }
        if let Some(waiting) = self.group.take_sync(&old_id) {
            self.out.sync_error(waiting, ErrorCode::FencedInstanceId);
        }
        let old = &self.group.members[&old_id];
        let (old_rebalance_timeout_ms, old_session_timeout_ms) =
            (old.rebalance_timeout_ms, old.session_timeout_ms);
        let old_protocols = old.protocols.clone();
        let old_session = self.session_key(&old_id);
        self.timers.cancel(&old_session);
        self.group.replace_static_member(&instance_id, &old_id, &new_id);
        self.schedule_session(&new_id, old_session_timeout_ms);
        self.join_take_over(&new_id, &join);
        match self.group.state {
            State::Stable if self.group.select_protocol() == self.group.protocol_name => {
                let assignment = |m: &Member| (m.id.clone(), m.assignment.clone());
                let assignments = self.group.members.values().map(assignment).collect();
                self.out.records.push(records::group_metadata(self.group, &assignments));
                self.out.then.push(Then::Replaced(Box::new(Replaced {
                    group: self.group.id.clone(),
                    instance_id,
                    old_member_id: old_id,
                    new_member_id: new_id,
                    old_leader_id,
                    old_protocols,
                    old_rebalance_timeout_ms,
                    old_session_timeout_ms,
                })));
            }
            // In the sync phase the leader may be assigning to the old member id: begin again with the new one.
            State::Stable | State::CompletingRebalance => self.prepare_rebalance(),
            State::PreparingRebalance => self.maybe_complete_join(),
            State::Empty => unreachable!("an empty group has no members, and this one was found"),
        }
    }
}

fn protocols_of(request: &JoinGroupRequest<'_>) -> Vec<Protocol> {
    let mut protocols: Vec<Protocol> = Vec::with_capacity(request.protocols.len());
    for offered in &request.protocols {
        // Offered twice counts once, or the counts of who speaks what would be wrong.
        if protocols.iter().all(|known| *known.name != *offered.name) {
            protocols
                .push(Protocol { name: Arc::from(&*offered.name), metadata: Arc::from(&*offered.metadata) });
        }
    }
    protocols
}

/// The client id becomes part of the member id, which must fit the records too.
pub(crate) fn truncated(client_id: &str) -> &str {
    let mut end = client_id.len().min(NAME_BYTES_MAX);
    while !client_id.is_char_boundary(end) {
        end -= 1;
    }
    &client_id[..end]
}
