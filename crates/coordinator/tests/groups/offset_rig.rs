//! What is done with offsets at the rig: commits of both kinds, ends of transactions, deletions, and a look at what there is.

use crate::rig::{Client, Logged, Rig, error};
use ottla_coordinator::{Response, Topics};
use ottla_protocol::messages::offset_commit_request::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use ottla_protocol::messages::offset_delete_request::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use ottla_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use ottla_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequest, TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use ottla_protocol::{ErrorCode, Uuid};

impl Rig {
    pub fn commit_request(
        &self,
        client: &Client,
        offsets: &[(&str, i32, i64)],
    ) -> OffsetCommitRequest<'static> {
        let topic = |(topic, partition, offset): &(&str, i32, i64)| OffsetCommitRequestTopic {
            name: topic.to_string().into(),
            topic_id: self.cluster.id_of(topic).unwrap_or(Uuid::ZERO),
            partitions: vec![OffsetCommitRequestPartition {
                partition_index: *partition,
                committed_offset: *offset,
                committed_leader_epoch: 7,
                committed_metadata: Some("note".into()),
            }],
        };
        OffsetCommitRequest {
            group_id: client.group.clone().into(),
            generation_id_or_member_epoch: client.generation,
            member_id: client.member_id.clone().into(),
            group_instance_id: client.instance.clone().map(Into::into),
            topics: offsets.iter().map(topic).collect(),
            ..Default::default()
        }
    }

    pub fn commit_with(&mut self, request: &OffsetCommitRequest<'_>, version: i16) -> Vec<ErrorCode> {
        let waiter =
            self.request("committer", version, |c, context| c.handle_offset_commit(request, context));
        match self.answer(waiter) {
            Response::OffsetCommit(response) => {
                let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
                partitions.map(|partition| error(partition.error_code)).collect()
            }
            other => panic!("not an OffsetCommit response: {other:?}"),
        }
    }

    pub fn commit(&mut self, client: &Client, offsets: &[(&str, i32, i64)]) -> Vec<ErrorCode> {
        let request = self.commit_request(client, offsets);
        self.commit_with(&request, 9)
    }

    /// (topic, partition, offset or -1, error) of everything that the group has committed.
    pub fn fetch_all(&self, group: &str) -> Vec<(String, i32, i64, ErrorCode)> {
        self.fetch(group, true)
    }

    /// The same, whether or not it is `stable`: then what is part of a transaction is an error.
    pub fn fetch(&self, group: &str, stable: bool) -> Vec<(String, i32, i64, ErrorCode)> {
        let asked = OffsetFetchRequestGroup { group_id: group.into(), topics: None, ..Default::default() };
        let fetched = self.coordinator.fetch_offsets(&asked, stable, 9, &self.cluster);
        assert_eq!(fetched.error_code, 0);
        let mut all = Vec::new();
        for topic in &fetched.topics {
            for p in &topic.partitions {
                all.push((
                    topic.name.to_string(),
                    p.partition_index,
                    p.committed_offset,
                    error(p.error_code),
                ));
            }
        }
        all
    }

    /// Commits as part of the transaction of a producer.
    pub fn txn_commit(
        &mut self,
        producer_id: i64,
        client: &Client,
        offsets: &[(&str, i32, i64)],
    ) -> Vec<ErrorCode> {
        let topic =
            |(name, partition_index, committed_offset): &(&str, i32, i64)| TxnOffsetCommitRequestTopic {
                name: name.to_string().into(),
                partitions: vec![TxnOffsetCommitRequestPartition {
                    partition_index: *partition_index,
                    committed_offset: *committed_offset,
                    ..Default::default()
                }],
                ..Default::default()
            };
        let request = TxnOffsetCommitRequest {
            transactional_id: "tx".into(),
            group_id: client.group.clone().into(),
            producer_id,
            producer_epoch: 0,
            generation_id_or_member_epoch: client.generation,
            member_id: client.member_id.clone().into(),
            topics: offsets.iter().map(topic).collect(),
            ..Default::default()
        };
        let waiter = self.request("tx", 5, |c, context| c.handle_txn_offset_commit(&request, context));
        let Response::TxnOffsetCommit(response) = self.answer(waiter) else { panic!() };
        response.topics.iter().map(|topic| error(topic.partitions[0].error_code)).collect()
    }

    pub fn end_transaction(&mut self, producer_id: i64, commit: bool) {
        self.log.push(Logged::Marker { producer_id, commit });
        self.coordinator.replay_end_transaction(producer_id, commit);
    }

    pub fn delete_group(&mut self, group: &str) -> ErrorCode {
        let waiter = self.request("admin", 2, |c, context| c.handle_delete_groups(&[group], context));
        let Response::DeleteGroups(response) = self.answer(waiter) else { panic!() };
        error(response.results[0].error_code)
    }

    /// One error for the request, and one for each partition.
    pub fn delete_offsets(&mut self, group: &str, partitions: &[(&str, i32)]) -> (ErrorCode, Vec<ErrorCode>) {
        let topic = |(name, partition_index): &(&str, i32)| OffsetDeleteRequestTopic {
            name: name.to_string().into(),
            partitions: vec![OffsetDeleteRequestPartition { partition_index: *partition_index }],
        };
        let topics = partitions.iter().map(topic).collect();
        let request = OffsetDeleteRequest { group_id: group.to_string().into(), topics };
        let waiter = self.request("admin", 0, |c, context| c.handle_offset_delete(&request, context));
        let Response::OffsetDelete(response) = self.answer(waiter) else { panic!() };
        let errors = response.topics.iter().map(|topic| error(topic.partitions[0].error_code));
        (error(response.error_code), errors.collect())
    }

    /// Whether a transaction that is not decided is in the way of one who asks for the stable offset.
    pub fn is_unstable(&self, group: &str, topic: &str, partition: i32) -> bool {
        let topic = OffsetFetchRequestTopics {
            name: topic.to_string().into(),
            partition_indexes: vec![partition],
            ..Default::default()
        };
        let asked = OffsetFetchRequestGroup {
            group_id: group.into(),
            topics: Some(vec![topic]),
            ..Default::default()
        };
        let fetched = self.coordinator.fetch_offsets(&asked, true, 9, &self.cluster);
        error(fetched.topics[0].partitions[0].error_code) == ErrorCode::UnstableOffsetCommit
    }
}
