//! Heartbeat, versions 0-4 (3+: `group.instance.id`). The order of errors is that of Kafka: who are you (25, 82), in which
//! generation (22), and only then: there is a rebalance, join again (27).

use crate::group::classic::group::State;
use crate::group::coordinator::{Context, GroupCoordinator};
use crate::group::outcome::{Outcome, Response};
use crate::guards::Guard;
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::heartbeat_request::HeartbeatRequest;
use ottla_protocol::messages::heartbeat_response::HeartbeatResponse;

impl GroupCoordinator {
    /// Handles Heartbeat: the member's session starts anew.
    pub fn handle_heartbeat(&mut self, request: &HeartbeatRequest<'_>, context: &Context<'_>) -> Outcome {
        let mut out = Outcome::default();
        let error = self.heartbeat(request, context.now, &mut out).err().unwrap_or(ErrorCode::None);
        let response = HeartbeatResponse { error_code: error.code(), ..Default::default() };
        out.reply(context.waiting(), Response::Heartbeat(response));
        out
    }

    fn heartbeat(
        &mut self,
        request: &HeartbeatRequest<'_>,
        now: i64,
        out: &mut Outcome,
    ) -> Result<(), ErrorCode> {
        if request.group_id.is_empty() {
            return Err(ErrorCode::InvalidGroupId);
        }
        if self.consumer_groups.contains_key(&*request.group_id) {
            return self.classic_heartbeat(request, now);
        }
        let mut room = self.room(&request.group_id, now, out).ok_or(ErrorCode::UnknownMemberId)?;
        room.group.validate_member(&request.member_id, request.group_instance_id.as_deref())?;
        if request.generation_id != room.group.generation_id && Guard::HeartbeatChecksGeneration.stands() {
            return Err(ErrorCode::IllegalGeneration);
        }
        room.renew_session(&request.member_id);
        match room.group.state {
            State::PreparingRebalance => Err(ErrorCode::RebalanceInProgress),
            _ => Ok(()),
        }
    }
}
