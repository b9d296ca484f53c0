//! Configuration: one table of definitions per kind of resource, and what is resolved from it.
//!
//! The tables (`broker.table`, `topic.table`, `group.table`, `client_metrics.table`) hold for each key its type,
//! default, allowed values, whether it may change while running, and our own sentence about it. Everything else is
//! derived from them: parsing and validation, near misses, `DescribeConfigs`, and the resolved structs
//! [`BrokerConfig`] and [`TopicConfig`], whose plain numbers are what the other rooms work with.
//!
//! The one tricky idea: a value has a *chain*. A topic's `retention.ms` may come from the topic, from the broker's
//! dynamic configuration, from `log.retention.ms`, `log.retention.minutes` or `log.retention.hours` of the file, or
//! from the default, and administrators see that chain. So [`BrokerConfig`] keeps the raw layers beside the numbers.

mod broker;
mod definition;
mod describe;
mod endpoint;
mod group;
mod key;
mod layers;
mod listener;
mod network;
mod note;
mod resolve;
mod table;
#[cfg(test)]
mod tests;
mod throttled;
mod topic;

pub use broker::{
    Bounded, BrokerConfig, CleanerSettings, ConsumerGroupSettings, GroupSettings, MetadataLogSettings,
    MoveSettings, NetworkSettings, OffsetsTopicSettings, QuorumSettings, QuotaSettings, QuotaWindows,
    ReplicaFetchSettings, ReplicationSettings, RequestSettings, RetentionSettings, Roles, TelemetrySettings,
    TokenSettings, TransactionSettings,
};
pub use definition::{Allowed, ConfigType, Definition, Effect, Importance, Update, Value};
pub use describe::{
    ConfigEntry, ConfigSource, Synonym, describe_broker, describe_broker_defaults, describe_client_metrics,
    describe_group, describe_topic,
};
pub use endpoint::{Endpoint, SecurityProtocol, Voter};
pub use group::{validate_group, validate_group_config};
pub use key::{BrokerSynonym, Scale, broker_synonyms, group_synonym, topic_synonyms};
pub use layers::Layers;
pub use listener::{ListenerLimits, is_listener_key};
pub use note::{ConfigError, ConfigNote, NoteKind};
pub use table::{Table, broker_table, client_metrics_table, group_table, topic_table};
pub use throttled::ThrottledReplicas;
pub use topic::{
    CleanupPolicy, Durability, OF_ONE_NODE, RESTART_KEYS, TimestampType, TopicCompression, TopicConfig,
    check_live_broker_config, is_list_key, list_append, list_subtract, validate_broker_config,
    validate_client_metrics_config, validate_topic_config,
};

/// Names of the keys that only Ottla has, in one place.
pub mod own {
    /// `flushed` or `replicated`: when a record counts toward the high watermark; a topic and a broker key.
    pub const DURABILITY: &str = "ottla.durability";
    /// Longest time in milliseconds that acknowledged records may stay unflushed; a broker key.
    pub const FLUSH_INTERVAL_MS: &str = "ottla.flush.interval.ms";
    /// Admission budget in bytes for requests and answers in flight; a broker key.
    pub const MEMORY_LIMIT_BYTES: &str = "ottla.memory.limit.bytes";
    /// Bytes of freshly written batches kept in memory for tailing readers; a broker key.
    pub const TAIL_CACHE_BYTES: &str = "ottla.tail.cache.bytes";
    /// Whether a configured authorizer decides about requests; only `false` is possible yet; a broker key.
    pub const AUTHORIZER_ENFORCE: &str = "ottla.authorizer.enforce";
    /// `host:port` of the page of metrics; a broker key.
    pub const METRICS_LISTEN: &str = "ottla.metrics.listen";
    /// Whether every record of a produced batch is unpacked and checked; a topic and a broker key.
    pub const STRICT_VALIDATION: &str = "ottla.strict.validation";
}
