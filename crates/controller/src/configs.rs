//! What the two ways of altering configurations share: from wished values to records, with every check.
//!
//! The tricky idea: a resource is all or nothing. Its values are checked as they would be *after* the change, so that
//! keys which only make sense together can be set together; one bad key leaves the whole resource as it was, and the
//! other resources of the request untouched by that.

use crate::context::{Context, MAX_RECORDS_PER_BATCH};
use crate::error::{ApiError, code_and_message};
use ottla_metadata::{ConfigMap, ResourceType, topic_name};
use ottla_protocol::ErrorCode;
use ottla_protocol::ids::NodeId;
use ottla_protocol::messages::clear_elr_record::ClearElrRecord;
use ottla_protocol::messages::config_record::ConfigRecord;
use ottla_protocol::messages::metadata_record::MetadataRecord;
use std::borrow::Cow;
use std::collections::BTreeMap;

const MIN_INSYNC_REPLICAS: &str = "min.insync.replicas";
const CORDONED_LOG_DIRS: &str = "cordoned.log.dirs";
/// Longest value in UTF-16 units, which is how Kafka counts.
const MAX_VALUE_LENGTH: usize = i16::MAX as usize;

/// One key and the value that it shall have; `None` unsets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Edit {
    pub(crate) key: String,
    pub(crate) value: Option<String>,
}

/// A resource of a request, and what is answered for it.
pub(crate) struct Answered {
    pub(crate) resource_type: i8,
    pub(crate) resource_name: String,
    pub(crate) error_code: i16,
    pub(crate) error_message: Option<Cow<'static, str>>,
}

/// Decides resource by resource (`identify` tells type and name, `edits` what shall change). One that is named twice is refused, and
/// answered once.
pub(crate) fn decide_for_each<R>(
    context: &Context<'_>,
    resources: &[R],
    identify: impl Fn(&R) -> (i8, &str),
    edits: impl Fn(&R) -> Result<Vec<Edit>, ApiError>,
) -> (Vec<MetadataRecord<'static>>, Vec<Answered>) {
    let mut times = BTreeMap::<(i8, &str), usize>::new();
    for resource in resources {
        *times.entry(identify(resource)).or_default() += 1;
    }
    let (mut records, mut answered) = (Vec::new(), Vec::new());
    for resource in resources {
        let (resource_type, resource_name) = identify(resource);
        let Some(times) = times.remove(&(resource_type, resource_name)) else { continue };
        let kind = ResourceType(resource_type);
        let new = if !kind.is_known() {
            let message = format!("Resource type {resource_type} is unknown.");
            Err(ApiError::new(ErrorCode::UnsupportedVersion, message))
        } else if times > 1 {
            Err(ApiError::new(ErrorCode::InvalidRequest, "The request names this resource more than once."))
        } else {
            edits(resource).and_then(|edits| decide_for_resource(context, kind, resource_name, &edits))
        };
        let result = new.and_then(|new| {
            if records.len() + new.len() > MAX_RECORDS_PER_BATCH {
                let message = "The request changes too many values at once; split it.";
                return Err(ApiError::new(ErrorCode::PolicyViolation, message));
            }
            records.extend(new);
            Ok(())
        });
        let (error_code, error_message) = code_and_message(&result);
        let resource_name = resource_name.to_owned();
        answered.push(Answered { resource_type, resource_name, error_code, error_message });
    }
    (records, answered)
}

/// Decides about the values of a topic that is about to be created.
pub(crate) fn decide_for_new_topic(
    context: &Context<'_>,
    topic: &str,
    edits: &[Edit],
) -> Result<Vec<MetadataRecord<'static>>, ApiError> {
    decide(context, ResourceType::TOPIC, topic, edits, false)
}

/// Decides about the values of a resource that exists, or else refuses.
fn decide_for_resource(
    context: &Context<'_>,
    kind: ResourceType,
    resource: &str,
    edits: &[Edit],
) -> Result<Vec<MetadataRecord<'static>>, ApiError> {
    decide(context, kind, resource, edits, true)
}

fn decide(
    context: &Context<'_>,
    kind: ResourceType,
    resource: &str,
    edits: &[Edit],
    must_exist: bool,
) -> Result<Vec<MetadataRecord<'static>>, ApiError> {
    let before =
        context.image.config(kind, resource).map_or_else(ConfigMap::new, |values| ConfigMap::clone(values));
    let mut after = before.clone();
    let mut records = Vec::new();
    for edit in edits {
        // Brokers re-read what a configuration points to (key stores) even when the value is the same, so for them
        // every edit becomes a record (KAFKA-14136).
        if before.get(&edit.key) == edit.value.as_ref() && kind != ResourceType::BROKER {
            continue;
        }
        check_edit(context, kind, resource, edit)?;
        match &edit.value {
            Some(value) => after.insert(edit.key.clone(), value.clone()),
            None => after.remove(&edit.key),
        };
        records.push(MetadataRecord::ConfigRecord(ConfigRecord {
            resource_type: kind.0,
            resource_name: Cow::Owned(resource.to_owned()),
            name: Cow::Owned(edit.key.clone()),
            value: edit.value.clone().map(Cow::Owned),
        }));
    }
    check_name(kind, resource)?;
    context.rules.validate(context.image, kind, resource, &after)?;
    if must_exist {
        check_existence(context, kind, resource)?;
    }
    let min_isr_changed = edits.iter().any(|edit| {
        edit.key == MIN_INSYNC_REPLICAS
            && (kind == ResourceType::BROKER || before.get(&edit.key) != edit.value.as_ref())
    });
    if min_isr_changed && context.image.elr_enabled() {
        // Whoever was eligible under the old minimum may not be under the new one.
        let topic = if kind == ResourceType::TOPIC { resource } else { "" };
        let clear = ClearElrRecord { topic_name: Cow::Owned(topic.to_owned()) };
        records.push(MetadataRecord::ClearElrRecord(clear));
    }
    Ok(records)
}

fn check_edit(
    context: &Context<'_>,
    kind: ResourceType,
    resource: &str,
    edit: &Edit,
) -> Result<(), ApiError> {
    let invalid = |message: String| Err(ApiError::new(ErrorCode::InvalidConfig, message));
    let of_broker = kind == ResourceType::BROKER;
    if of_broker && edit.key == MIN_INSYNC_REPLICAS && context.image.elr_enabled() {
        if !resource.is_empty() {
            return invalid(format!(
                "{MIN_INSYNC_REPLICAS} can not be set on a single broker while eligible leader replicas (ELR) are kept; set it for the cluster or a topic."
            ));
        }
        if edit.value.is_none() {
            return invalid(format!(
                "{MIN_INSYNC_REPLICAS} of the cluster can be changed but not removed while eligible leader replicas (ELR) are kept."
            ));
        }
    }
    if of_broker && edit.key == CORDONED_LOG_DIRS && !context.metadata_version().supports_cordoned_log_dirs()
    {
        return invalid(format!("{CORDONED_LOG_DIRS} needs metadata.version 4.3-IV0 or later."));
    }
    if edit.value.as_ref().is_some_and(|value| value.encode_utf16().count() > MAX_VALUE_LENGTH) {
        return invalid(format!("The value of {} is longer than {MAX_VALUE_LENGTH} characters.", edit.key));
    }
    Ok(())
}

fn check_name(kind: ResourceType, resource: &str) -> Result<(), ApiError> {
    let invalid = |message: &str| Err(ApiError::new(ErrorCode::InvalidRequest, message));
    match kind {
        ResourceType::TOPIC if resource.is_empty() => {
            invalid("A topic needs a name: there is no default for all topics.")
        }
        ResourceType::TOPIC => topic_name::validate(resource)
            .map_err(|error| ApiError::new(ErrorCode::InvalidTopicException, error.to_string())),
        ResourceType::BROKER if resource.is_empty() => Ok(()),
        ResourceType::BROKER => match resource.parse::<i32>() {
            Err(_) => invalid("The name of a broker resource is its id, a decimal number."),
            Ok(id) if id < 0 => invalid("A broker id is not negative."),
            Ok(_) => Ok(()),
        },
        ResourceType::GROUP if resource.is_empty() => {
            invalid("A group needs a name: there is no default for all groups.")
        }
        ResourceType::CLIENT_METRICS if resource.is_empty() => invalid("Subscription name can't be empty"),
        ResourceType::GROUP | ResourceType::CLIENT_METRICS => Ok(()),
        other => invalid(&format!("{} is no resource whose configuration the cluster keeps.", other.name())),
    }
}

fn check_existence(context: &Context<'_>, kind: ResourceType, resource: &str) -> Result<(), ApiError> {
    match kind {
        ResourceType::TOPIC if context.image.topic_by_name(resource).is_none() => {
            let message = format!("The topic '{resource}' does not exist.");
            Err(ApiError::new(ErrorCode::UnknownTopicOrPartition, message))
        }
        ResourceType::BROKER if !resource.is_empty() => {
            let id = resource.parse().map(NodeId).ok();
            let known = |id: &NodeId| {
                context.image.broker(*id).is_some()
                    || context.image.controllers().contains_key(id)
                    || context.settings.node_id == *id
            };
            if id.as_ref().is_some_and(known) {
                return Ok(());
            }
            let message = format!("There is no node with id {resource}.");
            Err(ApiError::new(ErrorCode::BrokerIdNotRegistered, message))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_resources() {
        let check = |kind: ResourceType, name: &str, expected: Option<ErrorCode>| {
            assert_eq!(check_name(kind, name).err().map(|e| e.code), expected, "{kind:?} {name}");
        };
        check(ResourceType::TOPIC, "t", None);
        check(ResourceType::TOPIC, "", Some(ErrorCode::InvalidRequest));
        check(ResourceType::TOPIC, "a b", Some(ErrorCode::InvalidTopicException));
        check(ResourceType::BROKER, "", None);
        check(ResourceType::BROKER, "1", None);
        check(ResourceType::BROKER, "-1", Some(ErrorCode::InvalidRequest));
        check(ResourceType::BROKER, "one", Some(ErrorCode::InvalidRequest));
        check(ResourceType::GROUP, "g", None);
        check(ResourceType::GROUP, "", Some(ErrorCode::InvalidRequest));
        check(ResourceType::CLIENT_METRICS, "m", None);
        check(ResourceType::CLIENT_METRICS, "", Some(ErrorCode::InvalidRequest));
        check(ResourceType::BROKER_LOGGER, "1", Some(ErrorCode::InvalidRequest));
    }
}
