//! One answer to which several coordinators contribute.
//!
//! The tricky idea: whoever collects the parts counts as one of them, so that the answer can not leave before all were asked.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use ottla_coordinator::Response;
use ottla_coordinator::transaction::PartitionsAnswer;
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::add_partitions_to_txn_response::AddPartitionsToTxnResponse;
use ottla_protocol::messages::consumer_group_describe_response::ConsumerGroupDescribeResponse;
use ottla_protocol::messages::delete_groups_response::DeleteGroupsResponse;
use ottla_protocol::messages::describe_groups_response::DescribeGroupsResponse;
use ottla_protocol::messages::describe_transactions_response::DescribeTransactionsResponse;
use ottla_protocol::messages::list_groups_response::ListGroupsResponse;
use ottla_protocol::messages::list_transactions_response::ListTransactionsResponse;
use ottla_protocol::messages::offset_fetch_response::OffsetFetchResponse;
use ottla_protocol::messages::write_txn_markers_response::WriteTxnMarkersResponse;

use crate::call::ReplyTo;
use crate::effect::Effects;
use crate::sessions::lock;

/// An answer in the making.
#[derive(Debug)]
pub(crate) struct Joint {
    reply: ReplyTo,
    left: AtomicUsize,
    made: Mutex<Made>,
}

#[derive(Debug)]
struct Made {
    body: JointBody,
    /// A part could not be had: the whole answer says so, whatever else is in it.
    failed: Option<ErrorCode>,
}

#[derive(Debug)]
pub(crate) enum JointBody {
    OffsetFetch(OffsetFetchResponse<'static>),
    Describe(DescribeGroupsResponse<'static>),
    DescribeConsumer(ConsumerGroupDescribeResponse<'static>),
    List(ListGroupsResponse<'static>),
    Delete(DeleteGroupsResponse<'static>),
    AddPartitionsToTxn(AddPartitionsToTxnResponse<'static>),
    WriteTxnMarkers(WriteTxnMarkersResponse<'static>),
    DescribeTransactions(DescribeTransactionsResponse<'static>),
    ListTransactions(ListTransactionsResponse<'static>),
}

impl Joint {
    /// An answer that is complete when [`Joint::part_done`] was called once for every part and once more by whoever collects them.
    pub fn new(reply: ReplyTo, body: JointBody) -> Arc<Joint> {
        Arc::new(Joint { reply, left: AtomicUsize::new(1), made: Mutex::new(Made { body, failed: None }) })
    }

    pub fn reply(&self) -> ReplyTo {
        self.reply
    }

    /// One part more has to be done.
    pub fn expect_part(&self) {
        self.left.fetch_add(1, Ordering::AcqRel);
    }

    pub fn part_done(&self, out: &mut Effects) {
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            let made = &mut *lock(&self.made);
            if let Some(error) = made.failed {
                made.body.fail(self.reply.version, error);
            }
            match &made.body {
                JointBody::OffsetFetch(response) => self.reply.send(response, out),
                JointBody::Describe(response) => self.reply.send(response, out),
                JointBody::DescribeConsumer(response) => self.reply.send(response, out),
                JointBody::List(response) => self.reply.send(response, out),
                JointBody::Delete(response) => self.reply.send(response, out),
                JointBody::AddPartitionsToTxn(response) => self.reply.send(response, out),
                JointBody::WriteTxnMarkers(response) => self.reply.send(response, out),
                JointBody::DescribeTransactions(response) => self.reply.send(response, out),
                JointBody::ListTransactions(response) => self.reply.send(response, out),
            }
        }
    }

    /// What was read may not be shown: it was not committed, and may never be. The client asks again.
    pub fn part_failed(&self, error: ErrorCode, out: &mut Effects) {
        lock(&self.made).failed.get_or_insert(error);
        self.part_done(out);
    }

    /// What a coordinator replied is a part of the answer.
    pub fn part_replied(&self, part: Response, out: &mut Effects) {
        let version = self.reply.version;
        self.write(|body| match (body, part) {
            (body @ JointBody::AddPartitionsToTxn(_), Response::AddPartitionsToTxn(answer)) => {
                body.add_partitions(&answer, version)
            }
            (JointBody::Delete(whole), Response::DeleteGroups(part)) => whole.results.extend(part.results),
            (_, part) => unreachable!("no joint answer is made of {part:?}"),
        });
        self.part_done(out);
    }

    /// Adds to the answer.
    pub fn write(&self, write: impl FnOnce(&mut JointBody)) {
        write(&mut lock(&self.made).body);
    }
}

impl JointBody {
    /// Adds the answer for one transaction.
    pub fn add_partitions(&mut self, answer: &PartitionsAnswer, version: i16) {
        let JointBody::AddPartitionsToTxn(response) = self else { return };
        let mut result = answer.to_result();
        if version < 2 {
            // There is no PRODUCER_FENCED (90) in these versions.
            let partitions =
                result.topic_results.iter_mut().flat_map(|topic| &mut topic.results_by_partition);
            partitions.filter(|p| p.partition_error_code == ErrorCode::ProducerFenced.code()).for_each(
                |partition| partition.partition_error_code = ErrorCode::InvalidProducerEpoch.code(),
            );
        }
        if version < 4 {
            response.results_by_topic_v3_and_below = result.topic_results;
        } else {
            response.results_by_transaction.push(result);
        }
    }

    /// Turns the whole answer into one that reports `error`. A request that asks several coordinators is asked again as a whole.
    fn fail(&mut self, version: i16, error: ErrorCode) {
        let code = error.code();
        match self {
            JointBody::OffsetFetch(response) => {
                // Each range of versions has one place for an error of the coordinator.
                for group in &mut response.groups {
                    group.error_code = code;
                    group.topics.clear();
                }
                if version < 2 {
                    let partitions = response.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
                    for partition in partitions {
                        partition.error_code = code;
                        partition.committed_offset = -1;
                    }
                } else if version < 8 {
                    response.error_code = code;
                    response.topics.clear();
                }
            }
            JointBody::Describe(response) => {
                for group in &mut response.groups {
                    let group_id = std::mem::take(&mut group.group_id);
                    *group = Default::default();
                    (group.group_id, group.error_code) = (group_id, code);
                }
            }
            JointBody::DescribeConsumer(response) => {
                for group in &mut response.groups {
                    let group_id = std::mem::take(&mut group.group_id);
                    *group = Default::default();
                    (group.group_id, group.error_code) = (group_id, code);
                }
            }
            JointBody::List(response) => {
                response.error_code = code;
                response.groups.clear();
            }
            JointBody::Delete(response) => {
                response.results.iter_mut().for_each(|result| result.error_code = code);
            }
            JointBody::DescribeTransactions(response) => {
                for state in &mut response.transaction_states {
                    let transactional_id = std::mem::take(&mut state.transactional_id);
                    *state = Default::default();
                    (state.transactional_id, state.error_code) = (transactional_id, code);
                }
            }
            JointBody::ListTransactions(response) => {
                response.error_code = code;
                response.transaction_states.clear();
            }
            // Their parts report errors themselves.
            JointBody::AddPartitionsToTxn(_) | JointBody::WriteTxnMarkers(_) => {}
        }
    }
}
