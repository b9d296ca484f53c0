//! What every decision looks at: the image, the settings of this node, and the rules for configurations.
//!
//! The tricky idea: the image is the one with everything *appended*, committed or not, so that two requests in a row
//! can not both create the same topic; answers wait for the commit, decisions do not.

use crate::error::ApiError;
use crate::partition_change::{Election, PartitionChange};
use ottla_metadata::config::TokenSettings;
use ottla_metadata::{ConfigMap, Image, MetadataVersion, Partition, ResourceType, Topic};
use ottla_protocol::Uuid;
use ottla_protocol::ids::{NodeId, PartitionId};
use ottla_protocol::messages::metadata_record::MetadataRecord;

/// How many records one request of a user may write, and how many belong into one batch (Kafka's
/// `DEFAULT_MAX_RECORDS_PER_BATCH`).
pub const MAX_RECORDS_PER_BATCH: usize = 10_000;
/// How many partitions one CreateTopics may ask for (Kafka's `MAX_PARTITIONS_PER_BATCH`).
pub const MAX_PARTITIONS_PER_REQUEST: usize = 10_000;

/// What was decided: records to append, and what to answer when they are committed.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision<R> {
    /// The records, in order; none if nothing changes.
    pub records: Vec<MetadataRecord<'static>>,
    /// Whether the records must become one batch. Otherwise they may be split into batches of at most
    /// [`MAX_RECORDS_PER_BATCH`]: their order makes every prefix harmless.
    pub atomic: bool,
    /// The answer.
    pub response: R,
}

impl<R> Decision<R> {
    /// Records that belong together.
    pub(crate) fn atomic(records: Vec<MetadataRecord<'static>>, response: R) -> Decision<R> {
        Decision { records, atomic: true, response }
    }

    /// Nothing changes.
    pub fn without_records(response: R) -> Decision<R> {
        Decision::atomic(Vec::new(), response)
    }

    /// The same decision with another answer.
    pub fn map<S>(self, answer: impl FnOnce(R) -> S) -> Decision<S> {
        Decision { records: self.records, atomic: self.atomic, response: answer(self.response) }
    }

    /// Records that may be split.
    pub(crate) fn splittable(records: Vec<MetadataRecord<'static>>, response: R) -> Decision<R> {
        Decision { records, atomic: false, response }
    }
}

/// The plain numbers of this node's configuration that decisions need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// This node, whose dynamic broker configuration counts.
    pub node_id: NodeId,
    /// `num.partitions`.
    pub default_partitions: i32,
    /// `default.replication.factor`.
    pub default_replication_factor: i16,
    /// `min.insync.replicas` of the configuration file.
    pub min_insync_replicas: i32,
    /// `unclean.leader.election.enable` of the configuration file.
    pub unclean_leader_election: bool,
    /// `delete.topic.enable`.
    pub delete_topic_enable: bool,
    /// `delegation.token.*`.
    pub tokens: TokenSettings,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            node_id: NodeId(0),
            default_partitions: 1,
            default_replication_factor: 1,
            min_insync_replicas: 1,
            unclean_leader_election: false,
            delete_topic_enable: true,
            tokens: TokenSettings {
                secret: None,
                max_lifetime_ms: 604_800_000,
                expiry_ms: 86_400_000,
                check_interval_ms: 3_600_000,
            },
        }
    }
}

/// One value of a new topic as CreateTopics answers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EffectiveConfig {
    /// The key.
    pub name: String,
    /// The value; `None` if it is secret.
    pub value: Option<String>,
    /// Whether it can not be changed.
    pub read_only: bool,
    /// Kafka's number of the source: 1 topic, 2 broker, 3 default of brokers, 4 file, 5 default.
    pub source: i8,
    /// Whether the value is secret.
    pub sensitive: bool,
}

/// What the controller must know about configuration keys; the table of definitions knows it.
pub trait ConfigRules: Send + Sync + std::fmt::Debug {
    /// Whether `values` as a whole may be the configuration of a resource of that kind; else why not.
    fn validate(
        &self,
        image: &Image,
        kind: ResourceType,
        resource: &str,
        values: &ConfigMap,
    ) -> Result<(), ApiError>;
    /// Whether the key is a list, so that APPEND and SUBTRACT make sense.
    fn is_list(&self, kind: ResourceType, key: &str) -> bool;
    /// The value that a resource has for `key` when nothing is set on it.
    fn inherited(&self, image: &Image, kind: ResourceType, key: &str) -> Option<String>;
    /// Everything that would be in force for a topic on which `values` are set, ordered by key.
    fn effective_topic_config(&self, image: &Image, values: &ConfigMap) -> Vec<EffectiveConfig>;
}

/// Everything a decision looks at.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The state after everything appended.
    pub image: &'a Image,
    /// This node's settings.
    pub settings: &'a Settings,
    /// The rules for configurations.
    pub rules: &'a dyn ConfigRules,
}

impl Context<'_> {
    /// The level that gates record formats. A log without bootstrap records is treated as the oldest.
    pub fn metadata_version(&self) -> MetadataVersion {
        self.image.metadata_version().unwrap_or(MetadataVersion::MINIMUM)
    }

    /// `min.insync.replicas` of a topic: that of the topic, this node, the cluster or the file, but never more than
    /// the topic has replicas.
    pub(crate) fn min_isr(&self, topic: &Topic) -> usize {
        let key = "min.insync.replicas";
        let value = self.image.layered_topic_config(&topic.name, key, self.settings.node_id, key);
        let value =
            value.and_then(|text| text.trim().parse().ok()).unwrap_or(self.settings.min_insync_replicas);
        usize::try_from(value).unwrap_or(0).min(topic.replication_factor())
    }

    /// `unclean.leader.election.enable` of a topic.
    pub(crate) fn unclean_election(&self, topic: &Topic) -> bool {
        let key = "unclean.leader.election.enable";
        let value = self.image.layered_topic_config(&topic.name, key, self.settings.node_id, key);
        value.map_or(self.settings.unclean_leader_election, |text| text.trim().eq_ignore_ascii_case("true"))
    }

    /// Whether a broker may lead with a replica in this directory: alive, staying, and the directory online.
    pub(crate) fn may_lead(&self, broker: NodeId, directory: Uuid) -> bool {
        let registered = self.image.broker(broker);
        registered.is_some_and(|broker| broker.is_active() && broker.has_online_dir(directory))
    }

    /// A change of a partition that stays as it is so far. Who lacks records may lead if the topic allows it.
    pub(crate) fn partition_change<'p>(
        &self,
        topic: &Topic,
        index: PartitionId,
        partition: &'p Partition,
        may_lead: &'p dyn Fn(NodeId, Uuid) -> bool,
    ) -> PartitionChange<'p> {
        PartitionChange {
            partition,
            topic_id: topic.id,
            index,
            target: partition.clone(),
            election: if self.unclean_election(topic) { Election::Unclean } else { Election::Online },
            unclean_shutdown: None,
            elr_enabled: self.image.elr_enabled(),
            min_isr: self.min_isr(topic),
            metadata_version: self.metadata_version(),
            may_lead,
        }
    }

    /// The broker must be registered with this epoch.
    pub(crate) fn check_broker_epoch(&self, broker: NodeId, epoch: i64) -> Result<(), ApiError> {
        use ottla_protocol::ErrorCode::StaleBrokerEpoch;
        let registered = self
            .image
            .broker(broker)
            .ok_or_else(|| ApiError::new(StaleBrokerEpoch, format!("Broker {broker} is not registered.")))?;
        if registered.broker_epoch != epoch {
            let expected = registered.broker_epoch;
            let message = format!(
                "The broker epoch is {expected}; the request says {epoch}, which is an earlier life of broker {broker}."
            );
            return Err(ApiError::new(StaleBrokerEpoch, message));
        }
        Ok(())
    }
}
