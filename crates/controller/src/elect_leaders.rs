//! ElectLeaders (43), versions 0-2: an administrator wants the preferred leaders back, or any leader rather than none (KIP-183, KIP-460).
//!
//! The tricky idea: without a list of partitions every partition is meant, and then those that need no election are left out of the
//! answer; with a list each gets its answer, ELECTION_NOT_NEEDED among them.

use crate::context::{Context, Decision, MAX_RECORDS_PER_BATCH};
use crate::draft::Draft;
use crate::error::{ApiError, code_and_message};
use crate::partition_change::Election;
use ottla_metadata::Topic;
use ottla_protocol::ErrorCode;
use ottla_protocol::ids::PartitionId;
use ottla_protocol::messages::elect_leaders_request::ElectLeadersRequest;
use ottla_protocol::messages::elect_leaders_response::{
    ElectLeadersResponse, PartitionResult, ReplicaElectionResult,
};
use std::borrow::Cow;

const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;

/// Decides about elections. Version 0 has no type of election: it means the preferred one.
pub fn elect_leaders(
    context: &Context<'_>,
    request: &ElectLeadersRequest<'_>,
    version: i16,
) -> Decision<ElectLeadersResponse<'static>> {
    let kind = if version == 0 { PREFERRED } else { request.election_type };
    let election = match kind {
        PREFERRED => Election::Preferred,
        UNCLEAN => Election::Unclean,
        other => {
            let message = format!("There is no election of type {other}.");
            return refused(request, &ApiError::new(ErrorCode::InvalidRequest, message));
        }
    };
    let mut draft = Draft::new(context.image);
    let results = match &request.topic_partitions {
        None => elect_everywhere(context, &mut draft, election),
        Some(topics) => topics
            .iter()
            .map(|asked| {
                let results = asked.partitions.iter().map(|index| {
                    let elected = elect_asked(context, &mut draft, &asked.topic, *index, election);
                    partition_result(*index, &elected)
                });
                topic_result(&asked.topic, results.collect())
            })
            .collect(),
    };
    if draft.len() > MAX_RECORDS_PER_BATCH {
        let message = "The request asks for too many elections at once; split it.";
        return refused(request, &ApiError::new(ErrorCode::PolicyViolation, message));
    }
    let response = ElectLeadersResponse { replica_election_results: results, ..Default::default() };
    Decision::splittable(draft.into_records(), response)
}

/// The same refusal for all that was asked.
fn refused(request: &ElectLeadersRequest<'_>, error: &ApiError) -> Decision<ElectLeadersResponse<'static>> {
    let result = Err(error.clone());
    let topics = request.topic_partitions.iter().flatten().map(|asked| {
        let results = asked.partitions.iter().map(|index| partition_result(*index, &result));
        topic_result(&asked.topic, results.collect())
    });
    let response = ElectLeadersResponse {
        error_code: error.code.code(),
        replica_election_results: topics.collect(),
        ..Default::default()
    };
    Decision::atomic(Vec::new(), response)
}

fn topic_result(
    topic: &str,
    partition_result: Vec<PartitionResult<'static>>,
) -> ReplicaElectionResult<'static> {
    ReplicaElectionResult { topic: Cow::Owned(topic.to_owned()), partition_result }
}

fn partition_result(index: i32, elected: &Result<(), ApiError>) -> PartitionResult<'static> {
    let (error_code, error_message) = code_and_message(elected);
    PartitionResult { partition_id: index, error_code, error_message }
}

fn elect_everywhere(
    context: &Context<'_>,
    draft: &mut Draft<'_>,
    election: Election,
) -> Vec<ReplicaElectionResult<'static>> {
    let mut results = Vec::new();
    for topic in context.image.topics_by_name() {
        let mut of_topic = Vec::new();
        for index in topic.partitions.keys() {
            match elect(context, draft, topic, *index, election) {
                Err(error) if error.code == ErrorCode::ElectionNotNeeded => {}
                elected => of_topic.push(partition_result(index.0, &elected)),
            }
        }
        results.push(topic_result(&topic.name, of_topic));
    }
    results
}

fn elect_asked(
    context: &Context<'_>,
    draft: &mut Draft<'_>,
    topic: &str,
    index: i32,
    election: Election,
) -> Result<(), ApiError> {
    let unknown = |message: String| ApiError::new(ErrorCode::UnknownTopicOrPartition, message);
    let found = context.image.topic_by_name(topic);
    let found = found.ok_or_else(|| unknown(format!("No such topic as {topic}")))?;
    if !found.partitions.contains_key(&PartitionId(index)) {
        return Err(unknown(format!("No such partition as {topic}-{index}")));
    }
    elect(context, draft, found, PartitionId(index), election)
}

/// Elects a leader of a partition that exists.
pub(crate) fn elect(
    context: &Context<'_>,
    draft: &mut Draft<'_>,
    topic: &Topic,
    index: PartitionId,
    election: Election,
) -> Result<(), ApiError> {
    let partition = draft.partition(topic, index).expect("the caller found it");
    let needed = match election {
        Election::Unclean => partition.leader.is_none(),
        Election::Preferred | Election::Online => partition.leader != partition.replicas.first().copied(),
    };
    if !needed {
        return Err(ApiError::plain(ErrorCode::ElectionNotNeeded));
    }
    let may_lead = |broker, directory| context.may_lead(broker, directory);
    let mut change = context.partition_change(topic, index, &partition, &may_lead);
    change.election = election;
    match (draft.apply(change), election) {
        (Some(_), _) => Ok(()),
        (None, Election::Unclean) => Err(ApiError::plain(ErrorCode::EligibleLeadersNotAvailable)),
        (None, _) => Err(ApiError::plain(ErrorCode::PreferredLeaderNotAvailable)),
    }
}
