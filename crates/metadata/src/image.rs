//! The `Image`: everything the metadata log has said up to some offset, immutable for its readers.
//!
//! The tricky idea: every map is persistent and every entry is behind an `Arc`, so a clone costs a handful of pointer
//! copies however many partitions there are. The one writer replays into its own image; readers hold clones. All maps
//! are ordered by key: two nodes that replayed the same records walk them in the same order.

use crate::broker::{Broker, ControllerNode};
use crate::features::{self, Feature};
use crate::metadata_version::MetadataVersion;
use crate::quota::{QuotaEntity, Quotas};
use crate::resource::{ConfigMap, ResourceType};
use crate::security::{Acl, DelegationToken, ScramCredential, ScramUser};
use crate::topic::{Partition, Topic};
use crate::topic_name;
use imbl::{OrdMap, OrdSet};
use ottla_protocol::Uuid;
use ottla_protocol::ids::{NodeId, PartitionId, TopicId};
use std::ops::Bound;
use std::sync::Arc;

/// The state of the cluster. Clone freely; change only through [`Image::replay`].
#[derive(Debug, Clone)]
pub struct Image {
    pub(crate) cluster_id: Arc<str>,
    pub(crate) last_offset: i64,
    pub(crate) features: OrdMap<Arc<str>, i16>,
    pub(crate) brokers: OrdMap<NodeId, Arc<Broker>>,
    pub(crate) controllers: OrdMap<NodeId, Arc<ControllerNode>>,
    pub(crate) topics: OrdMap<TopicId, Arc<Topic>>,
    pub(crate) topic_ids: OrdMap<Arc<str>, TopicId>,
    /// (unified name, name) of every topic whose name could collide with another one.
    pub(crate) collision_names: OrdSet<(Arc<str>, Arc<str>)>,
    pub(crate) partition_count: usize,
    pub(crate) configs: OrdMap<ResourceType, OrdMap<Arc<str>, Arc<ConfigMap>>>,
    pub(crate) quotas: OrdMap<QuotaEntity, Arc<Quotas>>,
    pub(crate) acls: OrdMap<Uuid, Arc<Acl>>,
    pub(crate) scram: OrdMap<ScramUser, Arc<ScramCredential>>,
    pub(crate) tokens: OrdMap<Arc<str>, Arc<DelegationToken>>,
    pub(crate) next_producer_id: i64,
}

/// Equality of facts: how far the image has read is not one of them.
impl PartialEq for Image {
    fn eq(&self, other: &Image) -> bool {
        self.cluster_id == other.cluster_id
            && self.features == other.features
            && self.brokers == other.brokers
            && self.controllers == other.controllers
            && self.topics == other.topics
            && self.topic_ids == other.topic_ids
            && self.collision_names == other.collision_names
            && self.partition_count == other.partition_count
            && self.configs == other.configs
            && self.quotas == other.quotas
            && self.acls == other.acls
            && self.scram == other.scram
            && self.tokens == other.tokens
            && self.next_producer_id == other.next_producer_id
    }
}

impl Image {
    /// The image of an empty log of the cluster `cluster_id` (a fact of `meta.properties`, not of the log).
    pub fn empty(cluster_id: &str) -> Image {
        Image {
            cluster_id: cluster_id.into(),
            last_offset: -1,
            features: OrdMap::new(),
            brokers: OrdMap::new(),
            controllers: OrdMap::new(),
            topics: OrdMap::new(),
            topic_ids: OrdMap::new(),
            collision_names: OrdSet::new(),
            partition_count: 0,
            configs: OrdMap::new(),
            quotas: OrdMap::new(),
            acls: OrdMap::new(),
            scram: OrdMap::new(),
            tokens: OrdMap::new(),
            next_producer_id: 0,
        }
    }

    /// The cluster's id.
    pub fn cluster_id(&self) -> &Arc<str> {
        &self.cluster_id
    }

    /// The offset of the last record that was replayed; -1 before the first.
    pub fn last_offset(&self) -> i64 {
        self.last_offset
    }

    // ---- features -------------------------------------------------------------------------------------------------

    /// The finalised levels above 0, by name; metadata.version among them once the log has named it.
    pub fn features(&self) -> &OrdMap<Arc<str>, i16> {
        &self.features
    }

    /// The finalised level of a feature; 0 when the log has not named it.
    pub fn feature_level(&self, name: &str) -> i16 {
        self.features.get(name).copied().unwrap_or(0)
    }

    /// The finalised metadata.version; `None` while the log has no bootstrap records.
    pub fn metadata_version(&self) -> Option<MetadataVersion> {
        self.features.get(features::METADATA_VERSION).map(|level| MetadataVersion(*level))
    }

    /// Whether eligible leader replicas are kept (KIP-966).
    pub fn elr_enabled(&self) -> bool {
        self.feature_level(features::ELIGIBLE_LEADER_REPLICAS_VERSION) >= 1
    }

    /// The finalised levels that no release up to this one knows. A node with such an image must not serve.
    pub fn unknown_features(&self) -> Vec<(Arc<str>, i16)> {
        self.features_that(|feature, level| feature.is_none_or(|feature| !feature.is_known(level)))
    }

    /// The finalised levels that this software does not serve, though it can leave alone what they mean.
    pub fn unserved_features(&self) -> Vec<(Arc<str>, i16)> {
        self.features_that(|feature, level| feature.is_some_and(|feature| !feature.supports(level)))
    }

    fn features_that(&self, wanted: impl Fn(Option<&Feature>, i16) -> bool) -> Vec<(Arc<str>, i16)> {
        let found = self.features.iter().filter(|(name, level)| wanted(features::find(name), **level));
        found.map(|(name, level)| (name.clone(), *level)).collect()
    }

    // ---- nodes ----------------------------------------------------------------------------------------------------

    /// Every registered broker, by id.
    pub fn brokers(&self) -> &OrdMap<NodeId, Arc<Broker>> {
        &self.brokers
    }

    /// A registered broker.
    pub fn broker(&self, id: NodeId) -> Option<&Arc<Broker>> {
        self.brokers.get(&id)
    }

    /// Whether the broker is registered, unfenced and not shutting down.
    pub fn is_active(&self, id: NodeId) -> bool {
        self.brokers.get(&id).is_some_and(|broker| broker.is_active())
    }

    /// Every registered controller, by id.
    pub fn controllers(&self) -> &OrdMap<NodeId, Arc<ControllerNode>> {
        &self.controllers
    }

    // ---- topics ---------------------------------------------------------------------------------------------------

    /// Every topic, by id.
    pub fn topics(&self) -> &OrdMap<TopicId, Arc<Topic>> {
        &self.topics
    }

    /// Every topic in the order of names.
    pub fn topics_by_name(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.topic_ids.values().filter_map(|id| self.topics.get(id))
    }

    /// The names of topics in ascending order, those behind `after`.
    pub fn topic_names_after(&self, after: Option<&str>) -> impl Iterator<Item = &Arc<str>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.topic_ids.range::<_, str>((from, Bound::Unbounded)).map(|(name, _)| name)
    }

    /// The topic with that id.
    pub fn topic(&self, id: TopicId) -> Option<&Arc<Topic>> {
        self.topics.get(&id)
    }

    /// The topic with that name.
    pub fn topic_by_name(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics.get(self.topic_ids.get(name)?)
    }

    /// The id of the topic with that name.
    pub fn topic_id(&self, name: &str) -> Option<TopicId> {
        self.topic_ids.get(name).copied()
    }

    /// A partition.
    pub fn partition(&self, topic: TopicId, partition: PartitionId) -> Option<&Arc<Partition>> {
        self.topics.get(&topic)?.partitions.get(&partition)
    }

    /// Every partition of every topic.
    pub fn partitions(&self) -> impl Iterator<Item = (&Arc<Topic>, PartitionId, &Arc<Partition>)> {
        self.topics.values().flat_map(|topic| topic.partitions.iter().map(move |(id, p)| (topic, *id, p)))
    }

    /// How many partitions there are in all topics.
    pub fn partition_count(&self) -> usize {
        self.partition_count
    }

    /// An existing topic whose name would share its metrics with `name`: the same but for '.' and '_'. The topic of
    /// exactly that name counts too.
    pub fn colliding_topic(&self, name: &str) -> Option<&Arc<str>> {
        if !topic_name::has_collision_characters(name) {
            return None;
        }
        let unified: Arc<str> = topic_name::unify(name).into();
        let from = (unified.clone(), Arc::from(""));
        self.collision_names.range(from..).next().filter(|(key, _)| *key == unified).map(|(_, name)| name)
    }

    // ---- the rest -------------------------------------------------------------------------------------------------

    /// The values set on one resource; `None` when there is none.
    pub fn config(&self, kind: ResourceType, name: &str) -> Option<&Arc<ConfigMap>> {
        self.configs.get(&kind)?.get(name)
    }

    /// One value set on one resource.
    pub fn config_value(&self, kind: ResourceType, name: &str, key: &str) -> Option<&str> {
        self.config(kind, name)?.get(key).map(String::as_str)
    }

    /// Every resource of a kind that has values, by name.
    pub fn configs(&self, kind: ResourceType) -> impl Iterator<Item = (&Arc<str>, &Arc<ConfigMap>)> {
        self.configs.get(&kind).into_iter().flat_map(|resources| resources.iter())
    }

    /// The value that a topic key has for `node`, without the static configuration: that of the topic, else that of
    /// the node, else that of all brokers. `broker_key` is the key's name on brokers (`retention.ms` is
    /// `log.retention.ms` there).
    pub fn layered_topic_config(
        &self,
        topic: &str,
        key: &str,
        node: NodeId,
        broker_key: &str,
    ) -> Option<&str> {
        let of_broker = |name: &str| self.config_value(ResourceType::BROKER, name, broker_key);
        self.config_value(ResourceType::TOPIC, topic, key)
            .or_else(|| of_broker(&node.0.to_string()))
            .or_else(|| of_broker(""))
    }

    /// Client quotas, by entity.
    pub fn quotas(&self) -> &OrdMap<QuotaEntity, Arc<Quotas>> {
        &self.quotas
    }

    /// Access control entries, by id.
    pub fn acls(&self) -> &OrdMap<Uuid, Arc<Acl>> {
        &self.acls
    }

    /// SCRAM credentials, by mechanism and user.
    pub fn scram_credentials(&self) -> &OrdMap<ScramUser, Arc<ScramCredential>> {
        &self.scram
    }

    /// Delegation tokens, by id.
    pub fn delegation_tokens(&self) -> &OrdMap<Arc<str>, Arc<DelegationToken>> {
        &self.tokens
    }

    /// The first producer id that no block has given away.
    pub fn next_producer_id(&self) -> i64 {
        self.next_producer_id
    }
}
