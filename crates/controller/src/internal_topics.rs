//! Topics that nobody asked for: those that a client touched first, and those of the cluster itself.
//!
//! The tricky idea: there is nothing special about them. They go through `create_topics` like any other, so that
//! names, placement and configurations are checked in one place; only the request is made here.

use ottla_metadata::topic_name;
use ottla_protocol::messages::create_topics_request::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use std::borrow::Cow;

/// Number, replication and segment size of an internal topic, from the configuration file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InternalTopic {
    /// `offsets.topic.num.partitions` or its like for the other two topics.
    pub partitions: i32,
    /// The replication factor of the same family of keys.
    pub replication_factor: i16,
    /// The segment size of the same family, in bytes.
    pub segment_bytes: i32,
}

impl InternalTopic {
    /// Kafka's defaults of `__consumer_offsets`.
    pub const CONSUMER_OFFSETS: InternalTopic =
        InternalTopic { partitions: 50, replication_factor: 3, segment_bytes: 104_857_600 };
}

/// Asks for topics with the defaults of the cluster, as a Metadata request that may create them does.
pub fn auto_create<'a, N: Into<Cow<'a, str>>>(names: impl IntoIterator<Item = N>) -> CreateTopicsRequest<'a> {
    let topics = names.into_iter().map(|name| CreatableTopic {
        name: name.into(),
        num_partitions: -1,
        replication_factor: -1,
        ..Default::default()
    });
    CreateTopicsRequest { topics: topics.collect(), ..Default::default() }
}

/// Asks for `__consumer_offsets`: compacted, in small segments, compressed as it was written.
pub fn consumer_offsets(settings: InternalTopic) -> CreateTopicsRequest<'static> {
    let configs = [("cleanup.policy", "compact"), ("compression.type", "producer")];
    internal(topic_name::CONSUMER_OFFSETS, settings, &configs)
}

/// Asks for `__transaction_state` with `min_isr` in-sync replicas: no unclean election, no compression.
pub fn transaction_state(settings: InternalTopic, min_isr: i32) -> CreateTopicsRequest<'static> {
    let min_isr = min_isr.to_string();
    let configs = [
        ("unclean.leader.election.enable", "false"),
        ("compression.type", "uncompressed"),
        ("cleanup.policy", "compact"),
        ("min.insync.replicas", min_isr.as_str()),
    ];
    internal(topic_name::TRANSACTION_STATE, settings, &configs)
}

/// Asks for `__share_group_state` with `min_isr` in-sync replicas. Its coordinator deletes what it has summed up.
pub fn share_group_state(settings: InternalTopic, min_isr: i32) -> CreateTopicsRequest<'static> {
    let min_isr = min_isr.to_string();
    let configs = [
        ("cleanup.policy", "delete"),
        ("compression.type", "producer"),
        ("min.insync.replicas", min_isr.as_str()),
        ("retention.ms", "-1"),
    ];
    internal(topic_name::SHARE_GROUP_STATE, settings, &configs)
}

fn internal(
    name: &'static str,
    settings: InternalTopic,
    configs: &[(&'static str, &str)],
) -> CreateTopicsRequest<'static> {
    let segment_bytes = settings.segment_bytes.to_string();
    let configs = configs.iter().copied().chain([("segment.bytes", segment_bytes.as_str())]);
    let configs = configs.map(|(name, value)| CreatableTopicConfig {
        name: Cow::Borrowed(name),
        value: Some(Cow::Owned(value.to_owned())),
    });
    let topic = CreatableTopic {
        name: Cow::Borrowed(name),
        num_partitions: settings.partitions,
        replication_factor: settings.replication_factor,
        configs: configs.collect(),
        ..Default::default()
    };
    CreateTopicsRequest { topics: vec![topic], ..Default::default() }
}
