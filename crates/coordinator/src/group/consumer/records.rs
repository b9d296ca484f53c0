//! The records of consumer groups in `__consumer_offsets`, byte for byte as Kafka 4.4 writes them.

use crate::group::classic::member::Protocol;
use crate::group::consumer::member::{Classic, Member, Owned, Profile, Progress, Standing, Target};
use crate::group::consumer::regex::Resolved;
use crate::group::outcome::Record;
use crate::group::records::{ReplayError, decode_body, decode_value, framed};
use ottla_protocol::messages::consumer_group_current_member_assignment_key::ConsumerGroupCurrentMemberAssignmentKey;
use ottla_protocol::messages::consumer_group_current_member_assignment_value::{
    ConsumerGroupCurrentMemberAssignmentValue, TopicPartitions,
};
use ottla_protocol::messages::consumer_group_member_metadata_key::ConsumerGroupMemberMetadataKey;
use ottla_protocol::messages::consumer_group_member_metadata_value::{
    ClassicMemberMetadata, ClassicProtocol, ConsumerGroupMemberMetadataValue,
};
use ottla_protocol::messages::consumer_group_metadata_key::ConsumerGroupMetadataKey;
use ottla_protocol::messages::consumer_group_metadata_value::ConsumerGroupMetadataValue;
use ottla_protocol::messages::consumer_group_regular_expression_key::ConsumerGroupRegularExpressionKey;
use ottla_protocol::messages::consumer_group_regular_expression_value::ConsumerGroupRegularExpressionValue;
use ottla_protocol::messages::consumer_group_target_assignment_member_key::ConsumerGroupTargetAssignmentMemberKey;
use ottla_protocol::messages::consumer_group_target_assignment_member_value::{
    ConsumerGroupTargetAssignmentMemberValue, TopicPartition,
};
use ottla_protocol::messages::consumer_group_target_assignment_metadata_value::ConsumerGroupTargetAssignmentMetadataValue;
use ottla_protocol::{Message, Uuid};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

const GROUP: i16 = 3;
/// Written by Kafka before 4.1; all that is ever written of it is a tombstone.
const PARTITION_METADATA: i16 = 4;
const MEMBER: i16 = 5;
const TARGET_METADATA: i16 = 6;
const TARGET_MEMBER: i16 = 7;
const CURRENT_ASSIGNMENT: i16 = 8;
const REGEX: i16 = 16;

/// The key of a record of a consumer group.
#[derive(Debug, PartialEq)]
pub(crate) enum Key<'a> {
    Group,
    PartitionMetadata,
    Member(Cow<'a, str>),
    TargetMetadata,
    TargetMember(Cow<'a, str>),
    CurrentAssignment(Cow<'a, str>),
    Regex(Cow<'a, str>),
}

/// Reads the rest of a key: the group and what of it the record is about. `None`: the type is not one of ours.
pub(crate) fn decode_key(
    record_type: i16,
    body: &[u8],
) -> Result<Option<(Cow<'_, str>, Key<'_>)>, ReplayError> {
    // These four hold a group id alone, those after them a group id and one more name.
    let of_group = |key: fn() -> Key<'static>| {
        let decoded: ConsumerGroupMetadataKey<'_> = decode_body(record_type, body)?;
        Ok(Some((decoded.group_id, key())))
    };
    match record_type {
        GROUP => of_group(|| Key::Group),
        PARTITION_METADATA => of_group(|| Key::PartitionMetadata),
        TARGET_METADATA => of_group(|| Key::TargetMetadata),
        MEMBER => {
            let key: ConsumerGroupMemberMetadataKey<'_> = decode_body(record_type, body)?;
            Ok(Some((key.group_id, Key::Member(key.member_id))))
        }
        TARGET_MEMBER => {
            let key: ConsumerGroupTargetAssignmentMemberKey<'_> = decode_body(record_type, body)?;
            Ok(Some((key.group_id, Key::TargetMember(key.member_id))))
        }
        CURRENT_ASSIGNMENT => {
            let key: ConsumerGroupCurrentMemberAssignmentKey<'_> = decode_body(record_type, body)?;
            Ok(Some((key.group_id, Key::CurrentAssignment(key.member_id))))
        }
        REGEX => {
            let key: ConsumerGroupRegularExpressionKey<'_> = decode_body(record_type, body)?;
            Ok(Some((key.group_id, Key::Regex(key.regular_expression))))
        }
        _ => Ok(None),
    }
}

fn group_key(record_type: i16, group: &str) -> Vec<u8> {
    framed(record_type, 0, &ConsumerGroupMetadataKey { group_id: Cow::Borrowed(group) })
}

fn member_key(record_type: i16, group: &str, member: &str) -> Vec<u8> {
    let (group_id, member_id) = (Cow::Borrowed(group), Cow::Borrowed(member));
    framed(record_type, 0, &ConsumerGroupMemberMetadataKey { group_id, member_id })
}

fn regex_key(group: &str, regex: &str) -> Vec<u8> {
    let (group_id, regular_expression) = (Cow::Borrowed(group), Cow::Borrowed(regex));
    framed(REGEX, 0, &ConsumerGroupRegularExpressionKey { group_id, regular_expression })
}

fn record<'a>(key: Vec<u8>, value: &impl Message<'a>) -> Record {
    Record { key, value: Some(framed(0, 0, value)) }
}

fn tombstone(key: Vec<u8>) -> Record {
    Record { key, value: None }
}

// ---- the group

pub(crate) fn group_epoch(group: &str, epoch: i32, metadata_hash: i64) -> Record {
    record(group_key(GROUP, group), &ConsumerGroupMetadataValue { epoch, metadata_hash })
}

/// The group epoch and the hash of the subscribed topics.
pub(crate) fn decode_group_epoch(bytes: &[u8]) -> Result<(i32, i64), ReplayError> {
    let value: ConsumerGroupMetadataValue = decode_value(GROUP, bytes)?;
    Ok((value.epoch, value.metadata_hash))
}

pub(crate) fn group_epoch_tombstone(group: &str) -> Record {
    tombstone(group_key(GROUP, group))
}

pub(crate) fn partition_metadata_tombstone(group: &str) -> Record {
    tombstone(group_key(PARTITION_METADATA, group))
}

// ---- members

pub(crate) fn profile(group: &str, member: &Member) -> Record {
    let profile = &*member.profile;
    let classic = profile.classic.as_ref().map(|classic| ClassicMemberMetadata {
        session_timeout_ms: classic.session_timeout_ms,
        supported_protocols: classic
            .protocols
            .iter()
            .map(|p| ClassicProtocol { name: Cow::Borrowed(&*p.name), metadata: Cow::Borrowed(&*p.metadata) })
            .collect(),
    });
    let value = ConsumerGroupMemberMetadataValue {
        instance_id: profile.instance_id.as_deref().map(Cow::Borrowed),
        rack_id: profile.rack_id.as_deref().map(Cow::Borrowed),
        client_id: Cow::Borrowed(&*profile.client_id),
        client_host: Cow::Borrowed(&*profile.client_host),
        subscribed_topic_names: profile.topics.iter().map(|topic| Cow::Borrowed(&**topic)).collect(),
        subscribed_topic_regex: Some(Cow::Borrowed(&*profile.regex)),
        rebalance_timeout_ms: profile.rebalance_timeout_ms,
        server_assignor: profile.assignor.as_deref().map(Cow::Borrowed),
        classic_member_metadata: classic,
    };
    record(member_key(MEMBER, group, &member.id), &value)
}

pub(crate) fn decode_profile(bytes: &[u8]) -> Result<Profile, ReplayError> {
    let value: ConsumerGroupMemberMetadataValue<'_> = decode_value(MEMBER, bytes)?;
    let shared = |text: Cow<'_, str>| Arc::from(&*text);
    let classic = value.classic_member_metadata.map(|classic| Classic {
        session_timeout_ms: classic.session_timeout_ms,
        protocols: classic
            .supported_protocols
            .iter()
            .map(|p| Protocol { name: Arc::from(&*p.name), metadata: Arc::from(&*p.metadata) })
            .collect(),
    });
    Ok(Profile {
        instance_id: value.instance_id.map(shared),
        rack_id: value.rack_id.map(shared),
        client_id: shared(value.client_id),
        client_host: shared(value.client_host),
        topics: value.subscribed_topic_names.into_iter().map(shared).collect(),
        regex: shared(value.subscribed_topic_regex.unwrap_or_default()),
        rebalance_timeout_ms: value.rebalance_timeout_ms,
        assignor: value.server_assignor.map(shared),
        // Without a protocol it could not be answered: it is not a classic member that can be served.
        classic: classic.filter(|classic| !classic.protocols.is_empty()),
    })
}

pub(crate) fn profile_tombstone(group: &str, member: &str) -> Record {
    tombstone(member_key(MEMBER, group, member))
}

// ---- target assignment

pub(crate) fn target_metadata(group: &str, assignment_epoch: i32, assignment_timestamp: i64) -> Record {
    let value = ConsumerGroupTargetAssignmentMetadataValue { assignment_epoch, assignment_timestamp };
    record(group_key(TARGET_METADATA, group), &value)
}

/// The assignment epoch and when the assignment was computed.
pub(crate) fn decode_target_metadata(bytes: &[u8]) -> Result<(i32, i64), ReplayError> {
    let value: ConsumerGroupTargetAssignmentMetadataValue = decode_value(TARGET_METADATA, bytes)?;
    Ok((value.assignment_epoch, value.assignment_timestamp))
}

pub(crate) fn target_metadata_tombstone(group: &str) -> Record {
    tombstone(group_key(TARGET_METADATA, group))
}

pub(crate) fn target(group: &str, member: &str, target: &Target) -> Record {
    let topic = |(id, partitions): (&Uuid, &BTreeSet<i32>)| TopicPartition {
        topic_id: *id,
        partitions: partitions.iter().copied().collect(),
    };
    let topic_partitions = target.iter().map(topic).collect();
    let value = ConsumerGroupTargetAssignmentMemberValue { topic_partitions };
    record(member_key(TARGET_MEMBER, group, member), &value)
}

pub(crate) fn decode_target(bytes: &[u8]) -> Result<Target, ReplayError> {
    let value: ConsumerGroupTargetAssignmentMemberValue = decode_value(TARGET_MEMBER, bytes)?;
    let topic = |t: TopicPartition| (t.topic_id, t.partitions.into_iter().collect());
    Ok(value.topic_partitions.into_iter().map(topic).collect())
}

pub(crate) fn target_tombstone(group: &str, member: &str) -> Record {
    tombstone(member_key(TARGET_MEMBER, group, member))
}

// ---- current assignment

pub(crate) fn standing(group: &str, member: &str, standing: &Standing) -> Record {
    let value = ConsumerGroupCurrentMemberAssignmentValue {
        member_epoch: standing.member_epoch,
        previous_member_epoch: standing.previous_member_epoch,
        state: standing.progress.code(),
        assigned_partitions: encode_owned(&standing.assigned),
        partitions_pending_revocation: encode_owned(&standing.revoking),
    };
    record(member_key(CURRENT_ASSIGNMENT, group, member), &value)
}

fn encode_owned(owned: &Owned) -> Vec<TopicPartitions> {
    let topic = |(id, partitions): (&Uuid, &std::collections::BTreeMap<i32, i32>)| TopicPartitions {
        topic_id: *id,
        partitions: partitions.keys().copied().collect(),
        assignment_epochs: Some(partitions.values().copied().collect()),
    };
    owned.iter().map(topic).collect()
}

pub(crate) fn decode_standing(bytes: &[u8]) -> Result<Standing, ReplayError> {
    let value: ConsumerGroupCurrentMemberAssignmentValue = decode_value(CURRENT_ASSIGNMENT, bytes)?;
    // Records from before the epochs were kept: everything counts as assigned at the member epoch.
    let unknown = value.member_epoch.max(0);
    Ok(Standing {
        member_epoch: value.member_epoch,
        previous_member_epoch: value.previous_member_epoch,
        progress: Progress::from_code(value.state),
        assigned: decode_owned(value.assigned_partitions, unknown),
        revoking: decode_owned(value.partitions_pending_revocation, unknown),
    })
}

fn decode_owned(topics: Vec<TopicPartitions>, unknown: i32) -> Owned {
    let topic = |t: TopicPartitions| {
        let epochs = t.assignment_epochs.filter(|epochs| epochs.len() == t.partitions.len());
        let since = |at: usize| epochs.as_ref().map_or(unknown, |epochs| epochs[at]);
        let partitions = t.partitions.iter().enumerate().map(|(at, partition)| (*partition, since(at)));
        (t.topic_id, partitions.collect())
    };
    topics.into_iter().map(topic).collect()
}

pub(crate) fn standing_tombstone(group: &str, member: &str) -> Record {
    tombstone(member_key(CURRENT_ASSIGNMENT, group, member))
}

/// Takes a member away, in the order in which replay wants to see it go.
pub(crate) fn remove_member(group: &str, member: &str) -> [Record; 3] {
    [standing_tombstone(group, member), target_tombstone(group, member), profile_tombstone(group, member)]
}

// ---- regular expressions

pub(crate) fn resolved(group: &str, regex: &str, resolved: &Resolved) -> Record {
    let value = ConsumerGroupRegularExpressionValue {
        topics: resolved.topics.iter().map(|topic| Cow::Borrowed(&**topic)).collect(),
        version: resolved.version,
        timestamp: resolved.timestamp,
    };
    record(regex_key(group, regex), &value)
}

pub(crate) fn decode_resolved(bytes: &[u8]) -> Result<Resolved, ReplayError> {
    let value: ConsumerGroupRegularExpressionValue<'_> = decode_value(REGEX, bytes)?;
    let topics: BTreeSet<Arc<str>> = value.topics.iter().map(|topic| Arc::from(&**topic)).collect();
    Ok(Resolved { topics: Arc::new(topics), version: value.version, timestamp: value.timestamp })
}

pub(crate) fn resolved_tombstone(group: &str, regex: &str) -> Record {
    tombstone(regex_key(group, regex))
}
