//! Snapshots: replaying `to_records` gives the same image, in an order that readers can follow.

use super::{Record, broker, change, config, feature, partition, replay, topic};
use crate::{Delta, Image};
use ottla_protocol::Uuid;
use ottla_protocol::messages::access_control_entry_record::AccessControlEntryRecord;
use ottla_protocol::messages::broker_registration_change_record::BrokerRegistrationChangeRecord;
use ottla_protocol::messages::client_quota_record::{ClientQuotaRecord, EntityData};
use ottla_protocol::messages::delegation_token_record::DelegationTokenRecord;
use ottla_protocol::messages::metadata_record::MetadataRecord;
use ottla_protocol::messages::producer_ids_record::ProducerIdsRecord;
use ottla_protocol::messages::register_broker_record::{BrokerFeature, RegisterBrokerRecord};
use ottla_protocol::messages::register_controller_record::{
    ControllerEndpoint, ControllerFeature, RegisterControllerRecord,
};
use ottla_protocol::messages::user_scram_credential_record::UserScramCredentialRecord;
use std::borrow::Cow;

/// One of everything.
fn everything() -> Vec<Record> {
    let text = Cow::Borrowed;
    vec![
        feature("eligible.leader.replicas.version", 1),
        feature("metadata.version", 33),
        broker(1, 5),
        MetadataRecord::RegisterBrokerRecord(RegisterBrokerRecord {
            broker_id: 2,
            incarnation_id: Uuid([3; 16]),
            broker_epoch: 6,
            features: vec![BrokerFeature {
                name: text("metadata.version"),
                min_supported_version: 7,
                max_supported_version: 33,
            }],
            rack: Some(text("r1")),
            fenced: false,
            log_dirs: vec![Uuid([2; 16]), Uuid([4; 16])],
            cordoned_log_dirs: Some(vec![Uuid([4; 16])]),
            ..Default::default()
        }),
        MetadataRecord::BrokerRegistrationChangeRecord(BrokerRegistrationChangeRecord {
            broker_id: 2,
            broker_epoch: 6,
            in_controlled_shutdown: 1,
            ..Default::default()
        }),
        MetadataRecord::RegisterControllerRecord(RegisterControllerRecord {
            controller_id: 3000,
            incarnation_id: Uuid([8; 16]),
            zk_migration_ready: false,
            end_points: vec![ControllerEndpoint {
                name: text("CONTROLLER"),
                host: text("::1"),
                port: 65535,
                security_protocol: 3,
            }],
            features: vec![ControllerFeature {
                name: text("kraft.version"),
                min_supported_version: 0,
                max_supported_version: 1,
            }],
        }),
        topic(9, "first"),
        partition(9, 0, &[1, 2]),
        partition(9, 1, &[2, 1]),
        topic(3, "second.with_dots"),
        partition(3, 0, &[2]),
        change(9, 1, |c| {
            c.isr = Some(vec![]);
            c.leader = -1;
            c.eligible_leader_replicas = Some(vec![1]);
            c.last_known_elr = Some(vec![2]);
        }),
        change(3, 0, |c| {
            c.leader_recovery_state = 1;
            c.adding_replicas = Some(vec![1]);
            c.removing_replicas = Some(vec![2]);
        }),
        config(2, "first", "retention.ms", Some("7")),
        config(4, "", "min.insync.replicas", Some("1")),
        config(99, "later", "kind", Some("kept")),
        MetadataRecord::ClientQuotaRecord(ClientQuotaRecord {
            entity: vec![
                EntityData { entity_type: text("user"), entity_name: Some(text("ann")) },
                EntityData { entity_type: text("client-id"), entity_name: None },
            ],
            key: text("request_percentage"),
            value: 12.5,
            remove: false,
        }),
        MetadataRecord::ProducerIdsRecord(ProducerIdsRecord {
            broker_id: 1,
            broker_epoch: 5,
            next_producer_id: 4000,
        }),
        MetadataRecord::AccessControlEntryRecord(AccessControlEntryRecord {
            id: Uuid([6; 16]),
            resource_type: 2,
            resource_name: text("first"),
            pattern_type: 3,
            principal: text("User:ann"),
            host: text("*"),
            operation: 3,
            permission_type: 3,
        }),
        MetadataRecord::UserScramCredentialRecord(UserScramCredentialRecord {
            name: text("ann"),
            mechanism: 2,
            salt: Cow::Borrowed(&[1, 2]),
            stored_key: Cow::Borrowed(&[3]),
            server_key: Cow::Borrowed(&[4]),
            iterations: 8192,
        }),
        MetadataRecord::DelegationTokenRecord(DelegationTokenRecord {
            owner: text("User:ann"),
            requester: text("User:bob"),
            renewers: vec![text("User:eve"), text("User:bob")],
            issue_timestamp: 1,
            max_timestamp: 3,
            expiration_timestamp: 2,
            token_id: text("id"),
        }),
    ]
}

pub(super) fn reread(image: &Image) -> Image {
    let mut again = Image::empty(image.cluster_id());
    for (offset, record) in (0..).zip(image.to_records()) {
        again.replay(&record, offset, &mut Delta::default()).expect("a snapshot fits");
    }
    again
}

#[test]
fn a_snapshot_recreates_the_image() {
    let (image, _) = replay(&everything()).expect("fits");
    assert_eq!(reread(&image), image);
    assert_eq!(reread(&image).to_records(), image.to_records());
    assert_eq!(Image::empty("cluster").to_records(), []);
}

#[test]
fn metadata_version_comes_first() {
    let (image, _) = replay(&everything()).expect("fits");
    let records = image.to_records();
    let MetadataRecord::FeatureLevelRecord(first) = &records[0] else { panic!("{:?}", records[0]) };
    assert_eq!(first.name, "metadata.version");
}

#[test]
fn a_hundred_thousand_partitions() {
    let mut records = Vec::new();
    for id in 0..100u8 {
        records.push(topic(id, &format!("topic-{id}")));
        records.extend((0..1000).map(|index| partition(id, index, &[1, 2, 3])));
    }
    let (image, delta) = replay(&records).expect("fits");
    assert_eq!((image.partition_count(), delta.partitions.len()), (100_000, 100_000));
    assert_eq!(image.partitions().count(), 100_000);
    // A clone shares; a change of one partition leaves the clone alone and costs little.
    let before = image.clone();
    let (after, delta) = super::replay_on(image, &[change(42, 999, |c| c.leader = 2)]).expect("fits");
    assert_eq!(delta.partitions.len(), 1);
    assert_eq!(Delta::between(&before, &after), delta);
    assert_eq!(reread(&after), after);
}
