//! The rules for configurations as the table of definitions has them.
//!
//! The tricky idea: what a resource inherits depends on dynamic broker values, which are in the image. They are laid
//! over this node's file whenever they are needed, so that there is no second copy to keep in step.

use crate::context::{ConfigRules, EffectiveConfig, Settings};
use crate::error::ApiError;
use crate::internal_topics::InternalTopic;
use ottla_metadata::config::{
    BrokerConfig, ConfigEntry, ConfigError, Layers, OF_ONE_NODE, TopicConfig, broker_table,
    client_metrics_table, describe_group, describe_topic, group_table, is_list_key, topic_table,
    validate_broker_config, validate_client_metrics_config, validate_group,
};
use ottla_metadata::{ConfigMap, Image, ResourceType};
use ottla_protocol::ErrorCode;
use ottla_protocol::ids::NodeId;
use std::borrow::Cow;
use std::sync::Arc;

/// The rules of a node with this configuration.
#[derive(Debug)]
pub struct TableRules {
    broker: BrokerConfig,
}

impl TableRules {
    /// `broker` is what the node was started with; dynamic values are taken from the image.
    pub fn new(broker: BrokerConfig) -> TableRules {
        TableRules { broker }
    }

    /// Whether the values of a broker resource make sense together, with those for all brokers or for this one alone, and with what the
    /// node was started with. What another node was started with is not known here: its own values are held against this one's, but for
    /// those that name something of the node.
    pub fn validate_together(
        &self,
        image: &Image,
        resource: &str,
        values: &ConfigMap,
    ) -> Result<(), ApiError> {
        let of = |name: &str| image.config(ResourceType::BROKER, name).map(|map| (**map).clone());
        let me = self.broker.node_id.to_string();
        let (default, own) = match resource {
            "" => (values.clone(), of(&me).unwrap_or_default()),
            name => {
                let mut own = values.clone();
                if name != me {
                    OF_ONE_NODE.iter().for_each(|key| drop(own.remove(*key)));
                }
                (of("").unwrap_or_default(), own)
            }
        };
        self.broker.reconfigure(&default, &own).map(drop).map_err(refused(ErrorCode::InvalidRequest))
    }

    /// The raw values of the node with the dynamic ones of `image`: what topics inherit. Every new topic asks for them, and all of the
    /// node's configuration would take ten times as long.
    fn layers(&self, image: &Image) -> Cow<'_, Layers> {
        let of = |name: &str| image.config(ResourceType::BROKER, name);
        let (default, own) = (of(""), of(&self.broker.node_id.to_string()));
        if default.is_none() && own.is_none() {
            return Cow::Borrowed(&self.broker.layers);
        }
        let set = |map: Option<&Arc<ConfigMap>>| map.map(|map| (**map).clone()).unwrap_or_default();
        let layers = self.broker.layers.clone();
        Cow::Owned(Layers { dynamic_default: set(default), dynamic_broker: set(own), ..layers })
    }

    /// The node's configuration with the dynamic values of `image`. Values that contradict each other were refused
    /// when they were set; should there be some nevertheless, what the node was started with counts.
    fn broker(&self, image: &Image) -> Cow<'_, BrokerConfig> {
        let of = |name: &str| image.config(ResourceType::BROKER, name);
        let own = self.broker.node_id.to_string();
        let (default, own) = (of(""), of(&own));
        if default.is_none() && own.is_none() {
            return Cow::Borrowed(&self.broker);
        }
        let none = ConfigMap::new();
        let reconfigured =
            self.broker.reconfigure(default.map_or(&none, |map| map), own.map_or(&none, |map| map));
        reconfigured.map_or(Cow::Borrowed(&self.broker), |(broker, _)| Cow::Owned(broker))
    }
}

impl ConfigRules for TableRules {
    fn validate(
        &self,
        image: &Image,
        kind: ResourceType,
        resource: &str,
        values: &ConfigMap,
    ) -> Result<(), ApiError> {
        // Kafka tells bad values of brokers with another code than most others.
        let each = |check: &dyn Fn(&str, &str) -> Result<(), ApiError>| {
            values.iter().try_for_each(|(key, value)| check(key, value))
        };
        match kind {
            ResourceType::TOPIC => TopicConfig::resolve_over(values, &self.layers(image))
                .map(drop)
                .map_err(refused(ErrorCode::InvalidConfig)),
            ResourceType::BROKER => each(&|key, value| {
                validate_broker_config(key, value, !resource.is_empty())
                    .map_err(refused(ErrorCode::InvalidRequest))
            }),
            ResourceType::GROUP => {
                validate_group(values, &self.broker).map_err(refused(ErrorCode::InvalidConfig))
            }
            ResourceType::CLIENT_METRICS => each(&|key, value| {
                // So it does with what it checks by itself and not by the definition of the key.
                let is_out_of_range = key == "interval.ms" && value.trim().parse::<i32>().is_ok();
                let code = match client_metrics_table().get(key) {
                    Some(_) if !is_out_of_range => ErrorCode::InvalidConfig,
                    _ => ErrorCode::InvalidRequest,
                };
                validate_client_metrics_config(key, value).map_err(refused(code))
            }),
            _ => Ok(()),
        }
    }

    fn is_list(&self, kind: ResourceType, key: &str) -> bool {
        match kind {
            ResourceType::TOPIC => is_list_key(topic_table(), key),
            ResourceType::BROKER => is_list_key(broker_table(), key),
            ResourceType::GROUP => is_list_key(group_table(), key),
            ResourceType::CLIENT_METRICS => is_list_key(client_metrics_table(), key),
            _ => false,
        }
    }

    fn inherited(&self, image: &Image, kind: ResourceType, key: &str) -> Option<String> {
        let find = |entries: Vec<ConfigEntry>| entries.into_iter().find(|entry| entry.name == key)?.value;
        match kind {
            ResourceType::TOPIC => find(describe_topic(&ConfigMap::new(), &self.layers(image))),
            ResourceType::GROUP => find(describe_group(&ConfigMap::new(), &self.broker(image))),
            ResourceType::BROKER => self.broker(image).layers.effective(key).map(str::to_owned),
            _ => None,
        }
    }

    fn effective_topic_config(&self, image: &Image, values: &ConfigMap) -> Vec<EffectiveConfig> {
        let entries = describe_topic(values, &self.layers(image)).into_iter();
        let entries = entries.map(|entry| EffectiveConfig {
            name: entry.name,
            value: entry.value,
            read_only: entry.read_only,
            source: entry.source as i8,
            sensitive: entry.sensitive,
        });
        entries.collect()
    }
}

fn refused(code: ErrorCode) -> impl Fn(ConfigError) -> ApiError {
    move |error| ApiError::new(code, error.to_clients())
}

impl Settings {
    /// The numbers of a node's configuration that decisions need.
    pub fn of(broker: &BrokerConfig) -> Settings {
        Settings {
            node_id: NodeId(broker.node_id),
            default_partitions: broker.num_partitions,
            default_replication_factor: broker.replication.default_replication_factor,
            min_insync_replicas: broker.topic_defaults.min_insync_replicas,
            unclean_leader_election: broker.topic_defaults.unclean_leader_election,
            delete_topic_enable: broker.delete_topics,
            tokens: broker.tokens.clone(),
        }
    }
}

impl InternalTopic {
    /// The numbers of `__consumer_offsets`.
    pub fn of_consumer_offsets(broker: &BrokerConfig) -> InternalTopic {
        InternalTopic {
            partitions: broker.offsets.num_partitions,
            replication_factor: broker.offsets.replication_factor,
            segment_bytes: broker.offsets.segment_bytes,
        }
    }

    /// The numbers of `__transaction_state`.
    pub fn of_transaction_state(broker: &BrokerConfig) -> InternalTopic {
        InternalTopic {
            partitions: broker.transactions.num_partitions,
            replication_factor: broker.transactions.replication_factor,
            segment_bytes: broker.transactions.segment_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ottla_metadata::Replayer;
    use ottla_protocol::messages::config_record::ConfigRecord;
    use ottla_protocol::messages::metadata_record::MetadataRecord;

    fn rules() -> TableRules {
        let given = [("node.id", "1"), ("log.dirs", "/a,/b")];
        let given = given.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        TableRules::new(BrokerConfig::resolve(&given).expect("resolves").0)
    }

    /// An image in which `key` is set for `broker`.
    fn image(broker: &str, key: &str, value: &str) -> Image {
        let record = ConfigRecord {
            resource_type: ResourceType::BROKER.0,
            resource_name: Cow::Borrowed(broker),
            name: Cow::Borrowed(key),
            value: Some(Cow::Borrowed(value)),
        };
        let mut replayer = Replayer::new(Image::empty("cluster"));
        replayer.replay(&MetadataRecord::ConfigRecord(record), 0).expect("fits");
        replayer.image().clone()
    }

    fn together(image: &Image, broker: &str, key: &str, value: &str) -> bool {
        let values = ConfigMap::from([(key.to_owned(), value.to_owned())]);
        rules().validate_together(image, broker, &values).is_ok()
    }

    #[test]
    fn what_is_set_for_one_broker_has_to_fit_what_is_set_for_all() {
        let (threads, memory) = ("log.cleaner.threads", "log.cleaner.dedupe.buffer.size");
        for (first, second) in [("", "1"), ("1", "")] {
            let four_threads = image(first, threads, "4");
            assert!(together(&four_threads, second, memory, "4194308"), "{first}");
            assert!(!together(&four_threads, second, memory, "4194304"), "{first}");
        }
        assert!(together(&Image::empty("cluster"), "1", memory, "4194304"));
        let lag = image("", "log.cleaner.max.compaction.lag.ms", "1000");
        let topic = |value: &str| {
            let values = ConfigMap::from([("min.compaction.lag.ms".to_owned(), value.to_owned())]);
            rules().validate(&lag, ResourceType::TOPIC, "t", &values).is_ok()
        };
        assert!(topic("1000") && !topic("1001"));
    }

    #[test]
    fn directories_are_those_of_the_node_that_has_them() {
        let image = Image::empty("cluster");
        assert!(together(&image, "1", "cordoned.log.dirs", "/a"));
        assert!(!together(&image, "1", "cordoned.log.dirs", "/elsewhere"));
        assert!(together(&image, "2", "cordoned.log.dirs", "/elsewhere"), "node 2 may have it");
    }
}
