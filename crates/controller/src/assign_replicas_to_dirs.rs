//! AssignReplicasToDirs (73), version 0: a broker tells in which log directory it keeps a replica (KIP-858).
//!
//! The tricky idea: the directory may be offline by now, or may have been so all along (a replica that is lost is reported in a directory
//! that the broker does not have). Then the broker leaves the ISR and the leadership of that partition in the same record.

use crate::context::{Context, Decision};
use crate::draft::Draft;
use crate::error::ApiError;
use ottla_metadata::Broker;
use ottla_protocol::ids::{NodeId, PartitionId, TopicId};
use ottla_protocol::messages::assign_replicas_to_dirs_request::AssignReplicasToDirsRequest;
use ottla_protocol::messages::assign_replicas_to_dirs_response::{
    AssignReplicasToDirsResponse, DirectoryData, PartitionData, TopicData,
};
use ottla_protocol::{ErrorCode, Uuid};

/// Decides about a broker's assignments.
pub fn assign_replicas_to_dirs(
    context: &Context<'_>,
    request: &AssignReplicasToDirsRequest,
) -> Result<Decision<AssignReplicasToDirsResponse>, ApiError> {
    if !context.metadata_version().supports_directory_assignment() {
        let message = "The cluster's metadata.version does not know directories of replicas.";
        return Err(ApiError::new(ErrorCode::UnsupportedVersion, message));
    }
    let id = NodeId(request.broker_id);
    context.check_broker_epoch(id, request.broker_epoch)?;
    let broker = context.image.broker(id).ok_or_else(|| ApiError::plain(ErrorCode::BrokerIdNotRegistered))?;
    let mut draft = Draft::new(context.image);
    let directories = request.directories.iter().map(|assigned| {
        let topics = assigned.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|partition| {
                let index = PartitionId(partition.partition_index);
                let assigned =
                    assign(context, &mut draft, broker, assigned.id, TopicId(topic.topic_id), index);
                let error_code = assigned.err().unwrap_or(ErrorCode::None).code();
                PartitionData { partition_index: index.0, error_code }
            });
            TopicData { topic_id: topic.topic_id, partitions: partitions.collect() }
        });
        DirectoryData { id: assigned.id, topics: topics.collect() }
    });
    let directories = directories.collect();
    let response = AssignReplicasToDirsResponse { directories, ..Default::default() };
    Ok(Decision::splittable(draft.into_records(), response))
}

fn assign(
    context: &Context<'_>,
    draft: &mut Draft<'_>,
    broker: &Broker,
    directory: Uuid,
    topic: TopicId,
    index: PartitionId,
) -> Result<(), ErrorCode> {
    let topic = context.image.topic(topic).ok_or(ErrorCode::UnknownTopicId)?;
    let partition = draft.partition(topic, index).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let replica = partition.replicas.iter().position(|replica| *replica == broker.id);
    let replica = replica.ok_or(ErrorCode::NotLeaderOrFollower)?;
    let may_lead = |broker, directory| context.may_lead(broker, directory);
    let mut change = context.partition_change(topic, index, &partition, &may_lead);
    change.target.directories[replica] = directory;
    if broker.has_online_dir(directory) {
        change.election = crate::Election::Online;
    } else {
        change.target.isr.retain(|member| *member != broker.id);
    }
    draft.apply(change);
    Ok(())
}
