//! SyncGroup, versions 0-5: members ask for what the leader assigned to them; the leader brings it.
//!
//! - 3+: `group.instance.id`. 5+ (KIP-559): the client says which protocol it believes in, and is told if it is wrong (23).

use crate::group::classic::group::{Group, State};
use crate::group::coordinator::{Context, GroupCoordinator};
use crate::group::outcome::Outcome;
use crate::guards::Guard;
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::sync_group_request::SyncGroupRequest;
use std::sync::Arc;

impl GroupCoordinator {
    /// Handles SyncGroup. The reply comes with a later outcome unless the group is stable already.
    pub fn handle_sync_group(&mut self, request: &SyncGroupRequest<'_>, context: &Context<'_>) -> Outcome {
        let mut out = Outcome::default();
        let waiting = context.waiting();
        if self.consumer_groups.contains_key(&*request.group_id) {
            match self.classic_sync(request, context) {
                Ok(response) => out.sync(waiting, response),
                Err(error) => out.sync_error(waiting, error),
            }
            return out;
        }
        let error = match self.groups.get(&*request.group_id) {
            _ if request.group_id.is_empty() => Some(ErrorCode::InvalidGroupId),
            None => Some(ErrorCode::UnknownMemberId),
            Some(group) => sync_error(group, request),
        };
        if let Some(error) = error {
            out.sync_error(waiting, error);
            return out;
        }
        let member_id = &*request.member_id;
        let mut room = self.room(&request.group_id, context.now, &mut out).expect("the group was found");
        room.note_sync(member_id);
        if room.group.state == State::Stable {
            let response = room.synced(&room.group.members[member_id]);
            out.sync(waiting, response);
            return out;
        }
        assert_eq!(
            room.group.state,
            State::CompletingRebalance,
            "the other states were answered with an error"
        );
        if let Some(earlier) = room.group.park_sync(member_id, waiting) {
            room.out.sync_error(earlier, ErrorCode::RebalanceInProgress);
        }
        if room.group.is_leader(member_id) || !Guard::LeaderAssigns.stands() {
            let given = request.assignments.iter();
            let assignments = given.map(|a| (Arc::from(&*a.member_id), Arc::from(&*a.assignment))).collect();
            room.write_assignment(&assignments);
        }
        out
    }
}

fn sync_error(group: &Group, request: &SyncGroupRequest<'_>) -> Option<ErrorCode> {
    if let Err(error) = group.validate_member(&request.member_id, request.group_instance_id.as_deref()) {
        return Some(error);
    }
    if request.generation_id != group.generation_id && Guard::SyncChecksGeneration.stands() {
        return Some(ErrorCode::IllegalGeneration);
    }
    let differs =
        |theirs: Option<&str>, ours: Option<&str>| theirs.is_some() && ours.is_some() && theirs != ours;
    if differs(request.protocol_type.as_deref(), group.protocol_type.as_deref())
        || differs(request.protocol_name.as_deref(), group.protocol_name.as_deref())
    {
        return Some(ErrorCode::InconsistentGroupProtocol);
    }
    (group.state == State::PreparingRebalance).then_some(ErrorCode::RebalanceInProgress)
}
