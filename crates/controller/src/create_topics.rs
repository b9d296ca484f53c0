//! CreateTopics (19), versions 2-7.
//!
//! Each topic stands for itself: a bad one is refused, the others are created. v5 answers what was created, v7 with
//! the topic's id. The order of checks is Kafka's: name, existence, configuration, assignment.
//!
//! The tricky idea: with `validateOnly` everything happens but the appending, so the answer is the one that the real
//! request would get.

use crate::allowance::{Allowance, spend};
use crate::configs::{self, Edit};
use crate::context::{Context, Decision, MAX_PARTITIONS_PER_REQUEST, MAX_RECORDS_PER_BATCH};
use crate::dice::Dice;
use crate::error::ApiError;
use crate::placement;
use ottla_metadata::{ConfigMap, Partition, topic_name};
use ottla_protocol::ErrorCode;
use ottla_protocol::ids::{PartitionId, TopicId};
use ottla_protocol::messages::create_topics_request::{CreatableTopic, CreateTopicsRequest};
use ottla_protocol::messages::create_topics_response::{
    CreatableTopicConfigs, CreatableTopicResult, CreateTopicsResponse,
};
use ottla_protocol::messages::metadata_record::MetadataRecord;
use ottla_protocol::messages::topic_record::TopicRecord;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// Decides about a CreateTopics whose topics the client may create, as far as its allowance goes. A client that may not see configurations gets
/// its answer blanked by the caller (`topic_config_error_code` 29, no configs, -1 for the counts).
pub fn create_topics(
    context: &Context<'_>,
    request: &CreateTopicsRequest<'_>,
    dice: &mut Dice,
    allowance: Allowance<'_>,
) -> Decision<CreateTopicsResponse<'static>> {
    let mut answers = Vec::with_capacity(request.topics.len());
    let mut records = Vec::new();
    let too_many = requested_partitions(context, request) > MAX_PARTITIONS_PER_REQUEST;
    let (mut seen, mut repeated) = (BTreeSet::new(), BTreeSet::new());
    for topic in &request.topics {
        if !seen.insert(&*topic.name) {
            repeated.insert(&*topic.name);
        }
    }
    let mut answered = BTreeSet::new();
    for topic in &request.topics {
        if !answered.insert(&*topic.name) {
            continue;
        }
        let created = if too_many {
            let message =
                format!("The request asks for more than {MAX_PARTITIONS_PER_REQUEST} partitions; split it.");
            Err(ApiError::new(ErrorCode::PolicyViolation, message))
        } else if repeated.contains(&*topic.name) {
            Err(ApiError::new(ErrorCode::InvalidRequest, "The request names this topic more than once."))
        } else {
            create_topic(context, topic, dice, allowance, MAX_RECORDS_PER_BATCH - records.len())
        };
        answers.push(match created {
            Ok((answer, new)) => {
                records.extend(new);
                answer
            }
            Err(error) => refusal(topic, &error),
        });
    }
    if request.validate_only {
        records.clear();
    }
    Decision::atomic(records, CreateTopicsResponse { throttle_time_ms: 0, topics: answers })
}

/// How many partitions the request asks for, at most: topics that turn out wrong are counted too.
fn requested_partitions(context: &Context<'_>, request: &CreateTopicsRequest<'_>) -> usize {
    let of_topic = |topic: &CreatableTopic<'_>| match (topic.assignments.len(), topic.num_partitions) {
        (0, -1) => usize::try_from(context.settings.default_partitions).unwrap_or(0),
        (0, given) => usize::try_from(given).unwrap_or(0),
        (assigned, _) => assigned,
    };
    request.topics.iter().map(of_topic).fold(0, usize::saturating_add)
}

fn refusal(topic: &CreatableTopic<'_>, error: &ApiError) -> CreatableTopicResult<'static> {
    CreatableTopicResult {
        name: Cow::Owned(topic.name.to_string()),
        error_code: error.code.code(),
        error_message: error.text(),
        configs: Some(Vec::new()),
        ..Default::default()
    }
}

type Created = (CreatableTopicResult<'static>, Vec<MetadataRecord<'static>>);

fn create_topic(
    context: &Context<'_>,
    topic: &CreatableTopic<'_>,
    dice: &mut Dice,
    allowance: Allowance<'_>,
    room: usize,
) -> Result<Created, ApiError> {
    check_name(context, &topic.name)?;
    let (values, config_records) = creation_configs(context, topic)?;
    let partitions = if topic.assignments.is_empty() {
        placed_partitions(context, topic, dice)?
    } else {
        assigned_partitions(context, topic)?
    };
    if 1 + config_records.len() + partitions.len() > room {
        let message = "The request would write too many records; split it.";
        return Err(ApiError::new(ErrorCode::PolicyViolation, message));
    }
    spend(allowance, partitions.len())?;
    let topic_id = new_topic_id(context, dice);
    let answer = CreatableTopicResult {
        name: Cow::Owned(topic.name.to_string()),
        topic_id: topic_id.0,
        error_code: ErrorCode::None.code(),
        error_message: None,
        topic_config_error_code: ErrorCode::None.code(),
        num_partitions: i32::try_from(partitions.len()).unwrap_or(i32::MAX),
        replication_factor: i16::try_from(partitions[0].replicas.len()).unwrap_or(i16::MAX),
        configs: Some(effective_configs(context, &values)),
    };
    let mut records = vec![MetadataRecord::TopicRecord(TopicRecord {
        name: Cow::Owned(topic.name.to_string()),
        topic_id: topic_id.0,
    })];
    records.extend(config_records);
    let (indexed, version) = ((0..).zip(&partitions), context.metadata_version());
    records.extend(indexed.map(|(index, partition)| {
        MetadataRecord::PartitionRecord(partition.to_record(topic_id, PartitionId(index), version))
    }));
    Ok((answer, records))
}

fn check_name(context: &Context<'_>, name: &str) -> Result<(), ApiError> {
    if name == topic_name::CLUSTER_METADATA {
        let message = format!("{name} is the metadata log; nobody can create it.");
        return Err(ApiError::new(ErrorCode::InvalidRequest, message));
    }
    if let Err(error) = topic_name::validate(name) {
        return Err(ApiError::new(ErrorCode::InvalidTopicException, error.to_string()));
    }
    if context.image.topic_by_name(name).is_some() {
        return Err(ApiError::new(ErrorCode::TopicAlreadyExists, format!("Topic '{name}' already exists.")));
    }
    if let Some(other) = context.image.colliding_topic(name) {
        let message = format!("Topic '{name}' collides with existing topic: {other}");
        return Err(ApiError::new(ErrorCode::InvalidTopicException, message));
    }
    Ok(())
}

fn creation_configs(
    context: &Context<'_>,
    topic: &CreatableTopic<'_>,
) -> Result<(ConfigMap, Vec<MetadataRecord<'static>>), ApiError> {
    let without_value = topic.configs.iter().filter(|config| config.value.is_none());
    let without_value: Vec<&str> = without_value.map(|config| &*config.name).collect();
    if !without_value.is_empty() {
        let message = format!("These configs have no value: {}", without_value.join(","));
        return Err(ApiError::new(ErrorCode::InvalidConfig, message));
    }
    let given = topic.configs.iter();
    let values: ConfigMap =
        given.filter_map(|c| Some((c.name.to_string(), c.value.as_ref()?.to_string()))).collect();
    let edits = values.iter().map(|(key, value)| Edit { key: key.clone(), value: Some(value.clone()) });
    let edits: Vec<Edit> = edits.collect();
    let records = configs::decide_for_new_topic(context, &topic.name, &edits)?;
    Ok((values, records))
}

fn assigned_partitions(
    context: &Context<'_>,
    topic: &CreatableTopic<'_>,
) -> Result<Vec<Partition>, ApiError> {
    let both = |what: &str| {
        let message = format!("Replicas are assigned by hand, so {what} must be -1.");
        Err(ApiError::new(ErrorCode::InvalidRequest, message))
    };
    if topic.replication_factor != -1 {
        return both("replication factor");
    }
    if topic.num_partitions != -1 {
        return both("numPartitions");
    }
    let invalid = |message: String| Err(ApiError::new(ErrorCode::InvalidReplicaAssignment, message));
    let mut factor = None;
    let mut partitions = BTreeMap::new();
    for assignment in &topic.assignments {
        let index = assignment.partition_index;
        if partitions.contains_key(&index) {
            return invalid(format!("Partition {index} is assigned more than once."));
        }
        let partition = placement::assign(context, index, &assignment.broker_ids, factor)?;
        factor = Some(partition.replicas.len());
        partitions.insert(index, partition);
    }
    if !partitions.keys().copied().eq((0..).take(partitions.len())) {
        return invalid(
            "The assigned partitions must be numbered 0, 1, 2 and so on without a gap.".to_owned(),
        );
    }
    Ok(partitions.into_values().collect())
}

fn placed_partitions(
    context: &Context<'_>,
    topic: &CreatableTopic<'_>,
    dice: &mut Dice,
) -> Result<Vec<Partition>, ApiError> {
    let factor = match topic.replication_factor {
        -1 => context.settings.default_replication_factor,
        factor if factor > 0 => factor,
        _ => {
            let message = "The replication factor must be at least 1, or -1 for the default.";
            return Err(ApiError::new(ErrorCode::InvalidReplicationFactor, message));
        }
    };
    let count = match topic.num_partitions {
        -1 => context.settings.default_partitions,
        count => count,
    };
    let count = match usize::try_from(count) {
        Ok(count) if count > 0 => count,
        _ => {
            let message = "The number of partitions must be at least 1, or -1 for the default.";
            return Err(ApiError::new(ErrorCode::InvalidPartitions, message));
        }
    };
    placement::place(context, dice, count, factor)
}

fn new_topic_id(context: &Context<'_>, dice: &mut Dice) -> TopicId {
    loop {
        let id = TopicId(dice.uuid());
        if context.image.topic(id).is_none() {
            return id;
        }
    }
}

fn effective_configs(context: &Context<'_>, values: &ConfigMap) -> Vec<CreatableTopicConfigs<'static>> {
    let effective = context.rules.effective_topic_config(context.image, values);
    let answer = effective.into_iter().map(|config| CreatableTopicConfigs {
        name: Cow::Owned(config.name),
        value: if config.sensitive { None } else { config.value.map(Cow::Owned) },
        read_only: config.read_only,
        config_source: config.source,
        is_sensitive: config.sensitive,
    });
    answer.collect()
}
