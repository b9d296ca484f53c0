//! Tests over the whole crate: a cluster made of records, a request, and what is decided.

mod acls;
mod alter_configs;
mod alter_partition;
mod assign_replicas_to_dirs;
mod bootstrap;
mod brokers;
mod controllers;
mod create_partitions;
mod create_topics;
mod delegation_tokens;
mod delete_topics;
mod elections;
mod internal_topics;
mod model;
mod partition_change;
mod placement;
mod producer_ids;
mod random;
mod reassignments;
mod update_features;

use crate::{Controller, Decision, Registration, Settings, TableRules, unlimited};
use ottla_metadata::config::BrokerConfig;
use ottla_metadata::topic::{NO_LEADER_CHANGE, NO_RECOVERY_CHANGE};
use ottla_metadata::{Image, MetadataVersion, Partition, Replayer, features};
use ottla_protocol::Uuid;
use ottla_protocol::ids::{NodeId, PartitionId};
use ottla_protocol::messages::broker_registration_request::{BrokerRegistrationRequest, Feature, Listener};
use ottla_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use ottla_protocol::messages::metadata_record::MetadataRecord;
use ottla_protocol::messages::partition_change_record::PartitionChangeRecord;
use std::borrow::Cow;
use std::collections::BTreeMap;

pub(super) type Record = MetadataRecord<'static>;

pub(super) fn uuid(byte: u8) -> Uuid {
    Uuid([byte; 16])
}

/// The directory of a test broker.
pub(super) fn dir(broker: i32) -> Uuid {
    uuid(100 + broker as u8)
}

/// A controller and the log that it wrote.
pub(super) struct Cluster {
    pub(super) controller: Controller,
    pub(super) log: Vec<Record>,
}

impl Cluster {
    /// Bootstrapped, without brokers.
    pub(super) fn bare(chosen: &[(&str, i16)], settings: Settings, seed: u64) -> Cluster {
        Cluster::at(MetadataVersion::LATEST, chosen, settings, seed)
    }

    /// Without brokers, at an older metadata.version.
    pub(super) fn with_metadata_version(level: i16) -> Cluster {
        Cluster::at(MetadataVersion(level), &[], Settings::default(), 42)
    }

    fn at(level: MetadataVersion, chosen: &[(&str, i16)], settings: Settings, seed: u64) -> Cluster {
        let replayer = Replayer::new(Image::empty("cluster"));
        let mut cluster =
            Cluster { controller: Controller::new(replayer, settings, rules(), seed), log: Vec::new() };
        let bootstrap = crate::bootstrap_records(level, chosen);
        let activation = cluster.controller.activation(&bootstrap);
        cluster.append(activation);
        cluster
    }

    /// With `brokers` unfenced brokers 1, 2, 3 and so on; each has one directory.
    pub(super) fn with(brokers: i32) -> Cluster {
        Cluster::with_features(brokers, &[])
    }

    pub(super) fn with_features(brokers: i32, chosen: &[(&str, i16)]) -> Cluster {
        let settings = Settings { node_id: NodeId(1), ..Settings::default() };
        let mut cluster = Cluster::bare(chosen, settings, 42);
        for id in 1..=brokers {
            cluster.register(id, id as u8, -1);
            cluster.unfence(id);
        }
        cluster
    }

    /// Appends and replays what was decided; gives the response.
    pub(super) fn append<R>(&mut self, decision: Decision<R>) -> R {
        for record in decision.records {
            let offset = self.log.len() as i64;
            self.controller.replay(&record, offset).expect("decisions fit");
            self.log.push(record);
        }
        decision.response
    }

    pub(super) fn registration(&self) -> Registration {
        Registration {
            version: 4,
            next_offset: self.log.len() as i64,
            has_live_session: false,
            kraft_version: 1,
        }
    }

    /// Registers an incarnation; gives the broker epoch.
    pub(super) fn register(&mut self, id: i32, incarnation: u8, previous_epoch: i64) -> i64 {
        let request = registration_request(id, incarnation, previous_epoch);
        let decision = self.controller.register_broker(&request, self.registration()).expect("accepted");
        self.append(decision).broker_epoch
    }

    pub(super) fn unfence(&mut self, id: i32) {
        let decision = self.controller.unfence_broker(NodeId(id)).expect("registered");
        self.append(decision);
    }

    pub(super) fn fence(&mut self, id: i32) {
        let decision = self.controller.fence_broker(NodeId(id)).expect("registered");
        self.append(decision);
    }

    pub(super) fn create(&mut self, topics: Vec<CreatableTopic<'static>>) {
        let request = CreateTopicsRequest { topics, ..Default::default() };
        let decision = self.controller.create_topics(&request, &mut unlimited);
        let response = self.append(decision);
        for topic in response.topics {
            assert_eq!(topic.error_code, 0, "{:?}", topic.error_message);
        }
    }

    pub(super) fn partition(&self, topic: &str, index: i32) -> Partition {
        let topic = self.controller.image().topic_by_name(topic).expect("there");
        Partition::clone(topic.partitions.get(&PartitionId(index)).expect("there"))
    }

    pub(super) fn broker_epoch(&self, id: i32) -> i64 {
        self.controller.image().broker(NodeId(id)).expect("registered").broker_epoch
    }

    /// What changes when a partition changes without anybody asking.
    pub(super) fn change(&mut self, topic: &str, index: i32, set: impl FnOnce(&mut PartitionChangeRecord)) {
        let topic_id = self.controller.image().topic_id(topic).expect("there").0;
        let mut record = PartitionChangeRecord {
            topic_id,
            partition_id: index,
            leader: NO_LEADER_CHANGE,
            leader_recovery_state: NO_RECOVERY_CHANGE,
            ..Default::default()
        };
        set(&mut record);
        let records = vec![MetadataRecord::PartitionChangeRecord(record)];
        self.append(Decision { records, atomic: true, response: () });
    }

    /// What changes when somebody sets a value without asking.
    pub(super) fn set_config(&mut self, kind: i8, resource: &str, key: &str, value: Option<&str>) {
        let record = MetadataRecord::ConfigRecord(ottla_protocol::messages::config_record::ConfigRecord {
            resource_type: kind,
            resource_name: Cow::Owned(resource.to_owned()),
            name: Cow::Owned(key.to_owned()),
            value: value.map(|value| Cow::Owned(value.to_owned())),
        });
        self.append(Decision { records: vec![record], atomic: true, response: () });
    }
}

pub(super) fn broker_config() -> BrokerConfig {
    let given = [
        ("node.id", "1"),
        ("process.roles", "broker,controller"),
        ("listeners", "PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093"),
        ("controller.listener.names", "CONTROLLER"),
        ("controller.quorum.voters", "1@localhost:9093"),
    ];
    let given: BTreeMap<String, String> =
        given.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    BrokerConfig::resolve(&given).expect("valid").0
}

fn rules() -> Box<TableRules> {
    Box::new(TableRules::new(broker_config()))
}

pub(super) fn registration_request(
    id: i32,
    incarnation: u8,
    previous_epoch: i64,
) -> BrokerRegistrationRequest<'static> {
    let features = features::supported().map(|(name, min, max)| Feature {
        name: Cow::Borrowed(name),
        min_supported_version: min,
        max_supported_version: max,
    });
    BrokerRegistrationRequest {
        broker_id: id,
        cluster_id: Cow::Borrowed("cluster"),
        incarnation_id: uuid(incarnation),
        listeners: vec![Listener {
            name: Cow::Borrowed("PLAINTEXT"),
            host: Cow::Borrowed("localhost"),
            port: 9092,
            security_protocol: 0,
        }],
        features: features.collect(),
        log_dirs: vec![dir(id)],
        previous_broker_epoch: previous_epoch,
        ..Default::default()
    }
}

/// A topic to create, with defaults for what is -1.
pub(super) fn topic(name: &str, partitions: i32, factor: i16) -> CreatableTopic<'static> {
    CreatableTopic {
        name: Cow::Owned(name.to_owned()),
        num_partitions: partitions,
        replication_factor: factor,
        ..Default::default()
    }
}

/// A topic to create with chosen replicas.
pub(super) fn assigned(name: &str, assignments: &[(i32, &[i32])]) -> CreatableTopic<'static> {
    let assignments = assignments.iter().map(|(index, replicas)| CreatableReplicaAssignment {
        partition_index: *index,
        broker_ids: replicas.to_vec(),
    });
    CreatableTopic { assignments: assignments.collect(), ..topic(name, -1, -1) }
}

/// The topic with these values.
pub(super) fn configured(
    topic: CreatableTopic<'static>,
    configs: &[(&str, Option<&str>)],
) -> CreatableTopic<'static> {
    let configs = configs.iter().map(|(name, value)| CreatableTopicConfig {
        name: Cow::Owned((*name).to_owned()),
        value: value.map(|value| Cow::Owned(value.to_owned())),
    });
    CreatableTopic { configs: configs.collect(), ..topic }
}
