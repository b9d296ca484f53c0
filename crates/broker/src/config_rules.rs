//! What the controller must know about configuration keys, answered from the tables of definitions.

use std::sync::Arc;

use ottla_controller::{ConfigRules, EffectiveConfig};
use ottla_metadata::config::{
    BrokerConfig, TopicConfig, broker_table, describe_topic, is_list_key, topic_table, validate_topic_config,
};
use ottla_metadata::{ConfigMap, Image, ResourceType};

/// The rules of this node.
#[derive(Debug)]
pub(crate) struct TableRules {
    pub broker: Arc<BrokerConfig>,
}

impl ConfigRules for TableRules {
    /// Topics may have what their table says. Broker keys can not change while the node runs: refusing is better than a change that is
    /// accepted and has no effect.
    fn validate(&self, kind: ResourceType, _resource: &str, values: &ConfigMap) -> Result<(), String> {
        match kind {
            ResourceType::TOPIC => {
                for (key, value) in values {
                    validate_topic_config(key, value).map_err(|error| error.to_string())?;
                }
                TopicConfig::resolve(values, &self.broker).map(drop).map_err(|error| error.to_string())
            }
            _ if values.is_empty() => Ok(()),
            ResourceType::BROKER => {
                Err("Broker configurations can not be changed while the node runs; set them in its properties.".to_owned())
            }
            other => Err(format!("Configurations of {} resources are not served.", other.name())),
        }
    }

    fn is_list(&self, kind: ResourceType, key: &str) -> bool {
        match kind {
            ResourceType::TOPIC => is_list_key(topic_table(), key),
            _ => is_list_key(broker_table(), key),
        }
    }

    fn inherited(&self, _image: &Image, kind: ResourceType, key: &str) -> Option<String> {
        match kind {
            ResourceType::TOPIC => {
                let entries = describe_topic(&ConfigMap::new(), &self.broker);
                entries.into_iter().find(|entry| entry.name == key)?.value
            }
            _ => broker_table().get(key)?.default.map(str::to_owned),
        }
    }

    fn effective_topic_config(&self, _image: &Image, values: &ConfigMap) -> Vec<EffectiveConfig> {
        let entries = describe_topic(values, &self.broker).into_iter();
        entries
            .map(|entry| EffectiveConfig {
                name: entry.name,
                value: entry.value,
                read_only: entry.read_only,
                source: entry.source as i8,
                sensitive: entry.sensitive,
            })
            .collect()
    }
}
