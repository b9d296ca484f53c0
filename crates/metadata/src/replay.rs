//! Replay: one record changes the image. The same function runs on the leader, on followers and at recovery.
//!
//! The tricky idea: a record that does not fit (a change of a partition that is not there, words about a broker's
//! earlier life) means that this log is not the one we believe it to be. That is an error for the node to stop on,
//! never a thing to skip; and an image that returned an error must be thrown away.

use crate::broker::{Broker, ControllerNode, Endpoint, FeatureRange};
use crate::delta::Delta;
use crate::features::{KRAFT_VERSION, METADATA_VERSION};
use crate::image::Image;
use crate::quota::{QuotaEntity, Quotas};
use crate::replay_error::ReplayError;
use crate::resource::{ConfigMap, Resource, ResourceType};
use crate::security::{Acl, DelegationToken, ScramCredential, ScramUser};
use crate::topic::{Partition, Topic};
use crate::topic_name;
use ottla_protocol::ids::{NodeId, PartitionId, TopicId};
use ottla_protocol::messages::metadata_record::MetadataRecord;
use ottla_protocol::messages::{
    access_control_entry_record::AccessControlEntryRecord,
    broker_registration_change_record::BrokerRegistrationChangeRecord,
    client_quota_record::ClientQuotaRecord, config_record::ConfigRecord,
    delegation_token_record::DelegationTokenRecord, feature_level_record::FeatureLevelRecord,
    partition_change_record::PartitionChangeRecord, partition_record::PartitionRecord,
    register_broker_record::RegisterBrokerRecord, register_controller_record::RegisterControllerRecord,
    topic_record::TopicRecord, user_scram_credential_record::UserScramCredentialRecord,
};
use std::sync::Arc;

impl Image {
    /// Applies the record at `offset` and notes in `delta` what it changed. Begin, end and abort of metadata
    /// transactions change nothing here: see [`crate::Replayer`].
    pub fn replay(
        &mut self,
        record: &MetadataRecord<'_>,
        offset: i64,
        delta: &mut Delta,
    ) -> Result<(), ReplayError> {
        match record {
            MetadataRecord::RegisterBrokerRecord(record) => self.register_broker(record, delta),
            MetadataRecord::UnregisterBrokerRecord(record) => {
                self.unregister_broker(NodeId(record.broker_id), record.broker_epoch, delta)?;
            }
            MetadataRecord::TopicRecord(record) => self.create_topic(record, delta)?,
            MetadataRecord::PartitionRecord(record) => self.put_partition(record, delta)?,
            MetadataRecord::PartitionChangeRecord(record) => self.change_partition(record, delta)?,
            MetadataRecord::RemoveTopicRecord(record) => {
                self.remove_topic(TopicId(record.topic_id), delta)?
            }
            MetadataRecord::ClearElrRecord(record) => self.clear_elr(&record.topic_name, delta)?,
            MetadataRecord::ConfigRecord(record) => self.set_config(record, delta),
            MetadataRecord::FenceBrokerRecord(record) => {
                self.change_broker(NodeId(record.id), record.epoch, delta, |broker| broker.fenced = true)?;
            }
            MetadataRecord::UnfenceBrokerRecord(record) => {
                self.change_broker(NodeId(record.id), record.epoch, delta, |broker| broker.fenced = false)?;
            }
            MetadataRecord::BrokerRegistrationChangeRecord(record) => {
                self.change_registration(record, delta)?
            }
            MetadataRecord::RegisterControllerRecord(record) => self.register_controller(record, delta),
            MetadataRecord::UnregisterControllerRecord(record) => {
                let id = NodeId(record.controller_id);
                let old = self.controllers.remove(&id).ok_or(ReplayError::UnknownController(id))?;
                delta.controller_changed(id, Some(old), None);
            }
            MetadataRecord::FeatureLevelRecord(record) => self.set_feature(record, delta)?,
            MetadataRecord::ClientQuotaRecord(record) => self.set_quota(record, delta),
            MetadataRecord::ProducerIdsRecord(record) => {
                let (given, current) = (record.next_producer_id, self.next_producer_id);
                if given <= current {
                    return Err(ReplayError::ProducerIds { given, current });
                }
                self.next_producer_id = given;
            }
            MetadataRecord::AccessControlEntryRecord(record) => {
                self.acls.insert(record.id, Arc::new(acl(record)));
                delta.acls.insert(record.id);
            }
            MetadataRecord::RemoveAccessControlEntryRecord(record) => {
                self.acls.remove(&record.id).ok_or(ReplayError::UnknownAcl(record.id))?;
                delta.acls.insert(record.id);
            }
            MetadataRecord::UserScramCredentialRecord(record) => {
                let (user, credential) = scram(record);
                delta.scram.insert(user.clone());
                self.scram.insert(user, Arc::new(credential));
            }
            MetadataRecord::RemoveUserScramCredentialRecord(record) => {
                let user = ScramUser { mechanism: record.mechanism, name: text(&record.name) };
                self.scram.remove(&user);
                delta.scram.insert(user);
            }
            MetadataRecord::DelegationTokenRecord(record) => {
                let token = token(record);
                delta.tokens.insert(token.token_id.clone());
                self.tokens.insert(token.token_id.clone(), Arc::new(token));
            }
            MetadataRecord::RemoveDelegationTokenRecord(record) => {
                self.tokens.remove(&*record.token_id);
                delta.tokens.insert(text(&record.token_id));
            }
            // The migration from ZooKeeper is history; its marks in old logs mean nothing any more.
            MetadataRecord::ZkMigrationStateRecord(_)
            | MetadataRecord::NoOpRecord(_)
            | MetadataRecord::BeginTransactionRecord(_)
            | MetadataRecord::EndTransactionRecord(_)
            | MetadataRecord::AbortTransactionRecord(_) => {}
        }
        self.last_offset = offset;
        Ok(())
    }

    // ---- topics ---------------------------------------------------------------------------------------------------

    fn create_topic(&mut self, record: &TopicRecord, delta: &mut Delta) -> Result<(), ReplayError> {
        let (id, name) = (TopicId(record.topic_id), text(&record.name));
        if self.topic_ids.contains_key(&name) || self.topics.contains_key(&id) {
            return Err(ReplayError::DuplicateTopic(record.name.to_string()));
        }
        if topic_name::has_collision_characters(&name) {
            self.collision_names.insert((topic_name::unify(&name).into(), name.clone()));
        }
        self.topic_ids.insert(name.clone(), id);
        self.topics.insert(id, Arc::new(Topic { id, name, partitions: imbl::OrdMap::new() }));
        delta.topic_created(id);
        Ok(())
    }

    fn put_partition(&mut self, record: &PartitionRecord, delta: &mut Delta) -> Result<(), ReplayError> {
        let (id, index) = (TopicId(record.topic_id), PartitionId(record.partition_id));
        let topic = self.topics.get_mut(&id).ok_or(ReplayError::UnknownTopic(id))?;
        let new = Partition::from_record(record).map_err(|error| ReplayError::Partition(id, index, error))?;
        let new = Arc::new(new);
        let topic = Arc::make_mut(topic);
        let old = topic.partitions.insert(index, new.clone());
        self.partition_count += usize::from(old.is_none());
        delta.partition_changed(topic, index, old, new);
        Ok(())
    }

    fn change_partition(
        &mut self,
        record: &PartitionChangeRecord,
        delta: &mut Delta,
    ) -> Result<(), ReplayError> {
        let (id, index) = (TopicId(record.topic_id), PartitionId(record.partition_id));
        let topic = self.topics.get_mut(&id).ok_or(ReplayError::UnknownTopic(id))?;
        let topic = Arc::make_mut(topic);
        let old = topic.partitions.get(&index).ok_or(ReplayError::UnknownPartition(id, index))?.clone();
        let new = old.changed(record).map_err(|error| ReplayError::Partition(id, index, error))?;
        let new = Arc::new(new);
        topic.partitions.insert(index, new.clone());
        delta.partition_changed(topic, index, Some(old), new);
        Ok(())
    }

    fn remove_topic(&mut self, id: TopicId, delta: &mut Delta) -> Result<(), ReplayError> {
        let topic = self.topics.remove(&id).ok_or(ReplayError::UnknownTopic(id))?;
        self.topic_ids.remove(&topic.name);
        if topic_name::has_collision_characters(&topic.name) {
            self.collision_names.remove(&(topic_name::unify(&topic.name).into(), topic.name.clone()));
        }
        self.partition_count -= topic.partitions.len();
        if self.config(ResourceType::TOPIC, &topic.name).is_some() {
            self.put_config(ResourceType::TOPIC, topic.name.clone(), ConfigMap::new());
            delta.configs.insert(Resource { kind: ResourceType::TOPIC, name: topic.name.clone() });
        }
        delta.topic_deleted(&topic);
        Ok(())
    }

    /// Forgets eligible leader replicas of one topic, or of all when the name is empty. As in Kafka the partition
    /// epoch rises where there was something to forget.
    fn clear_elr(&mut self, name: &str, delta: &mut Delta) -> Result<(), ReplayError> {
        let ids: Vec<TopicId> = if name.is_empty() {
            self.topics.keys().copied().collect()
        } else {
            vec![self.topic_id(name).ok_or_else(|| ReplayError::UnknownTopicName(name.to_owned()))?]
        };
        for id in ids {
            let topic = self.topics.get(&id).ok_or(ReplayError::UnknownTopic(id))?;
            let with_elr =
                topic.partitions.iter().filter(|(_, p)| !p.elr.is_empty() || !p.last_known_elr.is_empty());
            let with_elr: Vec<PartitionId> = with_elr.map(|(index, _)| *index).collect();
            for index in with_elr {
                let change = PartitionChangeRecord {
                    partition_id: index.0,
                    topic_id: id.0,
                    eligible_leader_replicas: Some(Vec::new()),
                    last_known_elr: Some(Vec::new()),
                    ..Default::default()
                };
                self.change_partition(&change, delta)?;
            }
        }
        Ok(())
    }

    // ---- nodes ----------------------------------------------------------------------------------------------------

    fn register_broker(&mut self, record: &RegisterBrokerRecord, delta: &mut Delta) {
        let id = NodeId(record.broker_id);
        let endpoints = record.end_points.iter();
        let features = record.features.iter();
        let broker = Arc::new(Broker {
            id,
            broker_epoch: record.broker_epoch,
            incarnation_id: record.incarnation_id,
            endpoints: endpoints.map(|e| endpoint(&e.name, &e.host, e.port, e.security_protocol)).collect(),
            features: features
                .map(|f| range(&f.name, f.min_supported_version, f.max_supported_version))
                .collect(),
            rack: record.rack.as_deref().map(Arc::from),
            fenced: record.fenced,
            in_controlled_shutdown: record.in_controlled_shutdown,
            log_dirs: record.log_dirs.clone(),
            cordoned_log_dirs: record.cordoned_log_dirs.clone(),
        });
        let old = self.brokers.insert(id, broker.clone());
        delta.broker_changed(id, old, Some(broker));
    }

    fn registered(&self, id: NodeId, epoch: i64) -> Result<&Arc<Broker>, ReplayError> {
        let broker = self.brokers.get(&id).ok_or(ReplayError::UnknownBroker(id))?;
        if broker.broker_epoch != epoch {
            return Err(ReplayError::BrokerEpoch { broker: id, given: epoch, expected: broker.broker_epoch });
        }
        Ok(broker)
    }

    fn unregister_broker(&mut self, id: NodeId, epoch: i64, delta: &mut Delta) -> Result<(), ReplayError> {
        self.registered(id, epoch)?;
        let old = self.brokers.remove(&id);
        delta.broker_changed(id, old, None);
        Ok(())
    }

    fn change_broker(
        &mut self,
        id: NodeId,
        epoch: i64,
        delta: &mut Delta,
        change: impl FnOnce(&mut Broker),
    ) -> Result<(), ReplayError> {
        let old = self.registered(id, epoch)?.clone();
        let mut new = Broker::clone(&old);
        change(&mut new);
        if new != *old {
            let new = Arc::new(new);
            self.brokers.insert(id, new.clone());
            delta.broker_changed(id, Some(old), Some(new));
        }
        Ok(())
    }

    fn change_registration(
        &mut self,
        record: &BrokerRegistrationChangeRecord,
        delta: &mut Delta,
    ) -> Result<(), ReplayError> {
        let id = NodeId(record.broker_id);
        let fenced = match record.fenced {
            -1 => Some(false),
            0 => None,
            1 => Some(true),
            code => return Err(ReplayError::BrokerChange(id, code)),
        };
        let leaving = match record.in_controlled_shutdown {
            0 => false,
            1 => true,
            code => return Err(ReplayError::BrokerChange(id, code)),
        };
        self.change_broker(id, record.broker_epoch, delta, |broker| {
            broker.fenced = fenced.unwrap_or(broker.fenced);
            broker.in_controlled_shutdown |= leaving;
            if !record.log_dirs.is_empty() {
                broker.log_dirs.clone_from(&record.log_dirs);
            }
            if record.cordoned_log_dirs.is_some() {
                broker.cordoned_log_dirs.clone_from(&record.cordoned_log_dirs);
            }
        })
    }

    fn register_controller(&mut self, record: &RegisterControllerRecord, delta: &mut Delta) {
        let id = NodeId(record.controller_id);
        let endpoints = record.end_points.iter();
        let features = record.features.iter();
        let controller = Arc::new(ControllerNode {
            id,
            incarnation_id: record.incarnation_id,
            endpoints: endpoints.map(|e| endpoint(&e.name, &e.host, e.port, e.security_protocol)).collect(),
            features: features
                .map(|f| range(&f.name, f.min_supported_version, f.max_supported_version))
                .collect(),
        });
        let old = self.controllers.insert(id, controller.clone());
        delta.controller_changed(id, old, Some(controller));
    }

    // ---- the rest -------------------------------------------------------------------------------------------------

    fn set_config(&mut self, record: &ConfigRecord, delta: &mut Delta) {
        let kind = ResourceType(record.resource_type);
        let name = text(&record.resource_name);
        let mut values =
            self.config(kind, &name).map_or_else(ConfigMap::new, |values| ConfigMap::clone(values));
        match &record.value {
            Some(value) => values.insert(record.name.to_string(), value.to_string()),
            None => values.remove(&*record.name),
        };
        delta.configs.insert(Resource { kind, name: name.clone() });
        self.put_config(kind, name, values);
    }

    /// Stores the values of a resource; a resource without values, and a kind without resources, are not kept.
    fn put_config(&mut self, kind: ResourceType, name: Arc<str>, values: ConfigMap) {
        let mut resources = self.configs.get(&kind).cloned().unwrap_or_default();
        if values.is_empty() {
            resources.remove(&name);
        } else {
            resources.insert(name, Arc::new(values));
        }
        if resources.is_empty() {
            self.configs.remove(&kind);
        } else {
            self.configs.insert(kind, resources);
        }
    }

    fn set_feature(&mut self, record: &FeatureLevelRecord, delta: &mut Delta) -> Result<(), ReplayError> {
        let (name, level) = (text(&record.name), record.feature_level);
        if level < 0 {
            return Err(ReplayError::FeatureLevel(record.name.to_string(), level));
        }
        if &*name == KRAFT_VERSION {
            // Some logs contain it by mistake; the truth is in the control records (KAFKA-18979).
            return Ok(());
        }
        let old = self.feature_level(&name);
        if level == 0 && &*name != METADATA_VERSION {
            self.features.remove(&name);
        } else {
            self.features.insert(name.clone(), level);
        }
        delta.feature_changed(&name, old, level);
        Ok(())
    }

    fn set_quota(&mut self, record: &ClientQuotaRecord, delta: &mut Delta) {
        let pairs = record.entity.iter();
        let pairs = pairs.map(|e| (text(&e.entity_type), e.entity_name.as_deref().map(Arc::from)));
        let entity = QuotaEntity::new(pairs.collect());
        let mut quotas = self.quotas.get(&entity).map_or_else(Quotas::new, |quotas| Quotas::clone(quotas));
        if record.remove {
            quotas.remove(&*record.key);
        } else {
            quotas.insert(text(&record.key), record.value);
        }
        delta.quotas.insert(entity.clone());
        if quotas.is_empty() {
            self.quotas.remove(&entity);
        } else {
            self.quotas.insert(entity, Arc::new(quotas));
        }
    }
}

fn text(text: &str) -> Arc<str> {
    Arc::from(text)
}

fn endpoint(name: &str, host: &str, port: u16, security_protocol: i16) -> Endpoint {
    Endpoint { name: text(name), host: text(host), port, security_protocol }
}

fn range(name: &str, min: i16, max: i16) -> FeatureRange {
    FeatureRange { name: text(name), min, max }
}

fn acl(record: &AccessControlEntryRecord) -> Acl {
    Acl {
        id: record.id,
        resource_type: record.resource_type,
        resource_name: text(&record.resource_name),
        pattern_type: record.pattern_type,
        principal: text(&record.principal),
        host: text(&record.host),
        operation: record.operation,
        permission_type: record.permission_type,
    }
}

fn scram(record: &UserScramCredentialRecord) -> (ScramUser, ScramCredential) {
    let user = ScramUser { mechanism: record.mechanism, name: text(&record.name) };
    let credential = ScramCredential {
        salt: record.salt.to_vec(),
        stored_key: record.stored_key.to_vec(),
        server_key: record.server_key.to_vec(),
        iterations: record.iterations,
    };
    (user, credential)
}

fn token(record: &DelegationTokenRecord) -> DelegationToken {
    DelegationToken {
        token_id: text(&record.token_id),
        owner: text(&record.owner),
        requester: text(&record.requester),
        renewers: record.renewers.iter().map(|renewer| text(renewer)).collect(),
        issue_timestamp: record.issue_timestamp,
        max_timestamp: record.max_timestamp,
        expiration_timestamp: record.expiration_timestamp,
    }
}
