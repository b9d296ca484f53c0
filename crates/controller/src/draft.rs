//! Partitions as they are after what a decision has written so far.
//!
//! The tricky idea: a request may name a partition twice. The second item must see what the first one did, or their records contradict
//! each other; but the image shows it only after replay.

use crate::partition_change::PartitionChange;
use ottla_metadata::{Image, Partition, Topic};
use ottla_protocol::ids::{PartitionId, TopicId};
use ottla_protocol::messages::metadata_record::MetadataRecord;
use std::collections::BTreeMap;

/// Changes of partitions that one decision gathers.
pub(crate) struct Draft<'a> {
    image: &'a Image,
    changed: BTreeMap<(TopicId, PartitionId), Partition>,
    records: Vec<MetadataRecord<'static>>,
}

impl<'a> Draft<'a> {
    pub(crate) fn new(image: &'a Image) -> Draft<'a> {
        Draft { image, changed: BTreeMap::new(), records: Vec::new() }
    }

    /// The partition as it is by now.
    pub(crate) fn partition(&self, topic: &Topic, index: PartitionId) -> Option<Partition> {
        let changed = self.changed.get(&(topic.id, index)).cloned();
        changed.or_else(|| self.image.partition(topic.id, index).map(|partition| Partition::clone(partition)))
    }

    /// Takes the change over; the partition after it, or nothing if it stays as it is.
    pub(crate) fn apply(&mut self, change: PartitionChange<'_>) -> Option<Partition> {
        let (before, at) = (change.partition, (change.topic_id, change.index));
        let record = change.record()?;
        let after = before.changed(&record).expect("a record of our own fits its partition");
        self.records.push(MetadataRecord::PartitionChangeRecord(record));
        self.changed.insert(at, after.clone());
        Some(after)
    }

    /// How many records there are.
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// The records, in order.
    pub(crate) fn into_records(self) -> Vec<MetadataRecord<'static>> {
        self.records
    }
}
