//! DeleteTopics (20), versions 1-6. v6 also takes topic ids.
//!
//! The tricky idea: a topic may be named twice in one request, by name, by id, or once by each; such a topic is not
//! deleted at all, for the client contradicts itself.

use crate::allowance::{Allowance, spend};
use crate::context::{Context, Decision, MAX_RECORDS_PER_BATCH};
use crate::error::{ApiError, code_and_message};
use ottla_protocol::ErrorCode;
use ottla_protocol::Uuid;
use ottla_protocol::ids::TopicId;
use ottla_protocol::messages::delete_topics_request::DeleteTopicsRequest;
use ottla_protocol::messages::delete_topics_response::{DeletableTopicResult, DeleteTopicsResponse};
use ottla_protocol::messages::metadata_record::MetadataRecord;
use ottla_protocol::messages::remove_topic_record::RemoveTopicRecord;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// Decides about a DeleteTopics of `version` whose topics the client may delete, as far as its allowance goes.
pub fn delete_topics(
    context: &Context<'_>,
    request: &DeleteTopicsRequest<'_>,
    version: i16,
    allowance: Allowance<'_>,
) -> Decision<DeleteTopicsResponse<'static>> {
    let mut wanted = wanted(request);
    if !context.settings.delete_topic_enable {
        let error = if version < 3 {
            ApiError::new(ErrorCode::InvalidRequest, "Topic deletion is disabled on this cluster.")
        } else {
            ApiError::plain(ErrorCode::TopicDeletionDisabled)
        };
        let responses =
            wanted.iter().map(|topic| answer(topic.name, topic.id, &Err(error.clone()))).collect();
        return Decision::atomic(Vec::new(), DeleteTopicsResponse { throttle_time_ms: 0, responses });
    }
    // Names and ids that occur more than once are answered once, and only with the complaint.
    let (mut names, mut ids) = (BTreeMap::<&str, usize>::new(), BTreeMap::<Uuid, usize>::new());
    for topic in &wanted {
        match (topic.name, topic.id) {
            (Some(name), Uuid::ZERO) => *names.entry(name).or_default() += 1,
            (None, id) if id != Uuid::ZERO => *ids.entry(id).or_default() += 1,
            _ => {}
        }
    }
    // A topic given by name and by id is answered by its name.
    let named = names.keys().filter_map(|name| context.image.topic_id(name));
    let clashes: BTreeSet<Uuid> = named.map(|id| id.0).filter(|id| ids.contains_key(id)).collect();
    let mut answered = BTreeSet::new();
    wanted.retain(|topic| answered.insert((topic.name, topic.id)));
    wanted.retain(|topic| topic.name.is_some() || !clashes.contains(&topic.id));

    let (mut records, mut responses) = (Vec::new(), Vec::with_capacity(wanted.len()));
    for topic in wanted {
        let repeated = topic.name.is_some_and(|name| names.get(name).is_some_and(|n| *n > 1))
            || ids.get(&topic.id).is_some_and(|n| *n > 1);
        let found = find(context, &topic, repeated, &clashes);
        let found = found.and_then(|found| {
            if records.len() >= MAX_RECORDS_PER_BATCH {
                let message = "The request would write too many records; split it.";
                return Err((topic.id, ApiError::new(ErrorCode::PolicyViolation, message)));
            }
            let partitions = context.image.topic(found.0).map_or(0, |topic| topic.partitions.len());
            spend(allowance, partitions).map_err(|error| (found.0.0, error))?;
            Ok(found)
        });
        responses.push(match found {
            Ok((id, name)) => {
                records.push(MetadataRecord::RemoveTopicRecord(RemoveTopicRecord { topic_id: id.0 }));
                answer(Some(&name), id.0, &Ok(()))
            }
            Err((id, error)) => answer(topic.name, id, &Err(error)),
        });
    }
    Decision::atomic(records, DeleteTopicsResponse { throttle_time_ms: 0, responses })
}

/// One topic of the request. Up to v5 there are only names.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    name: Option<&'a str>,
    id: Uuid,
}

fn wanted<'a>(request: &'a DeleteTopicsRequest<'_>) -> Vec<Wanted<'a>> {
    let names = request.topic_names.iter().map(|name| Wanted { name: Some(name), id: Uuid::ZERO });
    let topics = request.topics.iter();
    let topics = topics.map(|topic| Wanted { name: topic.name.as_deref(), id: topic.topic_id });
    names.chain(topics).collect()
}

/// The topic that is meant, or the id to answer and the complaint.
fn find(
    context: &Context<'_>,
    topic: &Wanted<'_>,
    repeated: bool,
    clashes: &BTreeSet<Uuid>,
) -> Result<(TopicId, String), (Uuid, ApiError)> {
    let refuse = |message: &str| Err((topic.id, ApiError::new(ErrorCode::InvalidRequest, message)));
    match (topic.name, topic.id) {
        (None, Uuid::ZERO) => refuse("A topic to delete needs a name or an id."),
        (Some(_), id) if id != Uuid::ZERO => {
            refuse("A topic to delete is named by its name or by its id, not by both.")
        }
        (Some(_), _) if repeated => refuse("The request names this topic more than once."),
        (None, _) if repeated => refuse("The request gives this topic id more than once."),
        (Some(name), _) => {
            let unknown = || (Uuid::ZERO, ApiError::plain(ErrorCode::UnknownTopicOrPartition));
            let id = context.image.topic_id(name).ok_or_else(unknown)?;
            if clashes.contains(&id.0) {
                let message = "The request gives this topic by its name and by its id.";
                return Err((id.0, ApiError::new(ErrorCode::InvalidRequest, message)));
            }
            Ok((id, name.to_owned()))
        }
        (None, id) => {
            let unknown = || (id, ApiError::plain(ErrorCode::UnknownTopicId));
            let found = context.image.topic(TopicId(id)).ok_or_else(unknown)?;
            Ok((found.id, found.name.to_string()))
        }
    }
}

fn answer(name: Option<&str>, id: Uuid, result: &Result<(), ApiError>) -> DeletableTopicResult<'static> {
    let (error_code, error_message) = code_and_message(result);
    let name = name.map(|name| Cow::Owned(name.to_owned()));
    DeletableTopicResult { name, topic_id: id, error_code, error_message }
}
