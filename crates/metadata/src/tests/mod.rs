//! Tests over the whole crate: records in, image and delta out.

mod delta;
mod random;
mod replay;
mod snapshot;
mod transactions;

use crate::{Delta, Image, ReplayError};
use ottla_protocol::Uuid;
use ottla_protocol::ids::TopicId;
use ottla_protocol::messages::config_record::ConfigRecord;
use ottla_protocol::messages::feature_level_record::FeatureLevelRecord;
use ottla_protocol::messages::metadata_record::MetadataRecord;
use ottla_protocol::messages::partition_change_record::PartitionChangeRecord;
use ottla_protocol::messages::partition_record::PartitionRecord;
use ottla_protocol::messages::register_broker_record::{BrokerEndpoint, RegisterBrokerRecord};
use ottla_protocol::messages::remove_topic_record::RemoveTopicRecord;
use ottla_protocol::messages::topic_record::TopicRecord;
use std::borrow::Cow;

pub(super) type Record = MetadataRecord<'static>;

pub(super) fn uuid(byte: u8) -> Uuid {
    Uuid([byte; 16])
}

pub(super) fn topic_id(byte: u8) -> TopicId {
    TopicId(uuid(byte))
}

/// Replays into a fresh image; offsets count from 0.
pub(super) fn replay(records: &[Record]) -> Result<(Image, Delta), ReplayError> {
    replay_on(Image::empty("cluster"), records)
}

pub(super) fn replay_on(mut image: Image, records: &[Record]) -> Result<(Image, Delta), ReplayError> {
    let mut delta = Delta::default();
    let first = image.last_offset() + 1;
    for (offset, record) in (first..).zip(records) {
        image.replay(record, offset, &mut delta)?;
    }
    Ok((image, delta))
}

pub(super) fn topic(id: u8, name: &str) -> Record {
    let name = Cow::Owned(name.to_owned());
    MetadataRecord::TopicRecord(TopicRecord { name, topic_id: uuid(id) })
}

pub(super) fn partition(id: u8, index: i32, replicas: &[i32]) -> Record {
    MetadataRecord::PartitionRecord(PartitionRecord {
        partition_id: index,
        topic_id: uuid(id),
        replicas: replicas.to_vec(),
        isr: replicas.to_vec(),
        leader: replicas[0],
        leader_epoch: 0,
        partition_epoch: 0,
        directories: replicas.iter().map(|replica| uuid(*replica as u8)).collect(),
        ..Default::default()
    })
}

pub(super) fn change(id: u8, index: i32, set: impl FnOnce(&mut PartitionChangeRecord)) -> Record {
    let mut change = PartitionChangeRecord { partition_id: index, topic_id: uuid(id), ..Default::default() };
    set(&mut change);
    MetadataRecord::PartitionChangeRecord(change)
}

pub(super) fn remove(id: u8) -> Record {
    MetadataRecord::RemoveTopicRecord(RemoveTopicRecord { topic_id: uuid(id) })
}

pub(super) fn config(kind: i8, resource: &str, key: &str, value: Option<&str>) -> Record {
    MetadataRecord::ConfigRecord(ConfigRecord {
        resource_type: kind,
        resource_name: Cow::Owned(resource.to_owned()),
        name: Cow::Owned(key.to_owned()),
        value: value.map(|value| Cow::Owned(value.to_owned())),
    })
}

pub(super) fn feature(name: &str, level: i16) -> Record {
    let name = Cow::Owned(name.to_owned());
    MetadataRecord::FeatureLevelRecord(FeatureLevelRecord { name, feature_level: level })
}

pub(super) fn broker(id: i32, epoch: i64) -> Record {
    MetadataRecord::RegisterBrokerRecord(RegisterBrokerRecord {
        broker_id: id,
        incarnation_id: uuid(100 + id as u8),
        broker_epoch: epoch,
        end_points: vec![BrokerEndpoint {
            name: Cow::Borrowed("PLAINTEXT"),
            host: Cow::Borrowed("localhost"),
            port: 9092,
            security_protocol: 0,
        }],
        fenced: true,
        log_dirs: vec![uuid(id as u8)],
        ..Default::default()
    })
}
