//! Records of `__consumer_offsets`, byte for byte as Kafka 4.4 writes them: a key is its record type and the key schema,
//! a value is its schema version and the value schema.

use crate::group::classic::group::Group;
use crate::group::consumer::records as consumer;
use crate::group::offsets::store::Committed;
use crate::group::outcome::Record;
use ottla_protocol::messages::group_metadata_key::GroupMetadataKey;
use ottla_protocol::messages::group_metadata_value::{GroupMetadataValue, MemberMetadata};
use ottla_protocol::messages::offset_commit_key::OffsetCommitKey;
use ottla_protocol::messages::offset_commit_value::OffsetCommitValue;
use ottla_protocol::{DecodeError, EncodeError, Message, Reader, Writer};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Type of the offset commits that Kafka wrote before 0.9; the schema of its key is that of type 1.
const OFFSET_COMMIT_LEGACY: i16 = 0;
const OFFSET_COMMIT: i16 = 1;
const GROUP_METADATA: i16 = 2;
/// Kafka 4.4 still writes version 3 of group metadata (4 only differs by being open for tagged fields).
const GROUP_METADATA_VALUE_VERSION: i16 = 3;
const OFFSET_COMMIT_VALUE_VERSION: i16 = 4;
/// The only version with a place for the expiry that old clients may ask for.
const OFFSET_COMMIT_VALUE_VERSION_EXPIRING: i16 = 1;

/// Why a record could not be replayed. The state is as before.
#[derive(Debug, Clone, PartialEq)]
pub struct ReplayError {
    /// Type of the record, from its key; -1 if the key is too short to have one.
    pub record_type: i16,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "record of type {}: {}", self.record_type, self.reason)
    }
}

impl std::error::Error for ReplayError {}

/// The key of a record.
#[derive(Debug, PartialEq)]
pub(crate) enum Key<'a> {
    OffsetCommit {
        group: Cow<'a, str>,
        topic: Cow<'a, str>,
        partition: i32,
    },
    Group {
        group: Cow<'a, str>,
    },
    Consumer {
        group: Cow<'a, str>,
        key: consumer::Key<'a>,
    },
    /// A type that belongs to another kind of group, or that is not known (KIP-915).
    Other {
        record_type: i16,
        body: &'a [u8],
    },
}

pub(crate) fn framed<'a, M: Message<'a>>(prefix: i16, version: i16, message: &M) -> Vec<u8> {
    let mut writer = Writer::new();
    let encoded: Result<(), EncodeError> = message.encode(&mut writer, version);
    encoded.unwrap_or_else(|error| panic!("{}: names are bounded at the door, yet: {error:?}", M::NAME));
    let body = writer.into_bytes();
    let mut bytes = Vec::with_capacity(2 + body.len());
    bytes.extend_from_slice(&prefix.to_be_bytes());
    bytes.extend_from_slice(&body);
    bytes
}

fn offset_key(group: &str, topic: &str, partition: i32) -> Vec<u8> {
    let key = OffsetCommitKey { group: Cow::Borrowed(group), topic: Cow::Borrowed(topic), partition };
    framed(OFFSET_COMMIT, 0, &key)
}

fn group_key(group: &str) -> Vec<u8> {
    framed(GROUP_METADATA, 0, &GroupMetadataKey { group: Cow::Borrowed(group) })
}

pub(crate) fn offset_commit(group: &str, topic: &str, partition: i32, committed: &Committed) -> Record {
    let expire_timestamp = committed.expire_timestamp();
    let version = match expire_timestamp {
        Some(_) => OFFSET_COMMIT_VALUE_VERSION_EXPIRING,
        None => OFFSET_COMMIT_VALUE_VERSION,
    };
    let value = OffsetCommitValue {
        offset: committed.offset,
        leader_epoch: committed.leader_epoch,
        metadata: Cow::Borrowed(committed.metadata()),
        commit_timestamp: committed.commit_timestamp,
        expire_timestamp: expire_timestamp.unwrap_or(-1),
        topic_id: committed.topic_id,
    };
    Record { key: offset_key(group, topic, partition), value: Some(framed(version, version, &value)) }
}

pub(crate) fn offset_tombstone(group: &str, topic: &str, partition: i32) -> Record {
    Record { key: offset_key(group, topic, partition), value: None }
}

pub(crate) fn group_tombstone(group: &str) -> Record {
    Record { key: group_key(group), value: None }
}

/// The state of a group with the given assignment, which members without an entry do not have.
pub(crate) fn group_metadata(group: &Group, assignment: &BTreeMap<Arc<str>, Arc<[u8]>>) -> Record {
    let protocol = group.protocol_name.as_deref();
    let members = group.members.values().map(|member| MemberMetadata {
        member_id: Cow::Borrowed(&*member.id),
        group_instance_id: member.instance_id.as_deref().map(Cow::Borrowed),
        client_id: Cow::Borrowed(&*member.client_id),
        client_host: Cow::Borrowed(&*member.client_host),
        rebalance_timeout: member.rebalance_timeout_ms,
        session_timeout: member.session_timeout_ms,
        subscription: Cow::Borrowed(member.metadata(protocol.unwrap_or(""))),
        assignment: Cow::Borrowed(assignment.get(&member.id).map_or(&[][..], |bytes| bytes)),
    });
    group_value(group, protocol, members.collect())
}

/// A group that was just made: it will hold members soon, but nothing of that is decided yet.
pub(crate) fn new_group(group: &str, now: i64) -> Record {
    group_value(&Group::new(Arc::from(group), Some(now)), None, vec![])
}

fn group_value(group: &Group, protocol: Option<&str>, members: Vec<MemberMetadata<'_>>) -> Record {
    let value = GroupMetadataValue {
        protocol_type: Cow::Borrowed(group.protocol_type.as_deref().unwrap_or("")),
        generation: group.generation_id,
        protocol: protocol.map(Cow::Borrowed),
        leader: group.leader_id.as_deref().map(Cow::Borrowed),
        current_state_timestamp: group.state_timestamp.unwrap_or(-1),
        members,
    };
    let version = GROUP_METADATA_VALUE_VERSION;
    Record { key: group_key(&group.id), value: Some(framed(version, version, &value)) }
}

fn split(bytes: &[u8]) -> Option<(i16, &[u8])> {
    let (prefix, body) = bytes.split_at_checked(2)?;
    Some((i16::from_be_bytes(prefix.try_into().ok()?), body))
}

fn malformed(record_type: i16) -> impl Fn(DecodeError) -> ReplayError {
    move |error| ReplayError { record_type, reason: format!("{error:?}") }
}

/// The body of a key; all keys have one version.
pub(crate) fn decode_body<'a, M: Message<'a>>(record_type: i16, body: &'a [u8]) -> Result<M, ReplayError> {
    M::decode(&mut Reader::new(body), 0).map_err(malformed(record_type))
}

pub(crate) fn decode_key(bytes: &[u8]) -> Result<Key<'_>, ReplayError> {
    let too_short =
        || ReplayError { record_type: -1, reason: "the key is shorter than a record type".into() };
    let (record_type, body) = split(bytes).ok_or_else(too_short)?;
    Ok(match record_type {
        OFFSET_COMMIT_LEGACY | OFFSET_COMMIT => {
            let key: OffsetCommitKey<'_> = decode_body(record_type, body)?;
            Key::OffsetCommit { group: key.group, topic: key.topic, partition: key.partition }
        }
        GROUP_METADATA => {
            let key: GroupMetadataKey<'_> = decode_body(record_type, body)?;
            Key::Group { group: key.group }
        }
        _ => match consumer::decode_key(record_type, body)? {
            Some((group, key)) => Key::Consumer { group, key },
            None => Key::Other { record_type, body },
        },
    })
}

pub(crate) fn decode_value<'a, M: Message<'a>>(record_type: i16, bytes: &'a [u8]) -> Result<M, ReplayError> {
    let fail = |reason: String| ReplayError { record_type, reason };
    let (version, body) = split(bytes).ok_or_else(|| fail("the value is shorter than a version".into()))?;
    if !(M::MIN_VERSION..=M::MAX_VERSION).contains(&version) {
        return Err(fail(format!("version {version} of {} is not known", M::NAME)));
    }
    M::decode(&mut Reader::new(body), version).map_err(malformed(record_type))
}

/// Values of type 0 and 1 share a schema: version 0 of the one is version 0 of the other.
pub(crate) fn decode_offset(bytes: &[u8]) -> Result<OffsetCommitValue<'_>, ReplayError> {
    decode_value(OFFSET_COMMIT, bytes)
}

pub(crate) fn decode_group(bytes: &[u8]) -> Result<GroupMetadataValue<'_>, ReplayError> {
    decode_value(GROUP_METADATA, bytes)
}

/// The group id with which every key of the other kinds of groups begins (a string with a 16-bit length).
pub(crate) fn group_of(body: &[u8]) -> Option<&str> {
    let (length, rest) = split(body)?;
    std::str::from_utf8(rest.get(..usize::try_from(length).ok()?)?).ok()
}
