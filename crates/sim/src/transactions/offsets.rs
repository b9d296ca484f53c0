//! The partition of `__consumer_offsets` in the model: the real group coordinator, and its log.

use std::sync::Arc;

use ottla_coordinator::{Context, GroupCoordinator, Outcome, Record, Topics, Waiter};
use ottla_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use ottla_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequest, TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use ottla_protocol::{ErrorCode, Uuid};
use ottla_storage::{AppendError, ModelAppend};

use super::message::Producer;
use super::model::ID;

pub(super) const GROUP: &str = "g";
/// What the offsets of the group are about.
const INPUT: &str = "input";

/// A cluster with one topic of one partition.
pub(super) struct Topic;

impl Topics for Topic {
    fn id_of(&self, name: &str) -> Option<Uuid> {
        (name == INPUT).then_some(Uuid([7; 16]))
    }
    fn name_of(&self, _: Uuid) -> Option<String> {
        Some(INPUT.to_owned())
    }
    fn has_partition(&self, name: &str, partition: i32) -> bool {
        name == INPUT && partition == 0
    }
    fn partition_count(&self, _: Uuid) -> Option<i32> {
        Some(1)
    }
    fn racks(&self, _: Uuid, _: i32) -> Vec<String> {
        Vec::new()
    }
    fn names_after(&self, _: Option<&str>, _: usize) -> Vec<Arc<str>> {
        Vec::new()
    }
    fn version(&self) -> i64 {
        0
    }
}

#[derive(Debug, Clone)]
enum Logged {
    Record { record: Record, offset: i64, producer_id: i64 },
    End { producer_id: i64, commit: bool },
}

#[derive(Debug, Clone)]
pub(super) struct Offsets {
    coordinator: GroupCoordinator,
    log: Vec<Logged>,
}

impl Offsets {
    pub fn new() -> Offsets {
        Offsets { coordinator: loaded(&[], 0), log: Vec::new() }
    }

    /// TxnOffsetCommit, whose records are appended by `append`.
    pub fn commit(
        &mut self,
        (producer_id, producer_epoch): Producer,
        offset: i64,
        now: i64,
        append: impl FnOnce() -> Result<ModelAppend, AppendError>,
    ) -> Result<ModelAppend, AppendError> {
        let partition = TxnOffsetCommitRequestPartition {
            partition_index: 0,
            committed_offset: offset,
            committed_leader_epoch: -1,
            committed_metadata: None,
        };
        let topic = TxnOffsetCommitRequestTopic {
            name: INPUT.into(),
            partitions: vec![partition],
            ..Default::default()
        };
        let request = TxnOffsetCommitRequest {
            transactional_id: ID.into(),
            group_id: GROUP.into(),
            producer_id,
            producer_epoch,
            generation_id_or_member_epoch: -1,
            topics: vec![topic],
            ..Default::default()
        };
        let waiter = Waiter(0);
        let context = Context { now, waiter, api_version: 5, client_id: "", client_host: "", topics: &Topic };
        let outcome: Outcome = self.coordinator.handle_txn_offset_commit(&request, &context);
        let transaction = outcome.transaction.expect("the offset of a simple consumer is taken");
        assert_eq!((transaction.producer_id, transaction.producer_epoch), (producer_id, producer_epoch));
        let appended = append();
        match &appended {
            Ok(ModelAppend::At(offset, _)) => {
                let records = outcome.records.iter().cloned();
                let logged = |(offset, record)| Logged::Record { record, offset, producer_id };
                self.log.extend((*offset..).zip(records).map(logged));
                drop(self.coordinator.on_appended(outcome, *offset, now));
            }
            Ok(ModelAppend::Duplicate) => unreachable!("the batch of a coordinator is no duplicate"),
            Err(error) => drop(self.coordinator.on_append_failed(outcome, error.code(), now)),
        }
        appended
    }

    pub fn end_transaction(&mut self, producer_id: i64, commit: bool) {
        self.log.push(Logged::End { producer_id, commit });
        self.coordinator.replay_end_transaction(producer_id, commit);
    }

    /// Another coordinator takes over.
    pub fn fail_over(&mut self, now: i64) {
        self.coordinator = loaded(&self.log, now);
    }

    /// What a consumer is told that wants only decided offsets: -1 without one, an error while one is undecided.
    pub fn stable(&self) -> Result<i64, ErrorCode> {
        let topic =
            OffsetFetchRequestTopics { name: INPUT.into(), partition_indexes: vec![0], ..Default::default() };
        let asked = OffsetFetchRequestGroup {
            group_id: GROUP.into(),
            topics: Some(vec![topic]),
            member_epoch: -1,
            ..Default::default()
        };
        let fetched = self.coordinator.fetch_offsets(&asked, true, 8, &Topic);
        let partition = &fetched.topics[0].partitions[0];
        match ErrorCode::from_code(partition.error_code) {
            ErrorCode::None => Ok(partition.committed_offset),
            error => Err(error),
        }
    }
}

fn loaded(log: &[Logged], now: i64) -> GroupCoordinator {
    let mut coordinator = GroupCoordinator::new(ottla_coordinator::Config::default(), 0);
    for logged in log {
        match logged {
            Logged::Record { record, offset, producer_id } => {
                let value = record.value.as_deref();
                let replayed = coordinator.replay(&record.key, value, *offset, *producer_id);
                replayed.expect("our own records");
            }
            Logged::End { producer_id, commit } => coordinator.replay_end_transaction(*producer_id, *commit),
        }
    }
    drop(coordinator.on_loaded(now, &Topic));
    coordinator
}
