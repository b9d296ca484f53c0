//! Which keys mean the same: topic and group keys with their broker synonyms (Kafka's `ServerTopicConfigSynonyms` and
//! `GroupConfig`), and broker keys that share one value in several units (`DynamicBrokerConfig`).

/// A broker key that supplies a topic's value, with the unit it is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BrokerSynonym {
    /// The broker key.
    pub key: &'static str,
    /// How its value becomes the topic's.
    pub scale: Scale,
}

/// Unit of a broker synonym.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// the same value
    Same,
    /// minutes that become milliseconds
    Minutes,
    /// hours that become milliseconds
    Hours,
}

impl Scale {
    /// Milliseconds of one unit.
    pub fn factor(self) -> i64 {
        match self {
            Scale::Same => 1,
            Scale::Minutes => 60_000,
            Scale::Hours => 3_600_000,
        }
    }
}

const fn same(key: &'static str) -> BrokerSynonym {
    BrokerSynonym { key, scale: Scale::Same }
}

const fn hours(key: &'static str) -> BrokerSynonym {
    BrokerSynonym { key, scale: Scale::Hours }
}

const TOPIC: &[(&str, &[BrokerSynonym])] = &[
    ("segment.bytes", &[same("log.segment.bytes")]),
    ("segment.ms", &[same("log.roll.ms"), hours("log.roll.hours")]),
    ("segment.jitter.ms", &[same("log.roll.jitter.ms"), hours("log.roll.jitter.hours")]),
    ("segment.index.bytes", &[same("log.index.size.max.bytes")]),
    ("flush.messages", &[same("log.flush.interval.messages")]),
    ("flush.ms", &[same("log.flush.interval.ms"), same("log.flush.scheduler.interval.ms")]),
    ("retention.bytes", &[same("log.retention.bytes")]),
    (
        "retention.ms",
        &[
            same("log.retention.ms"),
            BrokerSynonym { key: "log.retention.minutes", scale: Scale::Minutes },
            hours("log.retention.hours"),
        ],
    ),
    ("max.message.bytes", &[same("message.max.bytes")]),
    ("max.decompressed.message.bytes", &[same("max.decompressed.message.bytes")]),
    ("index.interval.bytes", &[same("log.index.interval.bytes")]),
    ("delete.retention.ms", &[same("log.cleaner.delete.retention.ms")]),
    ("min.compaction.lag.ms", &[same("log.cleaner.min.compaction.lag.ms")]),
    ("max.compaction.lag.ms", &[same("log.cleaner.max.compaction.lag.ms")]),
    ("file.delete.delay.ms", &[same("log.segment.delete.delay.ms")]),
    ("min.cleanable.dirty.ratio", &[same("log.cleaner.min.cleanable.ratio")]),
    ("cleanup.policy", &[same("log.cleanup.policy")]),
    ("unclean.leader.election.enable", &[same("unclean.leader.election.enable")]),
    ("min.insync.replicas", &[same("min.insync.replicas")]),
    ("compression.type", &[same("compression.type")]),
    ("compression.gzip.level", &[same("compression.gzip.level")]),
    ("compression.lz4.level", &[same("compression.lz4.level")]),
    ("compression.zstd.level", &[same("compression.zstd.level")]),
    ("preallocate", &[same("log.preallocate")]),
    ("message.timestamp.type", &[same("log.message.timestamp.type")]),
    ("message.timestamp.before.max.ms", &[same("log.message.timestamp.before.max.ms")]),
    ("message.timestamp.after.max.ms", &[same("log.message.timestamp.after.max.ms")]),
    ("local.retention.ms", &[same("log.local.retention.ms")]),
    ("local.retention.bytes", &[same("log.local.retention.bytes")]),
    ("remote.copy.lag.ms", &[same("log.remote.copy.lag.ms")]),
    ("remote.copy.lag.bytes", &[same("log.remote.copy.lag.bytes")]),
    (super::own::DURABILITY, &[same(super::own::DURABILITY)]),
    (super::own::STRICT_VALIDATION, &[same(super::own::STRICT_VALIDATION)]),
];

/// Broker keys that supply the value of a topic key, first one first; none if the topic key stands alone.
pub fn topic_synonyms(topic_key: &str) -> &'static [BrokerSynonym] {
    TOPIC.iter().find(|(key, _)| *key == topic_key).map_or(&[], |(_, synonyms)| synonyms)
}

/// Broker keys that share one value with `broker_key`, first one first, or nothing when it stands alone.
/// `log.flush.scheduler.interval.ms` is only a fallback and has no synonyms itself.
pub fn broker_synonyms(broker_key: &str) -> &'static [&'static str] {
    match broker_key {
        "log.roll.ms" | "log.roll.hours" => &["log.roll.ms", "log.roll.hours"],
        "log.roll.jitter.ms" | "log.roll.jitter.hours" => &["log.roll.jitter.ms", "log.roll.jitter.hours"],
        "log.retention.ms" | "log.retention.minutes" | "log.retention.hours" => {
            &["log.retention.ms", "log.retention.minutes", "log.retention.hours"]
        }
        "log.flush.interval.ms" => &["log.flush.interval.ms", "log.flush.scheduler.interval.ms"],
        _ => &[],
    }
}

/// The broker key that supplies the value of a group key, if one does.
pub fn group_synonym(group_key: &str) -> Option<String> {
    match group_key {
        "share.auto.offset.reset" | "share.isolation.level" | "share.renew.acknowledge.enable" => None,
        "streams.assignor.name" => Some("group.streams.assignors".to_owned()),
        key if ["consumer.", "share.", "streams."].iter().any(|kind| key.starts_with(kind)) => {
            Some(format!("group.{key}"))
        }
        _ => None,
    }
}
