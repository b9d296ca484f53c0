//! Each record type: what it makes of the image, and what it may not say.

use super::{
    Record, broker, change, config, feature, partition, remove, replay, replay_on, topic, topic_id, uuid,
};
use crate::resource::ResourceType;
use crate::topic::nodes;
use crate::{Image, MetadataVersion, ReplayError};
use ottla_protocol::ids::{LeaderEpoch, NodeId, PartitionId};
use ottla_protocol::messages::access_control_entry_record::AccessControlEntryRecord;
use ottla_protocol::messages::broker_registration_change_record::BrokerRegistrationChangeRecord;
use ottla_protocol::messages::clear_elr_record::ClearElrRecord;
use ottla_protocol::messages::client_quota_record::{ClientQuotaRecord, EntityData};
use ottla_protocol::messages::delegation_token_record::DelegationTokenRecord;
use ottla_protocol::messages::fence_broker_record::FenceBrokerRecord;
use ottla_protocol::messages::metadata_record::MetadataRecord;
use ottla_protocol::messages::no_op_record::NoOpRecord;
use ottla_protocol::messages::producer_ids_record::ProducerIdsRecord;
use ottla_protocol::messages::register_controller_record::RegisterControllerRecord;
use ottla_protocol::messages::remove_access_control_entry_record::RemoveAccessControlEntryRecord;
use ottla_protocol::messages::remove_delegation_token_record::RemoveDelegationTokenRecord;
use ottla_protocol::messages::remove_user_scram_credential_record::RemoveUserScramCredentialRecord;
use ottla_protocol::messages::unfence_broker_record::UnfenceBrokerRecord;
use ottla_protocol::messages::unregister_broker_record::UnregisterBrokerRecord;
use ottla_protocol::messages::unregister_controller_record::UnregisterControllerRecord;
use ottla_protocol::messages::user_scram_credential_record::UserScramCredentialRecord;
use ottla_protocol::messages::zk_migration_state_record::ZkMigrationStateRecord;
use std::borrow::Cow;

fn image(records: &[Record]) -> Image {
    replay(records).expect("fits").0
}

fn refused(records: &[Record], expected: ReplayError) {
    assert_eq!(replay(records).map(|_| ()), Err(expected));
}

#[test]
fn topics_come_and_go() {
    let created = image(&[topic(1, "a"), partition(1, 0, &[1]), partition(1, 1, &[1]), topic(2, "b")]);
    assert_eq!(created.topic_id("a"), Some(topic_id(1)));
    assert_eq!(created.topic_by_name("a").map(|t| t.partition_count()), Some(2));
    assert_eq!(created.partition_count(), 2);
    assert_eq!(created.topics_by_name().map(|t| t.name.to_string()).collect::<Vec<_>>(), ["a", "b"]);
    let (removed, _) = replay_on(created.clone(), &[remove(1)]).expect("fits");
    assert_eq!((removed.topic_by_name("a"), removed.topic(topic_id(1))), (None, None));
    assert_eq!(removed.partition_count(), 0);
    // The name is free again; the earlier image is what it was.
    let (again, _) = replay_on(removed, &[topic(3, "a")]).expect("fits");
    assert_eq!(again.topic_id("a"), Some(topic_id(3)));
    assert_eq!(created.topic_id("a"), Some(topic_id(1)));
}

#[test]
fn topics_that_do_not_fit() {
    refused(&[topic(1, "a"), topic(2, "a")], ReplayError::DuplicateTopic("a".to_owned()));
    refused(&[topic(1, "a"), topic(1, "b")], ReplayError::DuplicateTopic("b".to_owned()));
    refused(&[remove(1)], ReplayError::UnknownTopic(topic_id(1)));
    refused(&[partition(1, 0, &[1])], ReplayError::UnknownTopic(topic_id(1)));
    refused(&[change(1, 0, |_| {})], ReplayError::UnknownTopic(topic_id(1)));
    let unknown = ReplayError::UnknownPartition(topic_id(1), PartitionId(0));
    refused(&[topic(1, "a"), change(1, 0, |_| {})], unknown);
}

#[test]
fn colliding_names_are_found() {
    let with = image(&[topic(1, "a.b"), topic(2, "plain")]);
    assert_eq!(with.colliding_topic("a_b").map(|name| name.to_string()).as_deref(), Some("a.b"));
    assert_eq!(with.colliding_topic("a.b").map(|name| name.to_string()).as_deref(), Some("a.b"));
    assert_eq!(with.colliding_topic("a_c"), None);
    assert_eq!(with.colliding_topic("plain"), None);
    let (without, _) = replay_on(with, &[remove(1)]).expect("fits");
    assert_eq!(without.colliding_topic("a_b"), None);
}

#[test]
fn partitions_change_step_by_step() {
    let image = image(&[
        topic(1, "a"),
        partition(1, 0, &[1, 2, 3]),
        change(1, 0, |c| c.isr = Some(vec![1, 3])),
        change(1, 0, |c| c.leader = 3),
    ]);
    let partition = image.partition(topic_id(1), PartitionId(0)).expect("there");
    assert_eq!(partition.isr, nodes(&[1, 3]));
    assert_eq!(partition.leader, Some(NodeId(3)));
    assert_eq!((partition.leader_epoch, partition.partition_epoch), (LeaderEpoch(1), 2));
}

#[test]
fn clearing_eligible_replicas() {
    let before = [
        topic(1, "a"),
        partition(1, 0, &[1, 2]),
        partition(1, 1, &[1, 2]),
        change(1, 0, |c| c.eligible_leader_replicas = Some(vec![2])),
        topic(2, "b"),
        partition(2, 0, &[1, 2]),
        change(2, 0, |c| c.last_known_elr = Some(vec![1])),
    ];
    let clear = |name: &str| {
        let topic_name = Cow::Owned(name.to_owned());
        MetadataRecord::ClearElrRecord(ClearElrRecord { topic_name })
    };
    let epochs = |image: &Image| {
        image
            .partitions()
            .map(|(_, _, p)| (p.elr.len(), p.last_known_elr.len(), p.partition_epoch))
            .collect::<Vec<_>>()
    };
    let start = image(&before);
    assert_eq!(epochs(&start), [(1, 0, 1), (0, 0, 0), (0, 1, 1)]);
    let (one, _) = replay_on(start.clone(), &[clear("a")]).expect("fits");
    assert_eq!(epochs(&one), [(0, 0, 2), (0, 0, 0), (0, 1, 1)]);
    let (all, _) = replay_on(start, &[clear("")]).expect("fits");
    assert_eq!(epochs(&all), [(0, 0, 2), (0, 0, 0), (0, 0, 2)]);
    refused(&[clear("nope")], ReplayError::UnknownTopicName("nope".to_owned()));
}

#[test]
fn brokers_live() {
    let fence = |epoch| MetadataRecord::FenceBrokerRecord(FenceBrokerRecord { id: 1, epoch });
    let unfence = |epoch| MetadataRecord::UnfenceBrokerRecord(UnfenceBrokerRecord { id: 1, epoch });
    let change = |set: fn(&mut BrokerRegistrationChangeRecord)| {
        let mut record =
            BrokerRegistrationChangeRecord { broker_id: 1, broker_epoch: 5, ..Default::default() };
        set(&mut record);
        MetadataRecord::BrokerRegistrationChangeRecord(record)
    };
    let registered = broker(1, 5);
    let active = |records: &[Record]| image(records).is_active(NodeId(1));
    assert!(!active(std::slice::from_ref(&registered)));
    assert!(active(&[registered.clone(), unfence(5)]));
    assert!(!active(&[registered.clone(), unfence(5), fence(5)]));
    assert!(active(&[registered.clone(), change(|c| c.fenced = -1)]));
    assert!(!active(&[registered.clone(), unfence(5), change(|c| c.fenced = 1)]));
    assert!(!active(&[registered.clone(), unfence(5), change(|c| c.in_controlled_shutdown = 1)]));
    // A new registration is a new life.
    assert!(!active(&[registered.clone(), unfence(5), broker(1, 9)]));

    let dirs = image(&[
        registered.clone(),
        change(|c| c.log_dirs = vec![uuid(7), uuid(8)]),
        change(|c| c.cordoned_log_dirs = Some(vec![uuid(8)])),
    ]);
    let dirs = dirs.broker(NodeId(1)).expect("there");
    assert_eq!(dirs.log_dirs, [uuid(7), uuid(8)]);
    assert_eq!(dirs.cordoned_log_dirs, Some(vec![uuid(8)]));

    let unregister = |broker_epoch| {
        MetadataRecord::UnregisterBrokerRecord(UnregisterBrokerRecord { broker_id: 1, broker_epoch })
    };
    assert_eq!(image(&[registered.clone(), unregister(5)]).broker(NodeId(1)), None);
    let stale = |given| ReplayError::BrokerEpoch { broker: NodeId(1), given, expected: 5 };
    refused(&[registered.clone(), fence(4)], stale(4));
    refused(&[registered.clone(), unregister(6)], stale(6));
    refused(&[unfence(5)], ReplayError::UnknownBroker(NodeId(1)));
    refused(&[registered.clone(), change(|c| c.fenced = 3)], ReplayError::BrokerChange(NodeId(1), 3));
    refused(
        &[registered, change(|c| c.in_controlled_shutdown = -1)],
        ReplayError::BrokerChange(NodeId(1), -1),
    );
}

#[test]
fn controllers_live() {
    let register = MetadataRecord::RegisterControllerRecord(RegisterControllerRecord {
        controller_id: 3000,
        incarnation_id: uuid(1),
        ..Default::default()
    });
    let unregister =
        MetadataRecord::UnregisterControllerRecord(UnregisterControllerRecord { controller_id: 3000 });
    assert!(image(std::slice::from_ref(&register)).controllers().contains_key(&NodeId(3000)));
    assert!(image(&[register, unregister.clone()]).controllers().is_empty());
    refused(&[unregister], ReplayError::UnknownController(NodeId(3000)));
}

#[test]
fn features_are_finalised() {
    let finalised = image(&[
        feature("metadata.version", 33),
        feature("eligible.leader.replicas.version", 1),
        feature("kraft.version", 1),
        feature("group.version", 1),
        feature("group.version", 0),
        feature("some.future.feature", 4),
    ]);
    assert_eq!(finalised.metadata_version(), Some(MetadataVersion::LATEST));
    assert!(finalised.elr_enabled());
    assert_eq!(finalised.feature_level("kraft.version"), 0);
    assert!(!finalised.features().contains_key("group.version"));
    let unknown: Vec<_> = finalised.unknown_features().iter().map(|(name, _)| name.to_string()).collect();
    assert_eq!(unknown, ["some.future.feature"]);
    let of_kafka = image(&[feature("metadata.version", 33), feature("share.version", 2)]);
    assert_eq!(of_kafka.unknown_features(), []);
    assert_eq!(image(&[feature("share.version", 3)]).unknown_features().len(), 1);
    assert_eq!(image(&[]).metadata_version(), None);
    refused(&[feature("x", -1)], ReplayError::FeatureLevel("x".to_owned(), -1));
}

#[test]
fn configs_are_set_and_unset() {
    let t = ResourceType::TOPIC;
    let set = image(&[
        topic(1, "a"),
        config(2, "a", "retention.ms", Some("1")),
        config(2, "a", "segment.ms", Some("2")),
        config(2, "a", "retention.ms", Some("3")),
        config(4, "", "log.retention.ms", Some("9")),
        config(4, "1", "log.retention.ms", Some("8")),
    ]);
    assert_eq!(set.config_value(t, "a", "retention.ms"), Some("3"));
    assert_eq!(set.config(t, "a").map(|values| values.len()), Some(2));
    assert_eq!(set.configs(ResourceType::BROKER).count(), 2);
    let layered = |topic: &str, node: i32| {
        set.layered_topic_config(topic, "retention.ms", NodeId(node), "log.retention.ms")
    };
    assert_eq!((layered("a", 1), layered("b", 1), layered("b", 2)), (Some("3"), Some("8"), Some("9")));
    // What is unset leaves no trace, and a topic takes its values along.
    let (unset, _) =
        replay_on(set.clone(), &[config(4, "1", "log.retention.ms", None), remove(1)]).expect("fits");
    assert_eq!(unset.configs(ResourceType::BROKER).count(), 1);
    assert_eq!(unset.config(t, "a"), None);
    let (empty, _) = replay_on(unset, &[config(4, "", "log.retention.ms", None)]).expect("fits");
    assert_eq!(empty, image(&[]));
}

#[test]
fn quotas_are_set_and_unset() {
    let quota = |key: &str, value: f64, remove: bool| {
        MetadataRecord::ClientQuotaRecord(ClientQuotaRecord {
            entity: vec![EntityData {
                entity_type: Cow::Borrowed("user"),
                entity_name: Some(Cow::Borrowed("ann")),
            }],
            key: Cow::Owned(key.to_owned()),
            value,
            remove,
        })
    };
    let set = image(&[quota("producer_byte_rate", 10.0, false), quota("consumer_byte_rate", 20.5, false)]);
    assert_eq!(set.quotas().values().map(|quotas| quotas.len()).collect::<Vec<_>>(), [2]);
    let removed = [quota("producer_byte_rate", 0.0, true), quota("consumer_byte_rate", 0.0, true)];
    assert_eq!(replay_on(set, &removed).expect("fits").0, image(&[]));
}

#[test]
fn security_facts_are_kept() {
    let acl = MetadataRecord::AccessControlEntryRecord(AccessControlEntryRecord {
        id: uuid(5),
        principal: Cow::Borrowed("User:ann"),
        ..Default::default()
    });
    let remove_acl =
        MetadataRecord::RemoveAccessControlEntryRecord(RemoveAccessControlEntryRecord { id: uuid(5) });
    let scram = MetadataRecord::UserScramCredentialRecord(UserScramCredentialRecord {
        name: Cow::Borrowed("ann"),
        mechanism: 1,
        iterations: 4096,
        ..Default::default()
    });
    let remove_scram = MetadataRecord::RemoveUserScramCredentialRecord(RemoveUserScramCredentialRecord {
        name: Cow::Borrowed("ann"),
        mechanism: 1,
    });
    let token = MetadataRecord::DelegationTokenRecord(DelegationTokenRecord {
        token_id: Cow::Borrowed("t"),
        owner: Cow::Borrowed("User:ann"),
        ..Default::default()
    });
    let remove_token = MetadataRecord::RemoveDelegationTokenRecord(RemoveDelegationTokenRecord {
        token_id: Cow::Borrowed("t"),
    });
    let kept = image(&[acl, scram, token]);
    assert_eq!(
        (kept.acls().len(), kept.scram_credentials().len(), kept.delegation_tokens().len()),
        (1, 1, 1)
    );
    let (gone, delta) = replay_on(kept, &[remove_acl.clone(), remove_scram, remove_token]).expect("fits");
    assert_eq!(gone, image(&[]));
    assert_eq!((delta.acls.len(), delta.scram.len(), delta.tokens.len()), (1, 1, 1));
    refused(&[remove_acl], ReplayError::UnknownAcl(uuid(5)));
}

#[test]
fn producer_ids_only_grow() {
    let ids = |next_producer_id| {
        MetadataRecord::ProducerIdsRecord(ProducerIdsRecord {
            broker_id: 1,
            broker_epoch: 1,
            next_producer_id,
        })
    };
    assert_eq!(image(&[]).next_producer_id(), 0);
    assert_eq!(image(&[ids(1000), ids(2000)]).next_producer_id(), 2000);
    refused(&[ids(1000), ids(1000)], ReplayError::ProducerIds { given: 1000, current: 1000 });
}

#[test]
fn records_without_meaning_only_move_the_offset() {
    let noop = MetadataRecord::NoOpRecord(NoOpRecord {});
    let zk = MetadataRecord::ZkMigrationStateRecord(ZkMigrationStateRecord { zk_migration_state: 1 });
    let (image, delta) = replay(&[noop, zk]).expect("fits");
    assert_eq!(image.last_offset(), 1);
    assert_eq!(image, Image::empty("cluster"));
    assert!(delta.is_empty());
}
