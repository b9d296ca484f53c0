//! The way back: an image becomes the records that recreate it.
//!
//! The tricky idea: order matters to readers. metadata.version comes first because it says how to read the rest; a
//! topic comes before its partitions. Records borrow from the image, so that a snapshot of a large cluster copies no
//! strings before they are encoded.

use crate::features::METADATA_VERSION;
use crate::image::Image;
use crate::metadata_version::MetadataVersion;
use ottla_protocol::messages::metadata_record::MetadataRecord;
use ottla_protocol::messages::{
    access_control_entry_record::AccessControlEntryRecord,
    client_quota_record::{ClientQuotaRecord, EntityData},
    config_record::ConfigRecord,
    delegation_token_record::DelegationTokenRecord,
    feature_level_record::FeatureLevelRecord,
    producer_ids_record::ProducerIdsRecord,
    register_broker_record::{BrokerEndpoint, BrokerFeature, RegisterBrokerRecord},
    register_controller_record::{ControllerEndpoint, ControllerFeature, RegisterControllerRecord},
    topic_record::TopicRecord,
    user_scram_credential_record::UserScramCredentialRecord,
};
use std::borrow::Cow;

impl Image {
    /// The records of a snapshot: replayed into an empty image they give this one.
    pub fn to_records(&self) -> Vec<MetadataRecord<'_>> {
        let mut records = Vec::with_capacity(self.partition_count + 2 * self.topics.len() + 64);
        self.visit_records(&mut |record| records.push(record));
        records
    }

    /// Hands each record of a snapshot to `visit`, in order.
    pub fn visit_records<'a>(&'a self, visit: &mut dyn FnMut(MetadataRecord<'a>)) {
        self.visit_features(visit);
        self.visit_nodes(visit);
        self.visit_topics(visit);
        self.visit_configs(visit);
        self.visit_quotas(visit);
        if self.next_producer_id > 0 {
            visit(MetadataRecord::ProducerIdsRecord(ProducerIdsRecord {
                broker_id: -1,
                broker_epoch: -1,
                next_producer_id: self.next_producer_id,
            }));
        }
        self.visit_security(visit);
    }

    fn visit_features<'a>(&'a self, visit: &mut dyn FnMut(MetadataRecord<'a>)) {
        let (first, others): (Vec<_>, Vec<_>) =
            self.features.iter().partition(|(name, _)| &***name == METADATA_VERSION);
        for (name, level) in first.into_iter().chain(others) {
            let record = FeatureLevelRecord { name: Cow::Borrowed(name), feature_level: *level };
            visit(MetadataRecord::FeatureLevelRecord(record));
        }
    }

    fn visit_nodes<'a>(&'a self, visit: &mut dyn FnMut(MetadataRecord<'a>)) {
        for broker in self.brokers.values() {
            visit(MetadataRecord::RegisterBrokerRecord(RegisterBrokerRecord {
                broker_id: broker.id.0,
                is_migrating_zk_broker: false,
                incarnation_id: broker.incarnation_id,
                broker_epoch: broker.broker_epoch,
                end_points: broker
                    .endpoints
                    .iter()
                    .map(|endpoint| BrokerEndpoint {
                        name: Cow::Borrowed(&endpoint.name),
                        host: Cow::Borrowed(&endpoint.host),
                        port: endpoint.port,
                        security_protocol: endpoint.security_protocol,
                    })
                    .collect(),
                features: broker
                    .features
                    .iter()
                    .map(|range| BrokerFeature {
                        name: Cow::Borrowed(&range.name),
                        min_supported_version: range.min,
                        max_supported_version: range.max,
                    })
                    .collect(),
                rack: broker.rack.as_deref().map(Cow::Borrowed),
                fenced: broker.fenced,
                in_controlled_shutdown: broker.in_controlled_shutdown,
                log_dirs: broker.log_dirs.clone(),
                cordoned_log_dirs: broker.cordoned_log_dirs.clone(),
            }));
        }
        for controller in self.controllers.values() {
            visit(MetadataRecord::RegisterControllerRecord(RegisterControllerRecord {
                controller_id: controller.id.0,
                incarnation_id: controller.incarnation_id,
                zk_migration_ready: false,
                end_points: controller
                    .endpoints
                    .iter()
                    .map(|endpoint| ControllerEndpoint {
                        name: Cow::Borrowed(&endpoint.name),
                        host: Cow::Borrowed(&endpoint.host),
                        port: endpoint.port,
                        security_protocol: endpoint.security_protocol,
                    })
                    .collect(),
                features: controller
                    .features
                    .iter()
                    .map(|range| ControllerFeature {
                        name: Cow::Borrowed(&range.name),
                        min_supported_version: range.min,
                        max_supported_version: range.max,
                    })
                    .collect(),
            }));
        }
    }

    fn visit_topics<'a>(&'a self, visit: &mut dyn FnMut(MetadataRecord<'a>)) {
        let version = self.metadata_version().unwrap_or(MetadataVersion::LATEST);
        for topic in self.topics.values() {
            let record = TopicRecord { name: Cow::Borrowed(&topic.name), topic_id: topic.id.0 };
            visit(MetadataRecord::TopicRecord(record));
            for (index, partition) in topic.partitions.iter() {
                visit(MetadataRecord::PartitionRecord(partition.to_record(topic.id, *index, version)));
            }
        }
    }

    fn visit_configs<'a>(&'a self, visit: &mut dyn FnMut(MetadataRecord<'a>)) {
        for (kind, resources) in self.configs.iter() {
            for (resource, values) in resources.iter() {
                for (key, value) in values.iter() {
                    visit(MetadataRecord::ConfigRecord(ConfigRecord {
                        resource_type: kind.0,
                        resource_name: Cow::Borrowed(resource),
                        name: Cow::Borrowed(key),
                        value: Some(Cow::Borrowed(value)),
                    }));
                }
            }
        }
    }

    fn visit_quotas<'a>(&'a self, visit: &mut dyn FnMut(MetadataRecord<'a>)) {
        for (entity, quotas) in self.quotas.iter() {
            for (key, value) in quotas.iter() {
                let pairs = entity.pairs().iter();
                visit(MetadataRecord::ClientQuotaRecord(ClientQuotaRecord {
                    entity: pairs
                        .map(|(kind, name)| EntityData {
                            entity_type: Cow::Borrowed(kind),
                            entity_name: name.as_deref().map(Cow::Borrowed),
                        })
                        .collect(),
                    key: Cow::Borrowed(key),
                    value: *value,
                    remove: false,
                }));
            }
        }
    }

    fn visit_security<'a>(&'a self, visit: &mut dyn FnMut(MetadataRecord<'a>)) {
        for acl in self.acls.values() {
            visit(MetadataRecord::AccessControlEntryRecord(AccessControlEntryRecord {
                id: acl.id,
                resource_type: acl.resource_type,
                resource_name: Cow::Borrowed(&acl.resource_name),
                pattern_type: acl.pattern_type,
                principal: Cow::Borrowed(&acl.principal),
                host: Cow::Borrowed(&acl.host),
                operation: acl.operation,
                permission_type: acl.permission_type,
            }));
        }
        for (user, credential) in self.scram.iter() {
            visit(MetadataRecord::UserScramCredentialRecord(UserScramCredentialRecord {
                name: Cow::Borrowed(&user.name),
                mechanism: user.mechanism,
                salt: Cow::Borrowed(&credential.salt),
                stored_key: Cow::Borrowed(&credential.stored_key),
                server_key: Cow::Borrowed(&credential.server_key),
                iterations: credential.iterations,
            }));
        }
        for token in self.tokens.values() {
            visit(MetadataRecord::DelegationTokenRecord(DelegationTokenRecord {
                owner: Cow::Borrowed(&token.owner),
                requester: Cow::Borrowed(&token.requester),
                renewers: token.renewers.iter().map(|renewer| Cow::Borrowed(&**renewer)).collect(),
                issue_timestamp: token.issue_timestamp,
                max_timestamp: token.max_timestamp,
                expiration_timestamp: token.expiration_timestamp,
                token_id: Cow::Borrowed(&token.token_id),
            }));
        }
    }
}
