//! Which clients are asked for which metrics how often: resources CLIENT_METRICS of the cluster's configuration (Kafka's
//! `ClientMetricsConfigs`).
//!
//! A client is asked for what all the subscriptions together want that match it, as often as the most impatient of them wants.

use std::collections::{BTreeMap, BTreeSet};

use ottla_metadata::{ConfigMap, Image, ResourceType};
use ottla_protocol::Uuid;
use ottla_protocol::records::crc32c;
use regex::{Regex, RegexBuilder};

/// How often a client reports that nobody asks more often, in milliseconds (Kafka's `INTERVAL_MS_DEFAULT`).
const INTERVAL_MS_DEFAULT: i32 = 300_000;
/// Asks for all metrics.
const ALL: &str = "*";
/// Memory of one compiled pattern.
const PATTERN_BYTES_MAX: usize = 1 << 20;
/// What a client can be chosen by.
const ATTRIBUTES: [&str; 6] = [
    "client_instance_id",
    "client_id",
    "client_software_name",
    "client_software_version",
    "client_source_address",
    "client_source_port",
];

/// What a client can be chosen by. A client that did not tell its software is not chosen by it.
#[derive(Debug, Clone)]
pub(super) struct Attributes {
    pub client_instance_id: String,
    pub client_id: String,
    pub client_software_name: Option<String>,
    pub client_software_version: Option<String>,
    pub client_source_address: String,
    pub client_source_port: String,
}

impl Attributes {
    fn get(&self, name: &str) -> Option<&str> {
        match name {
            "client_instance_id" => Some(&self.client_instance_id),
            "client_id" => Some(&self.client_id),
            "client_software_name" => self.client_software_name.as_deref(),
            "client_software_version" => self.client_software_version.as_deref(),
            "client_source_address" => Some(&self.client_source_address),
            "client_source_port" => Some(&self.client_source_port),
            _ => None,
        }
    }
}

/// Patterns by attribute; each has to match the whole of it.
pub(crate) type Patterns = BTreeMap<String, Regex>;

/// Reads `match`: pairs `attribute=pattern`. Of an attribute that is named twice the last pattern counts. Fails with a sentence.
pub(crate) fn parse_match(text: &str) -> Result<Patterns, String> {
    let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
    let pattern = |pair: &str| {
        let illegal = || format!("Illegal client matching pattern: {pair}");
        let (name, pattern) = pair.split_once('=').ok_or_else(illegal)?;
        let (name, pattern) = (name.trim(), pattern.trim());
        if !ATTRIBUTES.contains(&name) || pattern.is_empty() || pattern.contains('=') {
            return Err(illegal());
        }
        let whole = RegexBuilder::new(&format!("^(?:{pattern})$")).size_limit(PATTERN_BYTES_MAX).build();
        Ok((name.to_owned(), whole.map_err(|_| illegal())?))
    };
    pairs.map(pattern).collect()
}

/// One resource.
#[derive(Debug, Clone)]
struct Subscription {
    metrics: BTreeSet<String>,
    interval_ms: i32,
    patterns: Patterns,
}

impl Subscription {
    /// What was set is valid; should it not be (set by another version), it asks nobody.
    fn of(values: &ConfigMap) -> Option<Subscription> {
        let list = |text: &String| {
            text.split(',').map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect()
        };
        Some(Subscription {
            metrics: values.get("metrics").map(list).unwrap_or_default(),
            interval_ms: match values.get("interval.ms") {
                Some(text) => text.trim().parse().ok()?,
                None => INTERVAL_MS_DEFAULT,
            },
            patterns: parse_match(values.get("match").map_or("", String::as_str)).ok()?,
        })
    }

    fn matches(&self, attributes: &Attributes) -> bool {
        let matches = |(name, pattern): (&String, &Regex)| {
            attributes.get(name).is_some_and(|value| pattern.is_match(value))
        };
        self.patterns.iter().all(matches)
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    all: Vec<Subscription>,
    /// Counts how often they changed.
    pub version: u64,
}

impl Subscriptions {
    pub(super) fn replace(&mut self, image: &Image) {
        let set = image.configs(ResourceType::CLIENT_METRICS);
        self.all = set.filter_map(|(_, values)| Subscription::of(values)).collect();
        self.version += 1;
    }

    /// The metrics that a client is asked for, and every how many milliseconds.
    pub(super) fn of(&self, attributes: &Attributes) -> (Vec<String>, i32) {
        let (mut metrics, mut interval_ms) = (BTreeSet::new(), INTERVAL_MS_DEFAULT);
        for subscription in self.all.iter().filter(|subscription| subscription.matches(attributes)) {
            metrics.extend(subscription.metrics.iter().cloned());
            interval_ms = interval_ms.min(subscription.interval_ms);
        }
        if metrics.contains(ALL) {
            metrics = BTreeSet::from([ALL.to_owned()]);
        }
        (metrics.into_iter().collect(), interval_ms)
    }
}

/// The number of what a client is asked for: a checksum of it, mixed with the client's id, so that no two clients have the same.
pub(super) fn id_of(metrics: &[String], interval_ms: i32, instance: Uuid) -> i32 {
    let text = format!("[{}]{interval_ms}", metrics.join(", "));
    // Java's hash of a UUID.
    let number = u128::from_be_bytes(instance.0);
    let folded = (number >> 96) ^ (number >> 64) ^ (number >> 32) ^ number;
    (crc32c(text.as_bytes()) ^ folded as u32).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ottla_metadata::Replayer;
    use ottla_protocol::messages::config_record::ConfigRecord;
    use ottla_protocol::messages::metadata_record::MetadataRecord;

    fn attributes(client_id: &str) -> Attributes {
        Attributes {
            client_instance_id: "id".into(),
            client_id: client_id.into(),
            client_software_name: Some("apache-kafka-java".into()),
            client_software_version: None,
            client_source_address: "10.0.0.1".into(),
            client_source_port: "4711".into(),
        }
    }

    fn subscriptions(set: &[(&str, &str, &str)]) -> Subscriptions {
        let mut replayer = Replayer::new(Image::empty("cluster"));
        for (offset, (name, key, value)) in (0..).zip(set) {
            let record = ConfigRecord {
                resource_type: ResourceType::CLIENT_METRICS.0,
                resource_name: (*name).to_owned().into(),
                name: (*key).to_owned().into(),
                value: Some((*value).to_owned().into()),
            };
            replayer.replay(&MetadataRecord::ConfigRecord(record), offset).expect("fits");
        }
        let mut subscriptions = Subscriptions::default();
        subscriptions.replace(replayer.image());
        subscriptions
    }

    #[test]
    fn those_that_match_are_added_up() {
        let subscriptions = subscriptions(&[
            ("all", "metrics", "org.a, org.b"),
            ("app", "metrics", "org.c,org.a"),
            ("app", "interval.ms", "1000"),
            ("app", "match", "client_id=app-.*, client_source_port=4711"),
            ("none", "metrics", "*"),
            ("none", "match", "client_software_version=.*"),
        ]);
        let of = |client: &str| subscriptions.of(&attributes(client));
        assert_eq!(of("other"), (vec!["org.a".into(), "org.b".into()], 300_000));
        assert_eq!(of("app-1"), (vec!["org.a".into(), "org.b".into(), "org.c".into()], 1_000));
        assert_eq!(of("my-app-1").1, 300_000, "the whole of an attribute has to match");
    }

    #[test]
    fn a_star_stands_for_everything() {
        let subscriptions = subscriptions(&[("a", "metrics", "org.a"), ("b", "metrics", "*,org.b")]);
        assert_eq!(subscriptions.of(&attributes("x")).0, ["*"]);
    }

    #[test]
    fn patterns_that_can_not_be() {
        for wrong in ["client_id", "client=x", "client_id=", "client_id=(", "client_id=a=b", "=x"] {
            assert!(parse_match(wrong).is_err(), "{wrong}");
        }
        assert_eq!(parse_match("").map(|patterns| patterns.len()).ok(), Some(0));
        assert_eq!(parse_match("client_id=a, client_id=b").map(|patterns| patterns.len()).ok(), Some(1));
    }

    #[test]
    fn numbers_differ_by_what_is_asked_and_by_whom() {
        let (one, other) = (Uuid([1; 16]), Uuid([7; 16]));
        let metrics = ["a".to_owned()];
        let mut numbers = BTreeSet::from([id_of(&metrics, 1, one)]);
        let last = Uuid([1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2]);
        let rest = [id_of(&metrics, 2, one), id_of(&[], 1, one), id_of(&metrics, 1, last)];
        assert!(rest.into_iter().all(|number| numbers.insert(number)));
        assert_eq!(
            id_of(&metrics, 1, one),
            id_of(&metrics, 1, other),
            "whose four words cancel each other out"
        );
    }
}
