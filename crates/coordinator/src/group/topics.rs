//! What the coordinator asks about the cluster: which topics there are, what they look like, what was configured for a
//! group.

use ottla_protocol::Uuid;
use std::sync::Arc;

/// What is configured for one consumer group, where it differs from the node's configuration. In milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GroupOverrides {
    /// `consumer.session.timeout.ms`.
    pub session_timeout_ms: Option<i32>,
    /// `consumer.heartbeat.interval.ms`.
    pub heartbeat_interval_ms: Option<i32>,
    /// `consumer.assignment.interval.ms`.
    pub assignment_interval_ms: Option<i32>,
}

/// The facts about the cluster that groups and their offsets need; the broker answers from its metadata image and, for
/// [`Topics::is_allowed`], from its authorizer on behalf of the client of the request.
pub trait Topics {
    /// The id of a topic, `None` if there is no such topic.
    fn id_of(&self, name: &str) -> Option<Uuid>;
    /// The name behind a topic id, `None` if no topic has it (any more).
    fn name_of(&self, id: Uuid) -> Option<String>;
    /// Whether the topic exists and has this partition.
    fn has_partition(&self, name: &str, partition: i32) -> bool;
    /// How many partitions a topic has, `None` if no topic has this id.
    fn partition_count(&self, id: Uuid) -> Option<i32>;
    /// The racks of the replicas of a partition, as far as their brokers have one.
    fn racks(&self, id: Uuid, partition: i32) -> Vec<String>;
    /// Up to `max` names of topics, in ascending order, those behind `after`.
    fn names_after(&self, after: Option<&str>, max: usize) -> Vec<Arc<str>>;
    /// How new these facts are: the offset in the metadata log behind them.
    fn version(&self) -> i64;
    /// What was configured for a group.
    fn group_overrides(&self, _group_id: &str) -> GroupOverrides {
        GroupOverrides::default()
    }
    /// Whether the client of this request may do with the topic what it asks for (READ to commit, DESCRIBE to fetch).
    fn is_allowed(&self, _name: &str) -> bool {
        true
    }
}
