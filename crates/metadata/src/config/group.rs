//! What a group may be configured to: values by themselves, within the bounds that the broker sets, and in proportion to each other (Kafka's
//! `GroupConfig`).

use std::collections::BTreeMap;

use super::broker::BrokerConfig;
use super::note::ConfigError;
use super::table::group_table;
use super::topic::known;

/// Whether a group may have `key` with `value`.
pub fn validate_group_config(key: &str, value: &str) -> Result<(), ConfigError> {
    known(group_table(), "group", key, value)?.parse(value).map(drop)
}

/// Group keys with the keys of the broker that bound them from below (if anything does) and from above.
const BOUNDED_GROUP_KEYS: [(&str, Option<&str>, &str); 13] = [
    bounded(
        "consumer.session.timeout.ms",
        "group.consumer.min.session.timeout.ms",
        "group.consumer.max.session.timeout.ms",
    ),
    bounded(
        "consumer.heartbeat.interval.ms",
        "group.consumer.min.heartbeat.interval.ms",
        "group.consumer.max.heartbeat.interval.ms",
    ),
    bounded(
        "consumer.assignment.interval.ms",
        "group.consumer.min.assignment.interval.ms",
        "group.consumer.max.assignment.interval.ms",
    ),
    bounded(
        "share.session.timeout.ms",
        "group.share.min.session.timeout.ms",
        "group.share.max.session.timeout.ms",
    ),
    bounded(
        "share.heartbeat.interval.ms",
        "group.share.min.heartbeat.interval.ms",
        "group.share.max.heartbeat.interval.ms",
    ),
    bounded(
        "share.assignment.interval.ms",
        "group.share.min.assignment.interval.ms",
        "group.share.max.assignment.interval.ms",
    ),
    bounded(
        "share.record.lock.duration.ms",
        "group.share.min.record.lock.duration.ms",
        "group.share.max.record.lock.duration.ms",
    ),
    bounded(
        "share.delivery.count.limit",
        "group.share.min.delivery.count.limit",
        "group.share.max.delivery.count.limit",
    ),
    bounded(
        "share.partition.max.record.locks",
        "group.share.min.partition.max.record.locks",
        "group.share.max.partition.max.record.locks",
    ),
    bounded(
        "streams.session.timeout.ms",
        "group.streams.min.session.timeout.ms",
        "group.streams.max.session.timeout.ms",
    ),
    bounded(
        "streams.heartbeat.interval.ms",
        "group.streams.min.heartbeat.interval.ms",
        "group.streams.max.heartbeat.interval.ms",
    ),
    bounded(
        "streams.assignment.interval.ms",
        "group.streams.min.assignment.interval.ms",
        "group.streams.max.assignment.interval.ms",
    ),
    ("streams.num.standby.replicas", None, "group.streams.max.standby.replicas"),
];

const fn bounded<'k>(key: &'k str, min: &'k str, max: &'k str) -> (&'k str, Option<&'k str>, &'k str) {
    (key, Some(min), max)
}

/// Whether a group may have these values together: each by itself, within the bounds of `broker`, and of each protocol a session longer
/// than the pause between two heartbeats (Kafka: `GroupConfig.validate`).
pub fn validate_group(values: &BTreeMap<String, String>, broker: &BrokerConfig) -> Result<(), ConfigError> {
    for (key, value) in values {
        validate_group_config(key, value)?;
    }
    let number = |key: &str| values.get(key).and_then(|value| value.trim().parse::<i32>().ok());
    let mut in_force = BTreeMap::new();
    for (key, min, max) in BOUNDED_GROUP_KEYS {
        let has_min = min.is_some();
        let min = min.map_or(Ok(0), |min| broker.layers.int(min))?;
        let max = broker.layers.int(max)?;
        let given = number(key);
        if let Some(value) = given.filter(|value| !(min..=max).contains(value)) {
            let reason = format!("must be in the range {min} to {max} inclusive");
            let told = match has_min {
                true => format!("{key} {reason}."),
                false => format!("{key} must be less than or equal to {max}"),
            };
            return Err(ConfigError::new(key, Some(&value.to_string()), reason).telling(told));
        }
        in_force.insert(key, given.map_or_else(|| broker.layers.int(&format!("group.{key}")), Ok)?);
    }
    for protocol in ["consumer", "share", "streams"] {
        let session_key = format!("{protocol}.session.timeout.ms");
        let heartbeat_key = format!("{protocol}.heartbeat.interval.ms");
        if number(&session_key).is_none() && number(&heartbeat_key).is_none() {
            continue;
        }
        let (session, heartbeat) = (in_force[&*session_key], in_force[&*heartbeat_key]);
        if session <= heartbeat {
            let reason = format!("must be greater than {heartbeat_key}, which is {heartbeat}");
            let told = format!("{session_key} must be greater than {heartbeat_key}");
            return Err(ConfigError::new(&session_key, Some(&session.to_string()), reason).telling(told));
        }
    }
    Ok(())
}
