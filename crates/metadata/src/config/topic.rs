//! What storage and broker need to know about a topic, as plain typed numbers, and the checks of single keys.

use std::collections::BTreeMap;

use super::broker::BrokerConfig;
use super::definition::{ConfigType, Definition, Update, Value};
use super::key::topic_synonyms;
use super::layers::Layers;
use super::listener;
use super::note::ConfigError;
use super::own;
use super::table::{Table, broker_table, client_metrics_table, topic_table};
use super::throttled::ThrottledReplicas;

/// When a record counts toward the high watermark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// once it is flushed to the disk of the replica that counts it
    Flushed,
    /// once it is in the replica's page cache, as in Kafka
    Replicated,
}

/// What happens to old segments. Neither means that they are kept for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CleanupPolicy {
    /// keep the last value of each key
    pub compact: bool,
    /// delete by age and size
    pub delete: bool,
}

/// Whose time records carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampType {
    /// the producer's
    CreateTime,
    /// that of the append
    LogAppendTime,
}

/// How batches are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopicCompression {
    /// as they came
    Producer,
    /// not compressed
    Uncompressed,
    /// gzip with a level of 1 to 9, or -1 for the codec's own
    Gzip(i32),
    /// snappy
    Snappy,
    /// lz4 with a level of 1 to 17
    Lz4(i32),
    /// zstd with a level of -131072 to 22
    Zstd(i32),
}

/// The configuration of one topic in force: its own values, else the broker's, else the defaults.
#[derive(Debug, Clone, PartialEq)]
pub struct TopicConfig {
    /// Bytes at which a new segment starts.
    pub segment_bytes: i32,
    /// Age in milliseconds at which a new segment starts.
    pub segment_ms: i64,
    /// Largest random part in milliseconds taken off `segment_ms`.
    pub segment_jitter_ms: i64,
    /// Largest offset index in bytes.
    pub segment_index_bytes: i32,
    /// Bytes of records between two entries of the offset index.
    pub index_interval_bytes: i32,
    /// Records after which the log is flushed; `i64::MAX` for never.
    pub flush_messages: i64,
    /// Milliseconds after which the log is flushed; `i64::MAX` for never.
    pub flush_ms: i64,
    /// Bytes above which old segments are deleted; `None` for no limit.
    pub retention_bytes: Option<i64>,
    /// Age in milliseconds at which segments are deleted; `None` for never.
    pub retention_ms: Option<i64>,
    /// Largest record batch in bytes.
    pub max_message_bytes: i32,
    /// Largest record in bytes that comes in a compressed batch; `None` for any.
    pub max_decompressed_message_bytes: Option<i32>,
    /// Milliseconds that tombstones and markers stay in a compacted log.
    pub delete_retention_ms: i64,
    /// Age in milliseconds below which records are not compacted away.
    pub min_compaction_lag_ms: i64,
    /// Age in milliseconds by which records must have been looked at; `i64::MAX` for no limit.
    pub max_compaction_lag_ms: i64,
    /// Milliseconds between removing a segment from the log and deleting its files.
    pub file_delete_delay_ms: i64,
    /// Share of dirty bytes, 0 to 1, at which compaction is worth while.
    pub min_cleanable_dirty_ratio: f64,
    /// What happens to old segments.
    pub cleanup: CleanupPolicy,
    /// Whether a replica outside the safe set may become leader.
    pub unclean_leader_election: bool,
    /// In-sync replicas that acks=all needs.
    pub min_insync_replicas: i32,
    /// How batches are stored.
    pub compression: TopicCompression,
    /// Whether a new segment is allocated in full.
    pub preallocate: bool,
    /// Whose time records carry.
    pub timestamp_type: TimestampType,
    /// Milliseconds by which a timestamp may lie in the past.
    pub timestamp_before_max_ms: i64,
    /// Milliseconds by which a timestamp may lie in the future.
    pub timestamp_after_max_ms: i64,
    /// When a record counts toward the high watermark.
    pub durability: Durability,
    /// Whether every record of a produced batch is unpacked and checked.
    pub strict_validation: bool,
    /// Replicas that are throttled where they lead, and where they follow.
    pub leader_throttled: ThrottledReplicas,
    /// See `leader_throttled`.
    pub follower_throttled: ThrottledReplicas,
}

/// The largest value of `max.decompressed.message.bytes`, and the default: no record is larger.
const DECOMPRESSED_BYTES_UNLIMITED: i32 = 2_147_483_639;

impl TopicConfig {
    /// The configuration of a topic with these overrides on this broker.
    pub fn resolve(
        overrides: &BTreeMap<String, String>,
        broker: &BrokerConfig,
    ) -> Result<TopicConfig, ConfigError> {
        TopicConfig::resolve_over(overrides, &broker.layers)
    }

    /// The same over the raw values of a broker, which is all that topics inherit from it.
    pub fn resolve_over(
        overrides: &BTreeMap<String, String>,
        layers: &Layers,
    ) -> Result<TopicConfig, ConfigError> {
        for (key, value) in overrides {
            validate_topic_config(key, value)?;
        }
        TopicConfig::from_layers(overrides, layers)
    }

    pub(super) fn from_layers(
        overrides: &BTreeMap<String, String>,
        layers: &Layers,
    ) -> Result<TopicConfig, ConfigError> {
        let chain = TopicChain { overrides, layers };
        let segment_bytes = match chain.value("internal.segment.bytes")? {
            Some(Value::Integer(bytes)) => bytes as i32,
            _ => chain.int("segment.bytes")?,
        };
        let policy = chain.list("cleanup.policy")?;
        let config = TopicConfig {
            segment_bytes,
            segment_ms: chain.long("segment.ms")?,
            segment_jitter_ms: chain.long("segment.jitter.ms")?,
            segment_index_bytes: chain.int("segment.index.bytes")?,
            index_interval_bytes: chain.int("index.interval.bytes")?,
            flush_messages: chain.long("flush.messages")?,
            flush_ms: chain.long("flush.ms")?,
            retention_bytes: Some(chain.long("retention.bytes")?).filter(|bytes| *bytes >= 0),
            retention_ms: Some(chain.long("retention.ms")?).filter(|ms| *ms >= 0),
            max_message_bytes: chain.int("max.message.bytes")?,
            max_decompressed_message_bytes: Some(chain.int("max.decompressed.message.bytes")?)
                .filter(|bytes| *bytes < DECOMPRESSED_BYTES_UNLIMITED),
            delete_retention_ms: chain.long("delete.retention.ms")?,
            min_compaction_lag_ms: chain.long("min.compaction.lag.ms")?,
            max_compaction_lag_ms: chain.long("max.compaction.lag.ms")?,
            file_delete_delay_ms: chain.long("file.delete.delay.ms")?,
            min_cleanable_dirty_ratio: chain.double("min.cleanable.dirty.ratio")?,
            cleanup: CleanupPolicy {
                compact: policy.iter().any(|item| item == "compact"),
                delete: policy.iter().any(|item| item == "delete"),
            },
            unclean_leader_election: chain.boolean("unclean.leader.election.enable")?,
            min_insync_replicas: chain.int("min.insync.replicas")?,
            compression: match chain.text("compression.type")?.as_str() {
                "uncompressed" => TopicCompression::Uncompressed,
                "gzip" => TopicCompression::Gzip(chain.int("compression.gzip.level")?),
                "snappy" => TopicCompression::Snappy,
                "lz4" => TopicCompression::Lz4(chain.int("compression.lz4.level")?),
                "zstd" => TopicCompression::Zstd(chain.int("compression.zstd.level")?),
                _ => TopicCompression::Producer,
            },
            preallocate: chain.boolean("preallocate")?,
            timestamp_type: match chain.text("message.timestamp.type")?.as_str() {
                "LogAppendTime" => TimestampType::LogAppendTime,
                _ => TimestampType::CreateTime,
            },
            timestamp_before_max_ms: chain.long("message.timestamp.before.max.ms")?,
            timestamp_after_max_ms: chain.long("message.timestamp.after.max.ms")?,
            durability: match chain.text(own::DURABILITY)?.as_str() {
                "replicated" => Durability::Replicated,
                _ => Durability::Flushed,
            },
            strict_validation: chain.boolean(own::STRICT_VALIDATION)?,
            leader_throttled: ThrottledReplicas::of(&chain.list("leader.replication.throttled.replicas")?),
            follower_throttled: ThrottledReplicas::of(
                &chain.list("follower.replication.throttled.replicas")?,
            ),
        };
        if config.min_compaction_lag_ms > config.max_compaction_lag_ms {
            let (min, max) = (config.min_compaction_lag_ms, config.max_compaction_lag_ms);
            let reason = format!("must not be more than max.compaction.lag.ms, which is {max}");
            let told = format!(
                "conflict topic config setting min.compaction.lag.ms ({min}) > max.compaction.lag.ms ({max})"
            );
            return Err(
                ConfigError::new("min.compaction.lag.ms", Some(&min.to_string()), reason).telling(told)
            );
        }
        Ok(config)
    }

    /// Age in milliseconds at which a segment must roll: a compacted topic with a compaction deadline rolls by it,
    /// because the active segment is never compacted.
    pub fn max_segment_ms(&self) -> i64 {
        if self.cleanup.compact && self.max_compaction_lag_ms > 0 {
            self.segment_ms.min(self.max_compaction_lag_ms)
        } else {
            self.segment_ms
        }
    }
}

/// A topic's own values above the broker's.
pub(super) struct TopicChain<'a> {
    pub overrides: &'a BTreeMap<String, String>,
    pub layers: &'a Layers,
}

impl TopicChain<'_> {
    /// The value in force: the topic's, else the first broker synonym that somebody set, else the default.
    pub fn value(&self, key: &str) -> Result<Option<Value>, ConfigError> {
        let definition = topic_table().get(key).unwrap_or_else(|| panic!("{key} is not in topic.table"));
        if let Some(raw) = self.overrides.get(key) {
            return definition.parse(raw).map(Some);
        }
        for synonym in topic_synonyms(key) {
            if self.layers.set(synonym.key).is_none() {
                continue;
            }
            return Ok(match self.layers.value(synonym.key)? {
                Some(Value::Integer(number)) => {
                    let scaled = number.saturating_mul(synonym.scale.factor());
                    // Any negative retention, in whatever unit, means unlimited.
                    Some(Value::Integer(if key == "retention.ms" { scaled.max(-1) } else { scaled }))
                }
                other => other,
            });
        }
        definition.default.map(|raw| definition.parse(raw)).transpose()
    }

    fn long(&self, key: &str) -> Result<i64, ConfigError> {
        match self.value(key)? {
            Some(Value::Integer(number)) => Ok(number),
            other => panic!("{key} is not an integer key: {other:?}"),
        }
    }

    fn int(&self, key: &str) -> Result<i32, ConfigError> {
        let number = self.long(key)?;
        Ok(i32::try_from(number).unwrap_or_else(|_| panic!("{key} is not an int key")))
    }

    fn double(&self, key: &str) -> Result<f64, ConfigError> {
        match self.value(key)? {
            Some(Value::Double(number)) => Ok(number),
            other => panic!("{key} is not a double key: {other:?}"),
        }
    }

    fn boolean(&self, key: &str) -> Result<bool, ConfigError> {
        match self.value(key)? {
            Some(Value::Boolean(value)) => Ok(value),
            other => panic!("{key} is not a boolean key: {other:?}"),
        }
    }

    fn text(&self, key: &str) -> Result<String, ConfigError> {
        match self.value(key)? {
            Some(Value::Text(text)) => Ok(text),
            other => panic!("{key} is not a text key: {other:?}"),
        }
    }

    fn list(&self, key: &str) -> Result<Vec<String>, ConfigError> {
        match self.value(key)? {
            Some(Value::List(items)) => Ok(items),
            other => panic!("{key} is not a list key: {other:?}"),
        }
    }
}

/// Whether a topic may have `key` with `value`; contradictions between keys show in [`TopicConfig::resolve`].
pub fn validate_topic_config(key: &str, value: &str) -> Result<(), ConfigError> {
    known(topic_table(), "topic", key, value)?.parse(value).map(drop)
}

/// Whether a client metrics subscription may have `key` with `value`.
pub fn validate_client_metrics_config(key: &str, value: &str) -> Result<(), ConfigError> {
    let definition = client_metrics_table().get(key).ok_or_else(|| {
        let told = format!("Unknown client metrics configuration: {key}");
        ConfigError::new(key, Some(value), "there is no such client metrics configuration").telling(told)
    })?;
    definition.parse(value).map(drop).map_err(|error| match (key, value.trim().parse::<i32>()) {
        ("interval.ms", Ok(number)) => error.telling(format!(
            "Invalid value {number} for interval.ms, interval must be between 100 and 3600000 (1 hour)"
        )),
        _ => error,
    })
}

/// Whether `key` may be set to `value` while the cluster runs, for one broker or (`per_broker` false) for all. As in
/// Kafka, keys that nobody knows are accepted and kept; keys that need a restart are not.
pub fn validate_broker_config(key: &str, value: &str, per_broker: bool) -> Result<(), ConfigError> {
    let known = broker_table().get(key).or_else(|| listener::definition_of(key));
    let Some(definition) = known else { return Ok(()) };
    let shown = (!definition.is_sensitive()).then_some(value);
    match definition.update {
        Update::ReadOnly => {
            let reason = "can not change while the node runs: set it in the node's properties and restart";
            let told = format!("Cannot update these configs dynamically: [{key}]");
            Err(ConfigError::new(key, shown, reason).telling(told))
        }
        Update::PerBroker if !per_broker => {
            let reason = "can only be set for one broker: name its id";
            let told = format!(
                "Cannot update these configs at default cluster level, broker id must be specified: [{key}]"
            );
            Err(ConfigError::new(key, shown, reason).telling(told))
        }
        _ => definition.parse(value).map(drop),
    }
}

pub(super) fn known(
    table: &'static Table,
    kind: &str,
    key: &str,
    value: &str,
) -> Result<&'static Definition, ConfigError> {
    table.get(key).ok_or_else(|| {
        let meant = table.nearest(key).map_or(String::new(), |near| format!(", did you mean {near}?"));
        let told = format!("Unknown {kind} config name: {key}{meant}");
        ConfigError::new(key, Some(value), format!("there is no such {kind} configuration{meant}"))
            .telling(told)
    })
}

/// Keys whose values name something that one node has, such as its directories. No other node can say whether it has it.
pub const OF_ONE_NODE: [&str; 1] = ["cordoned.log.dirs"];

/// Honoured keys that Kafka changes while a node runs and this version only with a restart.
pub const RESTART_KEYS: [&str; 2] = ["listeners", "listener.security.protocol.map"];

/// Whether a change of `key` is something that this version can do while the node runs.
pub fn check_live_broker_config(key: &str) -> Result<(), ConfigError> {
    match RESTART_KEYS.contains(&key) {
        true => {
            let reason = "needs a restart in this version: set it in the node's properties";
            Err(ConfigError::new(key, None, reason))
        }
        false => Ok(()),
    }
}

/// Whether `key` of a table holds a list, so that items can be appended and subtracted (IncrementalAlterConfigs).
pub fn is_list_key(table: &Table, key: &str) -> bool {
    table.get(key).is_some_and(|definition| definition.config_type == ConfigType::List)
}

/// `current` with those items of `added` that it lacks.
pub fn list_append(current: &str, added: &str) -> String {
    let mut items = list_items(current);
    for item in list_items(added) {
        if !items.contains(&item) {
            items.push(item);
        }
    }
    items.join(",")
}

/// `current` without the items of `removed`.
pub fn list_subtract(current: &str, removed: &str) -> String {
    let removed = list_items(removed);
    let kept: Vec<&str> = list_items(current).into_iter().filter(|item| !removed.contains(item)).collect();
    kept.join(",")
}

fn list_items(text: &str) -> Vec<&str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).collect()
}
