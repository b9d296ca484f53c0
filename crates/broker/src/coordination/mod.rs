//! The one runtime of all coordinators: a shard for each led partition of an internal topic, which knows its state, its log, who waits.
//!
//! handle → append → replay → hold → respond. A coordinator (groups, transactions) is plain state behind [`Coordinator`]; it never
//! learns of logs, clients or time. The tricky idea is in `shard.rs`: state runs ahead of the commit, answers do not.

mod joint;
mod load;
mod shard;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use ottla_coordinator::{Context, Coordinator, GroupOverrides, Outcome, Topics};
use ottla_metadata::config::{Bounded, BrokerConfig};
use ottla_metadata::{Image, ResourceType, java_hash};
use ottla_protocol::ids::{PartitionId, TopicId};
use ottla_protocol::{ErrorCode, Uuid};

pub(crate) use joint::{Joint, JointBody};
use shard::{Asker, Shard};

use crate::Broker;
use crate::call::Call;
use crate::effect::{Effects, Millis};
use crate::partition::Partition;

/// All coordinators of one kind on this node, by partition of their topic.
#[derive(Debug)]
pub(crate) struct Coordinators<C> {
    /// An answer that is not committed within this time becomes COORDINATOR_NOT_AVAILABLE.
    commit_timeout_ms: Millis,
    shards: ArcSwap<BTreeMap<i32, Arc<Shard<C>>>>,
    /// How many partitions the topic has, 0 before it exists.
    partitions: AtomicUsize,
}

/// The topics of an image, as coordinators ask for them.
pub(crate) struct ImageTopics<'i> {
    image: &'i Image,
    config: &'i BrokerConfig,
}

impl<'i> ImageTopics<'i> {
    pub fn new(image: &'i Image, broker: &'i Broker) -> Self {
        ImageTopics { image, config: broker.config() }
    }
}

impl Topics for ImageTopics<'_> {
    fn id_of(&self, name: &str) -> Option<Uuid> {
        self.image.topic_id(name).map(|id| id.0)
    }

    fn name_of(&self, id: Uuid) -> Option<String> {
        self.image.topic(TopicId(id)).map(|topic| topic.name.to_string())
    }

    fn has_partition(&self, name: &str, partition: i32) -> bool {
        self.image
            .topic_by_name(name)
            .is_some_and(|topic| topic.partitions.contains_key(&PartitionId(partition)))
    }

    fn partition_count(&self, id: Uuid) -> Option<i32> {
        self.image.topic(TopicId(id)).map(|topic| topic.partition_count())
    }

    fn racks(&self, id: Uuid, partition: i32) -> Vec<String> {
        let topic = self.image.topic(TopicId(id));
        let partition = topic.and_then(|topic| topic.partitions.get(&PartitionId(partition)));
        let replicas = partition.into_iter().flat_map(|partition| partition.replicas.iter());
        let racks =
            replicas.filter_map(|replica| self.image.broker(*replica)?.rack.as_deref().map(str::to_owned));
        racks.collect()
    }

    fn names_after(&self, after: Option<&str>, max: usize) -> Vec<Arc<str>> {
        self.image.topic_names_after(after).take(max).cloned().collect()
    }

    fn version(&self) -> i64 {
        self.image.last_offset()
    }

    fn group_overrides(&self, group_id: &str) -> GroupOverrides {
        let Some(set) = self.image.config(ResourceType::GROUP, group_id) else {
            return GroupOverrides::default();
        };
        let bounds = &self.config.consumer_groups;
        let number = |key: &str, bounds: Bounded| {
            let value = set.get(key)?.trim().parse().ok();
            value.map(|value| bounds.of(Some(value)))
        };
        GroupOverrides {
            session_timeout_ms: number("consumer.session.timeout.ms", bounds.session_timeout_ms),
            heartbeat_interval_ms: number("consumer.heartbeat.interval.ms", bounds.heartbeat_interval_ms),
            assignment_interval_ms: number("consumer.assignment.interval.ms", bounds.assignment_interval_ms),
        }
    }
}

impl<C: Coordinator> Coordinators<C> {
    pub fn new(commit_timeout_ms: Millis) -> Self {
        Coordinators { commit_timeout_ms, shards: ArcSwap::default(), partitions: AtomicUsize::new(0) }
    }

    /// The partition that a key (a group id, a transactional id) lives on, if the topic exists.
    pub fn partition_of(&self, key: &str) -> Option<i32> {
        let partitions = i32::try_from(self.partitions.load(Ordering::Acquire)).unwrap_or(0);
        (partitions > 0).then(|| java_hash::coordinator_partition(key, partitions))
    }

    /// The topic has this many partitions.
    pub fn set_partitions(&self, partitions: usize) {
        self.partitions.store(partitions, Ordering::Release);
    }

    fn shard(&self, key: &str) -> Result<Arc<Shard<C>>, ErrorCode> {
        let index = self.partition_of(key).ok_or(ErrorCode::CoordinatorNotAvailable)?;
        self.shard_at(index).ok_or(ErrorCode::NotCoordinator)
    }

    fn shard_at(&self, index: i32) -> Option<Arc<Shard<C>>> {
        self.shards.load().get(&index).cloned()
    }

    /// Leads a partition from now on: its log is replayed into `coordinator`, then requests may come. May wait for the disk.
    pub fn lead(
        &self,
        broker: &Broker,
        partition: Arc<Partition>,
        mut coordinator: C,
        now: Millis,
        out: &mut Effects,
    ) -> Result<(), String> {
        let index = partition.index;
        let (end, leader_epoch) = load::load(&partition, &mut coordinator, now)?;
        let shard = Arc::new(Shard::new(partition, coordinator, end, self.commit_timeout_ms));
        let image = broker.image();
        let topics = ImageTopics::new(&image, broker);
        shard.run(broker, now, out, |coordinator| coordinator.on_loaded(leader_epoch, now, &topics));
        self.shards.rcu(|shards| {
            let mut shards = BTreeMap::clone(shards);
            shards.insert(index, shard.clone());
            shards
        });
        Ok(())
    }

    /// Leads a partition no more.
    pub fn resign(&self, index: i32, out: &mut Effects) {
        let gone = self.shard_at(index);
        self.shards.rcu(|shards| {
            let mut shards = BTreeMap::clone(shards);
            shards.remove(&index);
            shards
        });
        if let Some(shard) = gone {
            shard.resign(out);
        }
    }

    /// Hands a request to the coordinator of its key. An error: this node has none, and the caller answers.
    pub fn handle(
        &self,
        broker: &Broker,
        call: &mut Call<'_>,
        key: &str,
        handle: impl FnOnce(&mut C, &Context<'_>) -> Outcome,
    ) -> Result<(), ErrorCode> {
        let asker = Asker::One(call.reply);
        self.shard(key)?.ask(broker, call, asker, handle)
    }

    /// Hands part of a request to the coordinator of a key.
    pub fn handle_part(
        &self,
        broker: &Broker,
        call: &mut Call<'_>,
        key: &str,
        joint: &Arc<Joint>,
        handle: impl FnOnce(&mut C, &Context<'_>) -> Outcome,
    ) -> Result<(), ErrorCode> {
        self.shard(key)?.ask(broker, call, Asker::Part(joint.clone()), handle)
    }

    /// Reads from the coordinator of a key. The joint answer leaves when what was read is committed.
    pub fn read(
        &self,
        key: &str,
        joint: &Arc<Joint>,
        now: Millis,
        out: &mut Effects,
        read: impl FnOnce(&C),
    ) -> Result<(), ErrorCode> {
        self.shard(key)?.read(joint, now, out, read)
    }

    /// Reads from every coordinator. One that is resigning has nothing to say.
    pub fn read_all(&self, joint: &Arc<Joint>, now: Millis, out: &mut Effects, mut read: impl FnMut(&C)) {
        for shard in self.shards.load().values() {
            let _: Result<(), ErrorCode> = shard.read(joint, now, out, &mut read);
        }
    }

    /// Lets every coordinator take a step of its own.
    pub fn each(
        &self,
        broker: &Broker,
        now: Millis,
        out: &mut Effects,
        mut step: impl FnMut(&mut C) -> Outcome,
    ) {
        for shard in self.shards.load().values() {
            shard.run(broker, now, out, &mut step);
        }
    }

    /// The high watermark of a partition moved.
    pub fn on_committed(&self, index: i32, high_watermark: i64, out: &mut Effects) {
        if let Some(shard) = self.shard_at(index) {
            shard.on_committed(high_watermark, out);
        }
    }

    /// Lets timers run.
    pub fn on_tick(&self, broker: &Broker, now: Millis, out: &mut Effects) {
        for shard in self.shards.load().values() {
            shard.on_tick(broker, now, out);
        }
    }
}
