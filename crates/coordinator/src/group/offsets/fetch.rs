//! OffsetFetch, versions 1-10.
//!
//! - 1: errors only per partition. 2+: null topics mean all, one error for the group. 5+: leader epoch. 7+:
//!   `require_stable`, partitions with an open transaction are UNSTABLE_OFFSET_COMMIT (88). 8+: several groups. 10+: topic
//!   ids; an offset that was committed to a deleted topic of the same name is not shown.
//!
//! An offset that is not there is not an error: it is -1. A group that is not there has no offsets.

use crate::group::classic::rebalance::owned;
use crate::group::coordinator::GroupCoordinator;
use crate::group::offsets::store::Committed;
use crate::group::topics::Topics;
use crate::guards::Guard;
use ottla_protocol::messages::offset_fetch_request::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use ottla_protocol::messages::offset_fetch_response::{
    OffsetFetchResponse, OffsetFetchResponseGroup, OffsetFetchResponsePartition,
    OffsetFetchResponsePartitions, OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use ottla_protocol::{ErrorCode, Uuid};

impl GroupCoordinator {
    /// The offsets of one group, of all its topics or of those asked for. Send it like the reply of an outcome without
    /// records: after everything appended so far is committed.
    pub fn fetch_offsets(
        &self,
        asked: &OffsetFetchRequestGroup<'_>,
        require_stable: bool,
        api_version: i16,
        topics: &dyn Topics,
    ) -> OffsetFetchResponseGroup<'static> {
        let by_id = api_version >= 10;
        // Who says which member it is, is told only what that member may know (9+).
        if let Some(group) = self.consumer_groups.get(&*asked.group_id)
            && let Err(error) = group.permit_fetch(asked.member_id.as_deref(), asked.member_epoch)
        {
            return offset_fetch_error(asked, error, api_version);
        }
        let topics = match &asked.topics {
            Some(asked_topics) => asked_topics
                .iter()
                .map(|topic| self.fetch_topic(&asked.group_id, topic, require_stable, by_id, topics))
                .collect(),
            None => self.fetch_all(&asked.group_id, require_stable, by_id, topics),
        };
        OffsetFetchResponseGroup { group_id: owned(&asked.group_id), topics, ..Default::default() }
    }

    fn fetch_topic(
        &self,
        group_id: &str,
        asked: &OffsetFetchRequestTopics<'_>,
        require_stable: bool,
        by_id: bool,
        topics: &dyn Topics,
    ) -> OffsetFetchResponseTopics<'static> {
        let name = if by_id { topics.name_of(asked.topic_id) } else { Some(asked.name.to_string()) };
        let error = match &name {
            None => Some(ErrorCode::UnknownTopicId),
            Some(name) if !topics.is_allowed(name) => Some(ErrorCode::TopicAuthorizationFailed),
            Some(_) => None,
        };
        let name = name.unwrap_or_default();
        let committed = self.fetch_visible(group_id).and_then(|topics| topics.get(&*name));
        let partition = |partition: &i32| {
            if let Some(error) = error {
                return no_offset(*partition, error);
            }
            if require_stable && self.is_unstable(group_id, &name, *partition) {
                return no_offset(*partition, ErrorCode::UnstableOffsetCommit);
            }
            let of_another = |committed: &Committed| {
                let (theirs, ours) = (asked.topic_id, committed.topic_id);
                theirs != Uuid::ZERO && ours != Uuid::ZERO && theirs != ours
            };
            match committed.and_then(|partitions| partitions.get(*partition)).filter(|c| !of_another(c)) {
                Some(committed) => an_offset(*partition, committed),
                None => no_offset(*partition, ErrorCode::None),
            }
        };
        OffsetFetchResponseTopics {
            name: owned(&asked.name),
            topic_id: asked.topic_id,
            partitions: asked.partition_indexes.iter().map(partition).collect(),
        }
    }

    fn fetch_all(
        &self,
        group_id: &str,
        require_stable: bool,
        by_id: bool,
        topics: &dyn Topics,
    ) -> Vec<OffsetFetchResponseTopics<'static>> {
        let mut answers = Vec::new();
        for (name, partitions) in self.fetch_visible(group_id).into_iter().flatten() {
            let topic_id = topics.id_of(name);
            // Without an id there is no way to name the topic to a client that only knows ids.
            if !topics.is_allowed(name) || by_id && topic_id.is_none() {
                continue;
            }
            let partition = |(partition, committed): (i32, &Committed)| {
                if require_stable && self.is_unstable(group_id, name, partition) {
                    no_offset(partition, ErrorCode::UnstableOffsetCommit)
                } else {
                    an_offset(partition, committed)
                }
            };
            answers.push(OffsetFetchResponseTopics {
                name: owned(name),
                topic_id: if by_id { topic_id.unwrap_or(Uuid::ZERO) } else { Uuid::ZERO },
                partitions: partitions.iter().map(partition).collect(),
            });
        }
        answers
    }

    /// Whether a transaction that is not decided wants to commit an offset here.
    fn is_unstable(&self, group_id: &str, topic: &str, partition: i32) -> bool {
        Guard::PendingOffsetIsHidden.stands() && self.offsets.is_pending(group_id, topic, partition)
    }

    /// Offsets that outlived their group are hidden until the group is back.
    fn fetch_visible(&self, group_id: &str) -> Option<&crate::group::offsets::store::Topics> {
        self.offsets.committed.group(group_id).filter(|_| self.has_group(group_id))
    }
}

fn an_offset(partition_index: i32, committed: &Committed) -> OffsetFetchResponsePartitions<'static> {
    OffsetFetchResponsePartitions {
        partition_index,
        committed_offset: committed.offset,
        committed_leader_epoch: committed.leader_epoch,
        metadata: Some(owned(committed.metadata())),
        ..Default::default()
    }
}

fn no_offset(partition_index: i32, error: ErrorCode) -> OffsetFetchResponsePartitions<'static> {
    OffsetFetchResponsePartitions {
        partition_index,
        committed_offset: -1,
        committed_leader_epoch: -1,
        metadata: Some("".into()),
        error_code: error.code(),
    }
}

/// The groups that a request of any version asks for. Before version 8 there is one, at the top of the request.
pub fn offset_fetch_groups<'a>(
    request: &OffsetFetchRequest<'a>,
    api_version: i16,
) -> Vec<OffsetFetchRequestGroup<'a>> {
    if api_version >= 8 {
        return request.groups.clone();
    }
    let topic = |topic: &ottla_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic<'a>| {
        OffsetFetchRequestTopics {
            name: topic.name.clone(),
            partition_indexes: topic.partition_indexes.clone(),
            ..Default::default()
        }
    };
    let topics = request.topics.as_ref().map(|topics| topics.iter().map(topic).collect());
    vec![OffsetFetchRequestGroup { group_id: request.group_id.clone(), topics, ..Default::default() }]
}

/// A whole group refused. Version 1 has no place for that but in every partition.
pub fn offset_fetch_error(
    asked: &OffsetFetchRequestGroup<'_>,
    error: ErrorCode,
    api_version: i16,
) -> OffsetFetchResponseGroup<'static> {
    let group_id = owned(&asked.group_id);
    if api_version >= 2 {
        return OffsetFetchResponseGroup { group_id, error_code: error.code(), ..Default::default() };
    }
    let topic = |topic: &OffsetFetchRequestTopics<'_>| OffsetFetchResponseTopics {
        name: owned(&topic.name),
        partitions: topic.partition_indexes.iter().map(|partition| no_offset(*partition, error)).collect(),
        ..Default::default()
    };
    let topics = asked.topics.iter().flatten().map(topic).collect();
    OffsetFetchResponseGroup { group_id, topics, ..Default::default() }
}

/// The response of any version from the answers for its groups. Before version 8 there must be one.
pub fn offset_fetch_response(
    mut groups: Vec<OffsetFetchResponseGroup<'static>>,
    api_version: i16,
) -> OffsetFetchResponse<'static> {
    if api_version >= 8 {
        return OffsetFetchResponse { groups, ..Default::default() };
    }
    let Some(group) = groups.pop() else { return OffsetFetchResponse::default() };
    let partition = |p: OffsetFetchResponsePartitions<'static>| OffsetFetchResponsePartition {
        partition_index: p.partition_index,
        committed_offset: p.committed_offset,
        committed_leader_epoch: p.committed_leader_epoch,
        metadata: p.metadata,
        error_code: p.error_code,
    };
    let topic = |topic: OffsetFetchResponseTopics<'static>| OffsetFetchResponseTopic {
        name: topic.name,
        partitions: topic.partitions.into_iter().map(partition).collect(),
    };
    let topics = group.topics.into_iter().map(topic).collect();
    OffsetFetchResponse { topics, error_code: group.error_code, ..Default::default() }
}
