//! What a group has to do beside writing records and replying, and the replies that it makes most often.

use crate::group::classic::member::Protocol;
use crate::group::consumer::Downgrade;
use crate::group::timers::TimerKey;
pub(crate) use crate::outcome::{
    Outcome, Record, Reply, Response, Transaction, Waiter, Waiting, response_error,
};
use ottla_protocol::messages::join_group_response::JoinGroupResponse;
use ottla_protocol::messages::sync_group_response::SyncGroupResponse;
use ottla_protocol::{ErrorCode, Uuid};
use std::sync::Arc;

/// The protocol name became nullable in version 7: before it, "none" is the empty string; since, it is null.
pub(crate) fn shape_join(response: &mut JoinGroupResponse<'static>, api_version: i16) {
    if api_version < 7 && response.protocol_name.is_none() {
        response.protocol_name = Some("".into());
    }
    if api_version >= 7 && response.protocol_name.as_deref() == Some("") {
        response.protocol_name = None;
    }
}

/// What must happen to soft state once the records of an outcome are in the log, or could not be put there.
#[derive(Debug)]
pub(crate) enum Then {
    /// A group that exists because of this request.
    Created { group: Arc<str> },
    /// The leader's assignment: members get it once it is in the log.
    Stabilize { group: Arc<str>, generation_id: i32 },
    /// A static member came back under a new member id while the group is stable.
    Replaced(Box<Replaced>),
    /// A member of a consumer group was heard of: its session ends at this time. (Set after the replay, which may take away
    /// the timers of whoever had this id or this place before.)
    Heard { group: Arc<str>, member: Arc<str>, session_ends: i64 },
    /// The standing of a member of a consumer group changed.
    Moved { group: Arc<str>, member: Arc<str> },
    /// A classic group became a consumer group.
    Upgraded { group: Arc<str> },
    /// A consumer group became a classic group.
    Downgraded(Box<Downgrade>),
    /// Members of a consumer group are out because of these timers.
    TimedOut { timers: Vec<TimerKey> },
    /// A clean-up pass, which was the last one needed for these topics.
    CleanUp { deleted_topics: Vec<(Uuid, String)> },
}

/// What is needed to answer a returning static member, and to undo its return.
#[derive(Debug)]
pub(crate) struct Replaced {
    pub group: Arc<str>,
    pub instance_id: Arc<str>,
    pub old_member_id: Arc<str>,
    pub new_member_id: Arc<str>,
    pub old_leader_id: Option<Arc<str>>,
    pub old_protocols: Vec<Protocol>,
    pub old_rebalance_timeout_ms: i32,
    pub old_session_timeout_ms: i32,
}

impl Outcome {
    pub(crate) fn join(&mut self, waiting: Waiting, response: JoinGroupResponse<'static>) {
        self.reply(waiting, Response::JoinGroup(response));
    }

    pub(crate) fn join_error(&mut self, waiting: Waiting, member_id: &str, error: ErrorCode) {
        let member_id = member_id.to_string().into();
        self.join(waiting, JoinGroupResponse { member_id, error_code: error.code(), ..Default::default() });
    }

    pub(crate) fn sync(&mut self, waiting: Waiting, response: SyncGroupResponse<'static>) {
        self.reply(waiting, Response::SyncGroup(response));
    }

    pub(crate) fn sync_error(&mut self, waiting: Waiting, error: ErrorCode) {
        self.sync(waiting, SyncGroupResponse { error_code: error.code(), ..Default::default() });
    }
}
