//! Metadata 0-13: brokers, controller and topics, as seen through the listener that the client used.
//!
//! - v0: no topics named means all; v1+: null means all and an empty list none.
//! - v4+: a flag says whether unknown topics may be created; older clients always allow it.
//! - v8+: what the client may do, if it asks (KIP-430): with topics, and until v10 with the cluster.
//! - v10+: topics by id (KIP-516); v12+ answers unknown ids with UNKNOWN_TOPIC_ID and a null name.

use ottla_metadata::topic_name::CONSUMER_OFFSETS;
use ottla_metadata::{Image, topic_name};
use ottla_protocol::ids::{NodeId, TopicId};
use ottla_protocol::messages::metadata_request::MetadataRequest;
use ottla_protocol::messages::metadata_response::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use ottla_protocol::{ErrorCode, Uuid};

use crate::Broker;
use crate::call::Call;
use crate::permissions::{self, NOT_ASKED, ON_CLUSTER, ON_TOPIC};

/// First version that may name topics by id alone: before it, the answer needs a name.
const FIRST_BY_ID_VERSION: i16 = 12;

/// Handles the request; topics that are to be created are created first.
pub(crate) fn handle(broker: &Broker, call: &mut Call<'_>, request: MetadataRequest<'_>) {
    let image = broker.image();
    let all = match &request.topics {
        None => true,
        Some(topics) => call.reply.version == 0 && topics.is_empty(),
    };
    let may_create =
        broker.config().auto_create_topics && (request.allow_auto_topic_creation || call.reply.version < 4);
    if !call.retried && may_create {
        let asked = request.topics.iter().flatten().filter(|topic| topic.topic_id == Uuid::ZERO);
        let named = asked.filter_map(|topic| topic.name.as_deref());
        let missing: Vec<String> = named
            .filter(|name| image.topic_by_name(name).is_none() && may_be_created(name))
            .map(str::to_owned)
            .collect();
        if !missing.is_empty() {
            return broker.auto_create(call, &missing);
        }
    }
    let topic_authorized_operations =
        permissions::told(request.include_topic_authorized_operations, ON_TOPIC);
    let describe = |topic| MetadataResponseTopic { topic_authorized_operations, ..describe(&image, topic) };
    let mut topics = Vec::new();
    if all {
        topics.extend(image.topics_by_name().map(|topic| describe(topic)));
    } else {
        for asked in request.topics.iter().flatten() {
            // A client that asks by id leaves the name null, or empty.
            let by_id = asked.topic_id != Uuid::ZERO;
            if (by_id || asked.name.is_none()) && call.reply.version < FIRST_BY_ID_VERSION {
                let error_code = ErrorCode::InvalidRequest.code();
                topics.push(MetadataResponseTopic {
                    error_code,
                    name: Some("".into()),
                    ..Default::default()
                });
                continue;
            }
            let found = match &asked.name {
                Some(name) if !by_id => image.topic_by_name(name),
                _ => image.topic(TopicId(asked.topic_id)),
            };
            topics.push(match found {
                Some(topic) => describe(topic),
                None => MetadataResponseTopic {
                    error_code: missing_error(asked.name.as_deref().filter(|_| !by_id), asked.topic_id)
                        .code(),
                    name: asked.name.clone().filter(|_| !by_id),
                    topic_id: asked.topic_id,
                    // Whoever knows no more than an id is told nothing of it.
                    topic_authorized_operations: if by_id { NOT_ASKED } else { topic_authorized_operations },
                    ..Default::default()
                },
            });
        }
    }
    let response = MetadataResponse {
        brokers: image
            .brokers()
            .values()
            .filter(|node| node.is_active())
            .filter_map(|node| {
                let endpoint = node.endpoint(&call.connection.listener)?;
                Some(MetadataResponseBroker {
                    node_id: node.id.0,
                    host: endpoint.host.to_string().into(),
                    port: i32::from(endpoint.port),
                    rack: node.rack.as_deref().map(|rack| rack.to_string().into()),
                })
            })
            .collect(),
        cluster_id: Some(broker.cluster_id().to_string().into()),
        controller_id: broker.config().node_id,
        cluster_authorized_operations: permissions::told(
            request.include_cluster_authorized_operations,
            ON_CLUSTER,
        ),
        topics,
        ..Default::default()
    };
    call.respond(&response);
}

/// Internal topics that nobody serves are not created for the asking.
fn may_be_created(name: &str) -> bool {
    topic_name::validate(name).is_ok() && (!topic_name::is_internal(name) || name == CONSUMER_OFFSETS)
}

fn missing_error(name: Option<&str>, id: Uuid) -> ErrorCode {
    match name {
        Some(name) if topic_name::validate(name).is_err() => ErrorCode::InvalidTopicException,
        Some(_) => ErrorCode::UnknownTopicOrPartition,
        None if id == Uuid::ZERO => ErrorCode::InvalidTopicException,
        None => ErrorCode::UnknownTopicId,
    }
}

fn describe(image: &Image, topic: &ottla_metadata::topic::Topic) -> MetadataResponseTopic<'static> {
    let partitions = topic.partitions.iter().map(|(index, partition)| MetadataResponsePartition {
        error_code: if partition.leader.is_none() { ErrorCode::LeaderNotAvailable.code() } else { 0 },
        partition_index: index.0,
        leader_id: partition.leader_or_none(),
        leader_epoch: partition.leader_epoch.0,
        replica_nodes: ottla_metadata::topic::numbers(&partition.replicas),
        isr_nodes: ottla_metadata::topic::numbers(&partition.isr),
        offline_replicas: offline_replicas(image, partition),
    });
    MetadataResponseTopic {
        error_code: 0,
        name: Some(topic.name.to_string().into()),
        topic_id: topic.id.0,
        is_internal: topic_name::is_internal(&topic.name),
        partitions: partitions.collect(),
        ..Default::default()
    }
}

/// Replicas of a partition that are not served: their broker is fenced or gone, or the directory that held them is.
pub(crate) fn offline_replicas(image: &Image, partition: &ottla_metadata::topic::Partition) -> Vec<i32> {
    let online = |id: NodeId| {
        image.broker(id).is_some_and(|node| {
            node.is_active()
                && partition.directory_of(id).is_none_or(|directory| node.has_online_dir(directory))
        })
    };
    partition.replicas.iter().filter(|id| !online(**id)).map(|id| id.0).collect()
}
