//! DescribeTopicPartitions 0 (KIP-966): topics with their eligible leader replicas, in pages.
//!
//! Topics come in the order of their names; a page has at least one partition, ends after `response_partition_limit` of them, and says
//! where to go on.

use ottla_metadata::{Image, topic_name};
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::describe_topic_partitions_request::DescribeTopicPartitionsRequest;
use ottla_protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponse, DescribeTopicPartitionsResponsePartition,
    DescribeTopicPartitionsResponseTopic,
};

use crate::Broker;
use crate::api::metadata::offline_replicas;
use crate::call::Call;
use crate::permissions::ON_TOPIC;

/// Handles the request.
pub(crate) fn handle(broker: &Broker, call: &mut Call<'_>, request: DescribeTopicPartitionsRequest<'_>) {
    let image = broker.image();
    let limit = request.response_partition_limit.min(broker.config().requests.partition_limit).max(1);
    let mut left = usize::try_from(limit).unwrap_or(0);
    let (from_topic, from_partition) =
        request.cursor.as_ref().map_or(("", 0), |cursor| (&*cursor.topic_name, cursor.partition_index));
    let mut response = DescribeTopicPartitionsResponse::default();
    if from_partition < 0 {
        let topic = failed(from_topic, ErrorCode::InvalidRequest);
        return call.respond(&DescribeTopicPartitionsResponse { topics: vec![topic], ..Default::default() });
    }
    let mut names: Vec<String> = if request.topics.is_empty() {
        image.topics_by_name().map(|topic| topic.name.to_string()).collect()
    } else {
        request.topics.iter().map(|topic| topic.name.to_string()).collect()
    };
    names.sort_unstable();
    names.dedup();
    for name in names.iter().filter(|name| name.as_str() >= from_topic) {
        if left == 0 {
            response.next_cursor = Some(Cursor { topic_name: name.clone().into(), partition_index: 0 });
            break;
        }
        let Some(topic) = image.topic_by_name(name) else {
            let known = topic_name::validate(name).is_ok();
            let error =
                if known { ErrorCode::UnknownTopicOrPartition } else { ErrorCode::InvalidTopicException };
            response.topics.push(failed(name, error));
            continue;
        };
        let first = if name == from_topic { from_partition } else { 0 };
        let mut described = DescribeTopicPartitionsResponseTopic {
            name: Some(name.clone().into()),
            topic_id: topic.id.0,
            is_internal: topic_name::is_internal(name),
            topic_authorized_operations: ON_TOPIC,
            ..Default::default()
        };
        for (index, partition) in topic.partitions.iter().filter(|(index, _)| index.0 >= first) {
            if left == 0 {
                response.next_cursor =
                    Some(Cursor { topic_name: name.clone().into(), partition_index: index.0 });
                break;
            }
            left -= 1;
            described.partitions.push(describe(&image, index.0, partition));
        }
        response.topics.push(described);
        if response.next_cursor.is_some() {
            break;
        }
    }
    call.respond(&response);
}

fn describe(
    image: &Image,
    partition_index: i32,
    partition: &ottla_metadata::topic::Partition,
) -> DescribeTopicPartitionsResponsePartition {
    use ottla_metadata::topic::numbers;
    DescribeTopicPartitionsResponsePartition {
        error_code: if partition.leader.is_none() { ErrorCode::LeaderNotAvailable.code() } else { 0 },
        partition_index,
        leader_id: partition.leader_or_none(),
        leader_epoch: partition.leader_epoch.0,
        replica_nodes: numbers(&partition.replicas),
        isr_nodes: numbers(&partition.isr),
        eligible_leader_replicas: Some(numbers(&partition.elr)),
        last_known_elr: Some(numbers(&partition.last_known_elr)),
        offline_replicas: offline_replicas(image, partition),
    }
}

fn failed(name: &str, error: ErrorCode) -> DescribeTopicPartitionsResponseTopic<'static> {
    DescribeTopicPartitionsResponseTopic {
        error_code: error.code(),
        name: Some(name.to_string().into()),
        is_internal: topic_name::is_internal(name),
        topic_authorized_operations: ON_TOPIC,
        ..Default::default()
    }
}
