//! What administrators see: every key with its value, where the value comes from, and the chain behind it, in the
//! semantics of `DescribeConfigs` v1-4 (Kafka's `ConfigHelper`).

use std::collections::{BTreeMap, BTreeSet};

use super::broker::BrokerConfig;
use super::definition::{ConfigType, Definition, Update};
use super::key::{broker_synonyms, group_synonym, topic_synonyms};
use super::layers::Layers;
use super::listener;
use super::table::{broker_table, client_metrics_table, group_table, topic_table};
use super::topic::TopicChain;

/// Where a value comes from; the numbers are those of the wire (`DescribeConfigsResponse.ConfigSource`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i8)]
pub enum ConfigSource {
    /// set for the topic
    DynamicTopic = 1,
    /// set for this broker while running
    DynamicBroker = 2,
    /// set for all brokers while running
    DynamicDefaultBroker = 3,
    /// given when the broker started
    StaticBroker = 4,
    /// nobody set it
    Default = 5,
    /// level of a logger
    BrokerLogger = 6,
    /// set for a client metrics subscription
    ClientMetrics = 7,
    /// set for the group
    Group = 8,
}

/// One link of the chain behind a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synonym {
    /// The key it was set under.
    pub name: String,
    /// The text that was set; `None` if sensitive.
    pub value: Option<String>,
    /// Where it was set.
    pub source: ConfigSource,
}

/// One key of a described resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigEntry {
    /// The key.
    pub name: String,
    /// The value in force; `None` if there is none or it is sensitive.
    pub value: Option<String>,
    /// Where the value comes from.
    pub source: ConfigSource,
    /// Whether it can not be changed while the broker runs.
    pub read_only: bool,
    /// Whether the value is hidden.
    pub sensitive: bool,
    /// Type of the key; `None` for keys that nobody knows (code 0).
    pub config_type: Option<ConfigType>,
    /// Our sentence about the key.
    pub documentation: Option<&'static str>,
    /// The chain behind the value, strongest first; empty if nothing but a computed default is there.
    pub synonyms: Vec<Synonym>,
}

impl ConfigEntry {
    /// Whether nobody set it (the flag of `DescribeConfigs` v0).
    pub fn is_default(&self) -> bool {
        self.source == ConfigSource::Default
    }

    /// Type code on the wire; 0 for unknown.
    pub fn type_code(&self) -> i8 {
        self.config_type.map_or(0, |config_type| config_type as i8)
    }

    fn new(definition: &Definition, value: Option<String>, synonyms: Vec<Synonym>) -> ConfigEntry {
        let sensitive = definition.is_sensitive();
        ConfigEntry {
            name: definition.key.to_owned(),
            value: value.filter(|_| !sensitive),
            source: synonyms.first().map_or(ConfigSource::Default, |synonym| synonym.source),
            read_only: false,
            sensitive,
            config_type: Some(definition.config_type),
            documentation: Some(definition.documentation),
            synonyms,
        }
    }
}

/// Everything about a topic with these overrides, by key.
pub fn describe_topic(overrides: &BTreeMap<String, String>, layers: &Layers) -> Vec<ConfigEntry> {
    let chain = TopicChain { overrides, layers };
    let entry = |definition: &Definition| {
        let key = definition.key;
        // Overrides were validated when they were set; one that no longer fits is shown as it stands.
        let value = match chain.value(key) {
            Ok(value) => value.map(|value| value.to_string()),
            Err(_) => overrides.get(key).cloned(),
        };
        let mut synonyms = Vec::new();
        if overrides.contains_key(key) {
            let source = ConfigSource::DynamicTopic;
            synonyms.push(Synonym { name: key.to_owned(), value: value.clone(), source });
        }
        if let Some(first) = topic_synonyms(key).first() {
            synonyms.extend(broker_chain(layers, first.key, definition.is_sensitive()));
        }
        ConfigEntry::new(definition, value, synonyms)
    };
    topic_table().public().map(entry).collect()
}

/// Everything about a broker, by key, with the keys that it was given and nobody knows at the end.
pub fn describe_broker(broker: &BrokerConfig) -> Vec<ConfigEntry> {
    let layers = &broker.layers;
    let shown = |definition: &&Definition| !definition.internal || layers.set(definition.key).is_some();
    let known = broker_table().all().iter().filter(shown).map(|definition| {
        let value = layers.value(definition.key).ok().flatten().map(|value| value.to_string());
        let synonyms = broker_chain(layers, definition.key, definition.is_sensitive());
        let mut entry = ConfigEntry::new(definition, value, synonyms);
        entry.read_only = definition.update == Update::ReadOnly;
        entry
    });
    let set = [&layers.given, &layers.dynamic_default, &layers.dynamic_broker];
    let others: BTreeSet<&String> = set.into_iter().flat_map(BTreeMap::keys).collect();
    let others = others.into_iter().filter(|key| broker_table().get(key).is_none());
    let others = others.map(|key| unknown_entry(layers, key));
    known.chain(others).collect()
}

/// What is set for all brokers while running (resource BROKER with an empty name).
pub fn describe_broker_defaults(dynamic_default: &BTreeMap<String, String>) -> Vec<ConfigEntry> {
    let layers = Layers { dynamic_default: dynamic_default.clone(), ..Layers::default() };
    let entry = |key: &String| match broker_table().get(key) {
        Some(definition) => {
            let synonyms = broker_chain(&layers, key, definition.is_sensitive());
            let mut entry = ConfigEntry::new(definition, dynamic_default.get(key).cloned(), synonyms);
            entry.read_only = definition.update == Update::ReadOnly;
            entry
        }
        None => unknown_entry(&layers, key),
    };
    let only_set = |mut entry: ConfigEntry| {
        entry.synonyms.retain(|synonym| synonym.source == ConfigSource::DynamicDefaultBroker);
        entry
    };
    dynamic_default.keys().map(entry).map(only_set).collect()
}

/// Everything about a group with these overrides, by key.
pub fn describe_group(overrides: &BTreeMap<String, String>, broker: &BrokerConfig) -> Vec<ConfigEntry> {
    let entry = |definition: &Definition| {
        let key = definition.key;
        let behind = match group_synonym(key) {
            Some(broker_key) => broker_chain(&broker.layers, &broker_key, definition.is_sensitive()),
            None => own_default(definition),
        };
        let inherited = behind.first().and_then(|synonym| synonym.value.clone());
        let value = overrides.get(key).cloned().or(inherited);
        ConfigEntry::new(definition, value, with_override(overrides, key, ConfigSource::Group, behind))
    };
    group_table().public().map(entry).collect()
}

/// Everything about a client metrics subscription with these overrides, by key.
pub fn describe_client_metrics(overrides: &BTreeMap<String, String>) -> Vec<ConfigEntry> {
    let entry = |definition: &Definition| {
        let value = overrides.get(definition.key).cloned().or(definition.default.map(str::to_owned));
        let synonyms = with_override(overrides, definition.key, ConfigSource::ClientMetrics, Vec::new());
        ConfigEntry::new(definition, value, synonyms)
    };
    client_metrics_table().public().map(entry).collect()
}

fn broker_chain(layers: &Layers, key: &str, sensitive: bool) -> Vec<Synonym> {
    match broker_synonyms(key) {
        [] => layers.chain(key, &[key], sensitive),
        names => layers.chain(key, names, sensitive),
    }
}

fn own_default(definition: &Definition) -> Vec<Synonym> {
    let source = ConfigSource::Default;
    let link =
        |value: &str| Synonym { name: definition.key.to_owned(), value: Some(value.to_owned()), source };
    definition.default.map(link).into_iter().collect()
}

fn with_override(
    overrides: &BTreeMap<String, String>,
    key: &str,
    source: ConfigSource,
    behind: Vec<Synonym>,
) -> Vec<Synonym> {
    let own =
        overrides.get(key).map(|value| Synonym { name: key.to_owned(), value: Some(value.clone()), source });
    own.into_iter().chain(behind).collect()
}

/// A key that nobody knows may hold a secret, so its value is hidden, as in Kafka.
/// A key that is not in the table: one that is meant for a listener, or one that nobody knows.
fn unknown_entry(layers: &Layers, key: &str) -> ConfigEntry {
    if let Some(definition) = listener::definition_of(key) {
        let synonyms = layers.chain(key, &[key, definition.key], false);
        let value = layers.set(key).map(str::to_owned);
        return ConfigEntry { name: key.to_owned(), ..ConfigEntry::new(definition, value, synonyms) };
    }
    let synonyms = layers.chain(key, &[key], true);
    ConfigEntry {
        name: key.to_owned(),
        value: None,
        source: synonyms.first().map_or(ConfigSource::Default, |synonym| synonym.source),
        read_only: true,
        sensitive: true,
        config_type: None,
        documentation: None,
        synonyms,
    }
}
