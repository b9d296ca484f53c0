//! ListPartitionReassignments (46), version 0: which partitions are on their way, from where and to where.

use crate::reassignment;
use ottla_metadata::topic::numbers;
use ottla_metadata::{Image, Partition, Topic};
use ottla_protocol::ids::PartitionId;
use ottla_protocol::messages::list_partition_reassignments_request::ListPartitionReassignmentsRequest;
use ottla_protocol::messages::list_partition_reassignments_response::{
    ListPartitionReassignmentsResponse, OngoingPartitionReassignment, OngoingTopicReassignment,
};
use std::borrow::Cow;

/// Lists what was asked for, or everything that is being reassigned. What does not exist is left out.
pub fn list_partition_reassignments(
    image: &Image,
    request: &ListPartitionReassignmentsRequest<'_>,
) -> ListPartitionReassignmentsResponse<'static> {
    let topics = match &request.topics {
        None => image
            .topics_by_name()
            .filter_map(|topic| ongoing(topic, topic.partitions.keys().copied()))
            .collect(),
        Some(asked) => asked
            .iter()
            .filter_map(|asked| {
                let topic = image.topic_by_name(&asked.name)?;
                ongoing(topic, asked.partition_indexes.iter().map(|index| PartitionId(*index)))
            })
            .collect(),
    };
    ListPartitionReassignmentsResponse { topics, ..Default::default() }
}

fn ongoing(
    topic: &Topic,
    indexes: impl Iterator<Item = PartitionId>,
) -> Option<OngoingTopicReassignment<'static>> {
    let partition = |index: PartitionId| -> Option<OngoingPartitionReassignment> {
        let partition: &Partition = topic.partitions.get(&index)?;
        reassignment::is_in_progress(partition).then(|| OngoingPartitionReassignment {
            partition_index: index.0,
            replicas: numbers(&partition.replicas),
            adding_replicas: numbers(&partition.adding_replicas),
            removing_replicas: numbers(&partition.removing_replicas),
        })
    };
    let partitions: Vec<OngoingPartitionReassignment> = indexes.filter_map(partition).collect();
    let name = Cow::Owned(topic.name.to_string());
    (!partitions.is_empty()).then_some(OngoingTopicReassignment { name, partitions })
}
