//! What consumers of the classic protocol say to each other through the coordinator: subscriptions and assignments. Both
//! begin with a version; a newer one than is known is read as the newest known.

use crate::group::consumer::member::{Owned, Target};
use crate::group::topics::Topics;
use ottla_protocol::messages::consumer_protocol_assignment::{ConsumerProtocolAssignment, TopicPartition};
use ottla_protocol::messages::consumer_protocol_subscription::ConsumerProtocolSubscription;
use ottla_protocol::{Message, Reader, Uuid, Writer};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The protocol type of consumers; other types (Connect's, Schema Registry's) have other subscription formats.
pub(crate) const CONSUMER: &str = "consumer";

fn versioned<'a, M: Message<'a>>(bytes: &'a [u8]) -> Option<M> {
    let mut reader = Reader::new(bytes);
    let version = reader.i16().ok()?;
    if version < 0 {
        return None;
    }
    M::decode(&mut reader, version.min(M::MAX_VERSION)).ok()
}

/// A subscription, `None` if the bytes are not one.
pub(crate) fn decode(bytes: &[u8]) -> Option<ConsumerProtocolSubscription<'_>> {
    versioned(bytes)
}

/// The version of a subscription, and of the assignment that its sender can read.
pub(crate) fn version(bytes: &[u8]) -> i16 {
    let version = Reader::new(bytes).i16().unwrap_or(0);
    version.clamp(0, ConsumerProtocolAssignment::MAX_VERSION)
}

/// The topics of a subscription. Every version begins as version 0 does, and only that beginning is read.
pub(crate) fn topics_of(bytes: &[u8]) -> Option<BTreeSet<Arc<str>>> {
    let mut reader = Reader::new(bytes);
    if reader.i16().ok()? < 0 {
        return None;
    }
    let mut topics = BTreeSet::new();
    for _ in 0..reader.count(false, 2).ok()? {
        topics.insert(Arc::from(&*reader.string(false).ok()?));
    }
    Some(topics)
}

/// An assignment; no bytes are an assignment of nothing. `None` if the bytes are not one.
pub(crate) fn decode_assignment(bytes: &[u8]) -> Option<ConsumerProtocolAssignment<'_>> {
    match bytes {
        [] => Some(ConsumerProtocolAssignment::default()),
        bytes => versioned(bytes),
    }
}

/// The partitions of an assignment that exist.
pub(crate) fn assigned(assignment: &ConsumerProtocolAssignment<'_>, topics: &dyn Topics) -> Target {
    let mut target = Target::new();
    for given in &assignment.assigned_partitions {
        let Some(id) = topics.id_of(&given.topic) else { continue };
        let existing = given.partitions.iter().filter(|p| topics.has_partition(&given.topic, **p));
        target.entry(id).or_default().extend(existing);
    }
    target
}

/// The partitions that a member says it owns, of topics that exist.
pub(crate) fn owned<'s>(
    subscription: &'s ConsumerProtocolSubscription<'_>,
    topics: &dyn Topics,
) -> Vec<(Uuid, &'s [i32])> {
    let topic = |owned: &'s ottla_protocol::messages::consumer_protocol_subscription::TopicPartition<'_>| {
        Some((topics.id_of(&owned.topic)?, &owned.partitions[..]))
    };
    subscription.owned_partitions.iter().filter_map(topic).collect()
}

/// An assignment as the member reads it. Topics that are gone are left out.
pub(crate) fn encode_assignment(target: &Target, version: i16, topics: &dyn Topics) -> Vec<u8> {
    let topic = |(id, partitions): (&Uuid, &BTreeSet<i32>)| {
        let topic = Cow::Owned(topics.name_of(*id)?);
        Some(TopicPartition { topic, partitions: partitions.iter().copied().collect() })
    };
    let assigned_partitions = target.iter().filter_map(topic).collect();
    let assignment = ConsumerProtocolAssignment { assigned_partitions, user_data: None };
    let mut writer = Writer::new();
    writer.i16(version);
    assignment.encode(&mut writer, version).expect("names of topics are short");
    writer.into_bytes().to_vec()
}

/// What a member has, without since when.
pub(crate) fn target_of(owned: &Owned) -> Target {
    owned.iter().map(|(topic, partitions)| (*topic, partitions.keys().copied().collect())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_common_prefix_and_refuses_nonsense() {
        let bytes = [0, 3, 0, 0, 0, 2, 0, 1, b'a', 0, 2, b'b', b'c', 0xff, 0xff, 0xff, 0xff, 9, 9];
        let topics = topics_of(&bytes).unwrap();
        assert_eq!(topics.iter().map(|t| &**t).collect::<Vec<_>>(), ["a", "bc"]);
        assert_eq!(topics_of(b""), None);
        assert_eq!(topics_of(&bytes[..9]), None);
        assert_eq!(topics_of(&[0xff, 0xff, 0, 0, 0, 0]), None);
        assert_eq!(topics_of(&[0, 0, 0x7f, 0xff, 0xff, 0xff]), None);
        assert_eq!(topics_of(&[0, 0, 0, 0, 0, 0]).map(|t| t.len()), Some(0));
    }
}
