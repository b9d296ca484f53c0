//! LeaveGroup, versions 0-5.
//!
//! - 0-2: one member, one error. 3+ (KIP-345): several members, an error for each; without a member id it is an operator
//!   that removes a static member by its instance id. 5+ (KIP-800): a reason, for the log.

use crate::group::classic::rebalance::{Room, owned};
use crate::group::coordinator::{Context, GroupCoordinator};
use crate::group::outcome::{Outcome, Response};
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::leave_group_request::LeaveGroupRequest;
use ottla_protocol::messages::leave_group_response::{LeaveGroupResponse, MemberResponse};
use std::sync::Arc;

impl GroupCoordinator {
    /// Handles LeaveGroup: the members are out, and the rest rebalances.
    pub fn handle_leave_group(&mut self, request: &LeaveGroupRequest<'_>, context: &Context<'_>) -> Outcome {
        let mut out = Outcome::default();
        let is_batched = context.api_version >= 3;
        let leaving: Vec<(&str, Option<&str>)> = if is_batched {
            request.members.iter().map(|m| (&*m.member_id, m.group_instance_id.as_deref())).collect()
        } else {
            vec![(&*request.member_id, None)]
        };
        let mut response = LeaveGroupResponse::default();
        if request.group_id.is_empty() {
            response.error_code = ErrorCode::InvalidGroupId.code();
        } else {
            let errors: Vec<ErrorCode> = if self.consumer_groups.contains_key(&*request.group_id) {
                self.classic_leave(&request.group_id, &leaving, context, &mut out)
            } else {
                match self.room(&request.group_id, context.now, &mut out) {
                    None => vec![ErrorCode::UnknownMemberId; leaving.len()],
                    Some(mut room) => room.leave(&leaving),
                }
            };
            if is_batched {
                let answer =
                    |((member_id, instance_id), error): (&(&str, Option<&str>), ErrorCode)| MemberResponse {
                        member_id: owned(member_id),
                        group_instance_id: instance_id.map(owned),
                        error_code: error.code(),
                    };
                response.members = leaving.iter().zip(errors).map(answer).collect();
            } else {
                response.error_code = errors[0].code();
            }
        }
        out.reply(context.waiting(), Response::LeaveGroup(response));
        out
    }
}

impl Room<'_> {
    fn leave(&mut self, leaving: &[(&str, Option<&str>)]) -> Vec<ErrorCode> {
        let mut errors = Vec::with_capacity(leaving.len());
        for (member_id, instance_id) in leaving {
            let found = self.leave_find(member_id, *instance_id);
            if let Ok(member_id) = &found {
                self.drop_member(member_id, ErrorCode::UnknownMemberId);
            }
            errors.push(found.err().unwrap_or(ErrorCode::None));
        }
        let has_left = errors.contains(&ErrorCode::None);
        if has_left && self.group.state != crate::group::classic::group::State::Empty {
            self.rebalance_or_complete_join();
        }
        errors
    }

    fn leave_find(&self, member_id: &str, instance_id: Option<&str>) -> Result<Arc<str>, ErrorCode> {
        if member_id.is_empty() {
            let member_id = instance_id.and_then(|instance_id| self.group.static_members.get(instance_id));
            return member_id.cloned().ok_or(ErrorCode::UnknownMemberId);
        }
        if !self.group.pending_join.contains(member_id) {
            self.group.validate_member(member_id, instance_id)?;
        }
        Ok(Arc::from(member_id))
    }
}
