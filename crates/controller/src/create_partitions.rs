//! CreatePartitions (37), versions 0-3: a topic can only grow.
//!
//! The tricky idea: `count` is the new total, not the addition; and new partitions are replicated as often as
//! partition 0 is.

use crate::allowance::{Allowance, spend};
use crate::context::{Context, Decision, MAX_RECORDS_PER_BATCH};
use crate::dice::Dice;
use crate::error::{ApiError, code_and_message};
use crate::placement;
use ottla_metadata::{Partition, Topic};
use ottla_protocol::ErrorCode;
use ottla_protocol::ids::PartitionId;
use ottla_protocol::messages::create_partitions_request::{
    CreatePartitionsAssignment, CreatePartitionsRequest, CreatePartitionsTopic,
};
use ottla_protocol::messages::create_partitions_response::{
    CreatePartitionsResponse, CreatePartitionsTopicResult,
};
use ottla_protocol::messages::metadata_record::MetadataRecord;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Decides about a CreatePartitions whose topics the client may alter, as far as its allowance goes.
pub fn create_partitions(
    context: &Context<'_>,
    request: &CreatePartitionsRequest<'_>,
    dice: &mut Dice,
    allowance: Allowance<'_>,
) -> Decision<CreatePartitionsResponse<'static>> {
    let mut times = BTreeMap::<&str, usize>::new();
    for topic in &request.topics {
        *times.entry(&*topic.name).or_default() += 1;
    }
    let (mut records, mut results) = (Vec::new(), Vec::new());
    for topic in &request.topics {
        // A repeated topic is answered once.
        let Some(times) = times.remove(&*topic.name) else { continue };
        let added = if times > 1 {
            Err(ApiError::new(ErrorCode::InvalidRequest, "The request names this topic more than once."))
        } else {
            add_partitions(context, topic, dice, allowance, MAX_RECORDS_PER_BATCH - records.len())
        };
        let (error_code, error_message) = code_and_message(&added.map(|new| records.extend(new)));
        let name = Cow::Owned(topic.name.to_string());
        results.push(CreatePartitionsTopicResult { name, error_code, error_message });
    }
    if request.validate_only {
        records.clear();
    }
    Decision::atomic(records, CreatePartitionsResponse { throttle_time_ms: 0, results })
}

fn add_partitions(
    context: &Context<'_>,
    request: &CreatePartitionsTopic<'_>,
    dice: &mut Dice,
    allowance: Allowance<'_>,
    room: usize,
) -> Result<Vec<MetadataRecord<'static>>, ApiError> {
    let topic = context.image.topic_by_name(&request.name);
    let topic = topic.ok_or_else(|| ApiError::plain(ErrorCode::UnknownTopicOrPartition))?;
    let current = topic.partition_count();
    if request.count <= current {
        let message = if request.count == current {
            format!("Topic already has {current} partition(s).")
        } else {
            let (name, count) = (&request.name, request.count);
            format!(
                "The topic {name} currently has {current} partition(s); {count} would not be an increase."
            )
        };
        return Err(ApiError::new(ErrorCode::InvalidPartitions, message));
    }
    let additional = usize::try_from(request.count - current).unwrap_or(usize::MAX);
    if let Some(assignments) = &request.assignments
        && assignments.len() != additional
    {
        let message = format!(
            "{additional} partition(s) would be added, but replicas are assigned for {}.",
            assignments.len()
        );
        return Err(ApiError::new(ErrorCode::InvalidReplicaAssignment, message));
    }
    if additional > room {
        let message = "The request adds too many partitions at once; split it.";
        return Err(ApiError::new(ErrorCode::PolicyViolation, message));
    }
    spend(allowance, additional)?;
    let partitions = match &request.assignments {
        Some(assignments) => assigned(context, topic, assignments)?,
        None => {
            let factor = i16::try_from(topic.replication_factor()).unwrap_or(i16::MAX);
            placement::place(context, dice, additional, factor)?
        }
    };
    let version = context.metadata_version();
    let record = |(index, partition): (i32, Partition)| {
        MetadataRecord::PartitionRecord(partition.to_record(topic.id, PartitionId(index), version))
    };
    Ok((current..).zip(partitions).map(record).collect())
}

fn assigned(
    context: &Context<'_>,
    topic: &Topic,
    assignments: &[CreatePartitionsAssignment],
) -> Result<Vec<Partition>, ApiError> {
    let factor = Some(topic.replication_factor());
    let assign = |(index, assignment): (i32, &CreatePartitionsAssignment)| {
        placement::assign(context, index, &assignment.broker_ids, factor)
    };
    (topic.partition_count()..).zip(assignments).map(assign).collect()
}
