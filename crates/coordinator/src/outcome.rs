//! What a request leads to: records to append and replies to send.
//!
//! The tricky idea is the order. A reply may speak of anything that was appended before it was made, so the broker holds
//! every reply (of this outcome, also of one without records) until all that this coordinator has appended so far is
//! committed. That one rule lets the state run ahead of the commit without ever showing what may still be lost.

use crate::group::outcome::{Then, shape_join};
use crate::transaction::{Deed, PartitionsAnswer, end_txn_error, init_producer_id_error};
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::add_offsets_to_txn_response::AddOffsetsToTxnResponse;
use ottla_protocol::messages::consumer_group_heartbeat_response::ConsumerGroupHeartbeatResponse;
use ottla_protocol::messages::delete_groups_response::DeleteGroupsResponse;
use ottla_protocol::messages::end_txn_response::EndTxnResponse;
use ottla_protocol::messages::heartbeat_response::HeartbeatResponse;
use ottla_protocol::messages::init_producer_id_response::InitProducerIdResponse;
use ottla_protocol::messages::join_group_response::JoinGroupResponse;
use ottla_protocol::messages::leave_group_response::LeaveGroupResponse;
use ottla_protocol::messages::offset_commit_response::OffsetCommitResponse;
use ottla_protocol::messages::offset_delete_response::OffsetDeleteResponse;
use ottla_protocol::messages::sync_group_response::SyncGroupResponse;
use ottla_protocol::messages::txn_offset_commit_response::TxnOffsetCommitResponse;

/// Names one waiting request. The caller chooses it and gets it back with the reply; the coordinator never looks inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Waiter(pub u128);

/// A request that waits, with the version in which it must be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub waiter: Waiter,
    pub api_version: i16,
}

/// One record for the partition of a coordinator, in Kafka's schemas. No value: a tombstone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Record type (i16) and key.
    pub key: Vec<u8>,
    /// Schema version (i16) and value.
    pub value: Option<Vec<u8>>,
}

/// The transaction that a batch of records belongs to (TxnOffsetCommit).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transaction {
    /// Producer id of the batch.
    pub producer_id: i64,
    /// Producer epoch of the batch.
    pub producer_epoch: i16,
}

/// A response to one of the APIs that may have to wait.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum Response {
    JoinGroup(JoinGroupResponse<'static>),
    SyncGroup(SyncGroupResponse<'static>),
    Heartbeat(HeartbeatResponse),
    LeaveGroup(LeaveGroupResponse<'static>),
    OffsetCommit(OffsetCommitResponse<'static>),
    TxnOffsetCommit(TxnOffsetCommitResponse<'static>),
    OffsetDelete(OffsetDeleteResponse<'static>),
    DeleteGroups(DeleteGroupsResponse<'static>),
    ConsumerGroupHeartbeat(ConsumerGroupHeartbeatResponse<'static>),
    InitProducerId(InitProducerIdResponse),
    AddPartitionsToTxn(PartitionsAnswer),
    AddOffsetsToTxn(AddOffsetsToTxnResponse),
    EndTxn(EndTxnResponse),
}

/// The answer for one waiter.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// Who asked.
    pub waiter: Waiter,
    /// The version of the request; the response is shaped for it.
    pub api_version: i16,
    /// The answer.
    pub response: Response,
}

impl Reply {
    /// Turns an answer that promised success into one that reports `error`. Errors found before stay as they are.
    /// For answers whose records were not appended, or not committed in time.
    pub fn fail(&mut self, error: ErrorCode) {
        let code = error.code();
        let set = |field: &mut i16| {
            if *field == 0 {
                *field = code;
            }
        };
        match &mut self.response {
            Response::JoinGroup(join) => {
                // The member id that this reply hands out is unknown if the group was not written.
                if join.error_code == 0 || join.error_code == ErrorCode::MemberIdRequired.code() {
                    *join = JoinGroupResponse { error_code: code, ..Default::default() };
                    shape_join(join, self.api_version);
                }
            }
            Response::SyncGroup(sync) => {
                if sync.error_code == 0 {
                    *sync = SyncGroupResponse { error_code: code, ..Default::default() };
                }
            }
            Response::Heartbeat(heartbeat) => set(&mut heartbeat.error_code),
            Response::LeaveGroup(leave) => {
                if leave.error_code == 0 {
                    *leave = LeaveGroupResponse { error_code: code, ..Default::default() };
                }
            }
            Response::OffsetCommit(commit) => {
                let partitions = commit.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
                partitions.for_each(|partition| set(&mut partition.error_code));
            }
            Response::TxnOffsetCommit(commit) => {
                let partitions = commit.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
                partitions.for_each(|partition| set(&mut partition.error_code));
            }
            Response::OffsetDelete(delete) => {
                if delete.error_code == 0 {
                    *delete = OffsetDeleteResponse { error_code: code, ..Default::default() };
                }
            }
            Response::ConsumerGroupHeartbeat(heartbeat) => {
                if heartbeat.error_code == 0 {
                    *heartbeat = ConsumerGroupHeartbeatResponse { error_code: code, ..Default::default() };
                }
            }
            Response::DeleteGroups(delete) => {
                delete.results.iter_mut().for_each(|result| set(&mut result.error_code));
            }
            Response::InitProducerId(init) => {
                if init.error_code == 0 {
                    *init = init_producer_id_error(error, self.api_version);
                }
            }
            Response::AddPartitionsToTxn(answer) => {
                let succeeded = answer.partitions.iter_mut().filter(|(_, code)| *code == ErrorCode::None);
                succeeded.for_each(|(_, code)| *code = error);
            }
            Response::AddOffsetsToTxn(added) => set(&mut added.error_code),
            Response::EndTxn(end) => {
                if end.error_code == 0 {
                    *end = end_txn_error(error, self.api_version);
                }
            }
        }
    }
}

/// Records to append, as one batch if they fit, and replies to send.
///
/// With records: append them, then hand the outcome to [`Coordinator::on_appended`] or
/// [`Coordinator::on_append_failed`] before any other call, and send the replies that come back (those of
/// [`Outcome::replies`] are among them). Without records: send [`Outcome::replies`].
///
/// [`Coordinator::on_appended`]: crate::Coordinator::on_appended
/// [`Coordinator::on_append_failed`]: crate::Coordinator::on_append_failed
#[derive(Debug, Default)]
#[must_use]
pub struct Outcome {
    /// To append, in this order.
    pub records: Vec<Record>,
    /// To send once everything appended so far (these records included) is committed.
    pub replies: Vec<Reply>,
    /// The batch is part of this transaction.
    pub transaction: Option<Transaction>,
    /// To be done once everything appended so far (these records included) is committed.
    pub deeds: Vec<Deed>,
    pub(crate) then: Vec<Then>,
}

impl Outcome {
    pub(crate) fn reply(&mut self, waiting: Waiting, mut response: Response) {
        if let Response::JoinGroup(join) = &mut response {
            shape_join(join, waiting.api_version);
        }
        self.replies.push(Reply { waiter: waiting.waiter, api_version: waiting.api_version, response });
    }
}

/// What a client is told when an append failed: the errors of logs become errors of coordinators.
pub(crate) fn response_error(append: ErrorCode) -> ErrorCode {
    match append {
        ErrorCode::UnknownTopicOrPartition
        | ErrorCode::NotEnoughReplicas
        | ErrorCode::NotEnoughReplicasAfterAppend
        | ErrorCode::RequestTimedOut => ErrorCode::CoordinatorNotAvailable,
        ErrorCode::NotLeaderOrFollower | ErrorCode::KafkaStorageError => ErrorCode::NotCoordinator,
        ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge | ErrorCode::InvalidFetchSize => {
            ErrorCode::UnknownServerError
        }
        other => other,
    }
}
