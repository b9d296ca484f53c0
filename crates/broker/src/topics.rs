//! The partitions of this node, by topic id and by topic name: an immutable table that readers take a snapshot of.

use std::sync::Arc;

use imbl::OrdMap;
use ottla_protocol::{ErrorCode, Uuid};

use crate::partition::{Partition, Topic};

/// A topic and its partitions, by index.
#[derive(Debug, Clone)]
pub(crate) struct TopicPartitions {
    pub topic: Arc<Topic>,
    pub partitions: Vec<Arc<Partition>>,
}

/// All topics. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Topics {
    by_id: OrdMap<Uuid, Arc<TopicPartitions>>,
    by_name: OrdMap<Arc<str>, Arc<TopicPartitions>>,
}

impl Topics {
    pub fn by_id(&self, id: Uuid) -> Option<&Arc<TopicPartitions>> {
        self.by_id.get(&id)
    }

    pub fn by_name(&self, name: &str) -> Option<&Arc<TopicPartitions>> {
        self.by_name.get(name)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<TopicPartitions>> {
        self.by_name.values()
    }

    pub fn partition_by_id(&self, id: Uuid, index: i32) -> Result<Arc<Partition>, ErrorCode> {
        let topic = self.by_id(id).ok_or(ErrorCode::UnknownTopicId)?;
        topic.partition(index)
    }

    pub fn partition_by_name(&self, name: &str, index: i32) -> Result<Arc<Partition>, ErrorCode> {
        let topic = self.by_name(name).ok_or(ErrorCode::UnknownTopicOrPartition)?;
        topic.partition(index)
    }

    pub fn insert(&mut self, topic: TopicPartitions) {
        let topic = Arc::new(topic);
        self.by_name.insert(topic.topic.name.clone(), topic.clone());
        self.by_id.insert(topic.topic.id, topic);
    }

    pub fn remove(&mut self, id: Uuid) -> Option<Arc<TopicPartitions>> {
        let topic = self.by_id.remove(&id)?;
        self.by_name.remove(&topic.topic.name);
        Some(topic)
    }
}

impl TopicPartitions {
    pub fn partition(&self, index: i32) -> Result<Arc<Partition>, ErrorCode> {
        let partition = usize::try_from(index).ok().and_then(|index| self.partitions.get(index));
        partition.cloned().ok_or(ErrorCode::UnknownTopicOrPartition)
    }
}
