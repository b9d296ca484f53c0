//! AlterPartitionReassignments (45), versions 0-1: where replicas shall be; without replicas, that a reassignment is given up (KIP-455).
//!
//! The tricky idea: the wish is only written down; it is fulfilled by brokers that replicate and leaders that propose them for the ISR.
//! From version 1 on a client may demand that the number of replicas stays (KIP-860).

use crate::context::{Context, Decision, MAX_RECORDS_PER_BATCH};
use crate::draft::Draft;
use crate::error::{ApiError, code_and_message};
use crate::{placement, reassignment};
use ottla_metadata::topic::nodes;
use ottla_metadata::{Partition, Topic, directory};
use ottla_protocol::ErrorCode;
use ottla_protocol::ids::{NodeId, PartitionId};
use ottla_protocol::messages::alter_partition_reassignments_request::{
    AlterPartitionReassignmentsRequest, ReassignablePartition,
};
use ottla_protocol::messages::alter_partition_reassignments_response::{
    AlterPartitionReassignmentsResponse, ReassignablePartitionResponse, ReassignableTopicResponse,
};
use std::borrow::Cow;

/// Decides about reassignments whose topics the client may alter.
pub fn alter_partition_reassignments(
    context: &Context<'_>,
    request: &AlterPartitionReassignmentsRequest<'_>,
) -> Decision<AlterPartitionReassignmentsResponse<'static>> {
    let mut draft = Draft::new(context.image);
    let may_resize = request.allow_replication_factor_change;
    let mut responses = Vec::with_capacity(request.topics.len());
    for asked in &request.topics {
        let mut partitions = Vec::with_capacity(asked.partitions.len());
        for wish in &asked.partitions {
            let altered = alter(context, &mut draft, &asked.name, wish, may_resize);
            let (error_code, error_message) = code_and_message(&altered);
            let partition_index = wish.partition_index;
            partitions.push(ReassignablePartitionResponse { partition_index, error_code, error_message });
        }
        responses.push(ReassignableTopicResponse { name: Cow::Owned(asked.name.to_string()), partitions });
    }
    let response = AlterPartitionReassignmentsResponse {
        allow_replication_factor_change: may_resize,
        responses,
        ..Default::default()
    };
    Decision::atomic(draft.into_records(), response)
}

fn alter(
    context: &Context<'_>,
    draft: &mut Draft<'_>,
    name: &str,
    wish: &ReassignablePartition,
    may_resize: bool,
) -> Result<(), ApiError> {
    let unknown = |message: String| ApiError::new(ErrorCode::UnknownTopicOrPartition, message);
    let index = PartitionId(wish.partition_index);
    let topic = context.image.topic_by_name(name);
    let topic = topic.ok_or_else(|| unknown(format!("There is no topic {name}.")))?;
    let partition = draft.partition(topic, index);
    let partition = partition.ok_or_else(|| unknown(format!("There is no partition {name}-{index}.")))?;
    if draft.len() >= MAX_RECORDS_PER_BATCH {
        let message = "The request moves too many partitions at once; split it.";
        return Err(ApiError::new(ErrorCode::PolicyViolation, message));
    }
    let target = match &wish.replicas {
        None => cancelled(context, topic, index, &partition)?,
        Some(replicas) => moved(context, &partition, replicas, may_resize)?,
    };
    let may_lead = |broker, directory| context.may_lead(broker, directory);
    let mut change = context.partition_change(topic, index, &partition, &may_lead);
    // Only who gives a reassignment up may have to take a leader that lacks records.
    if wish.replicas.is_some() {
        change.election = crate::Election::Online;
    }
    change.target = target;
    draft.apply(change);
    Ok(())
}

/// The partition without its reassignment.
fn cancelled(
    context: &Context<'_>,
    topic: &Topic,
    index: PartitionId,
    partition: &Partition,
) -> Result<Partition, ApiError> {
    if !reassignment::is_in_progress(partition) {
        return Err(ApiError::plain(ErrorCode::NoReassignmentInProgress));
    }
    let mut target = partition.clone();
    if reassignment::revert(&mut target) && !context.unclean_election(topic) {
        let message = format!(
            "The reassignment of {}-{index} can not be given up: only replicas that it added are in sync, and \
             unclean.leader.election.enable does not allow another leader.",
            topic.name
        );
        return Err(ApiError::new(ErrorCode::InvalidReplicaAssignment, message));
    }
    Ok(target)
}

/// The partition on its way to `replicas`.
fn moved(
    context: &Context<'_>,
    partition: &Partition,
    replicas: &[i32],
    may_resize: bool,
) -> Result<Partition, ApiError> {
    placement::check_assignment(context, replicas)?;
    let before = reassignment::replication_factor(partition);
    if !may_resize && before != replicas.len() {
        let message = format!("The replication factor would change from {before} to {}.", replicas.len());
        return Err(ApiError::new(ErrorCode::InvalidReplicationFactor, message));
    }
    let mut target = partition.clone();
    reassignment::begin(&mut target, &nodes(replicas), |replica: NodeId| {
        context.image.broker(replica).map_or(directory::UNASSIGNED, |broker| broker.default_dir())
    });
    Ok(target)
}
