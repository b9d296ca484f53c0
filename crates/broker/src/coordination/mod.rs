//! The one runtime of all coordinators: a shard for each led partition of an internal topic, which knows its state, its log, who waits.
//!
//! handle → append → replay → hold → respond. A coordinator (groups, transactions) is plain state behind [`Coordinator`]; it never
//! learns of logs, clients or time. The tricky idea is in `shard.rs`: state runs ahead of the commit, answers do not.

mod admission;
mod joint;
mod load;
mod markers;
mod remote;
mod shard;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::{ArcSwap, Guard};
use ottla_coordinator::transaction::PartitionsAnswer;
use ottla_coordinator::{Context, Coordinator, Deed, GroupOverrides, Outcome, Topics};
use ottla_metadata::config::{Bounded, BrokerConfig};
use ottla_metadata::{Image, ResourceType, java_hash};
use ottla_protocol::ids::{PartitionId, TopicId};
use ottla_protocol::{ErrorCode, Uuid};

pub(crate) use admission::{Ask, Parked, Whom};
pub(crate) use joint::{Joint, JointBody};
pub use markers::MarkerWrite;
pub(crate) use markers::{MarkerWaiter, PartitionMarker};
pub(crate) use remote::{MarkerLetter, Remotes};
use shard::{Asker, Origin, Shard};

use crate::Broker;
use crate::call::Call;
use crate::effect::{Effect, Effects, Millis};
use crate::partition::{Committed, Partition};

/// All coordinators of one kind on this node, by partition of their topic.
#[derive(Debug)]
pub(crate) struct Coordinators<C> {
    /// An answer that is not committed within this time becomes COORDINATOR_NOT_AVAILABLE.
    commit_timeout_ms: Millis,
    shards: ArcSwap<BTreeMap<i32, Arc<Shard<C>>>>,
    /// How many partitions the topic has, 0 before it exists.
    partitions: AtomicUsize,
}

/// What a coordinator let go of, to be done outside of its lock: it may lead to other partitions and other coordinators.
#[derive(Debug, Default)]
#[must_use = "a decision without its consequences"]
pub(crate) struct Released {
    deeds: Vec<Deed>,
    answers: Vec<(Arc<Ask>, PartitionsAnswer)>,
}

impl Released {
    fn append(&mut self, mut more: Released) {
        self.deeds.append(&mut more.deeds);
        self.answers.append(&mut more.answers);
    }
}

/// The topics of an image, as coordinators ask for them.
pub(crate) struct ImageTopics<'i> {
    image: &'i Image,
    /// The one in force: what groups inherit may be changed while the node runs.
    config: Guard<Arc<BrokerConfig>>,
}

impl<'i> ImageTopics<'i> {
    pub fn new(image: &'i Image, broker: &'i Broker) -> Self {
        ImageTopics { image, config: broker.live_config() }
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
        let set = self.image.config(ResourceType::GROUP, group_id);
        let bounds = &self.config.consumer_groups;
        let number = |key: &str, bounds: Bounded| {
            let value = set?.get(key)?.trim().parse().ok();
            value.map(|value| bounds.of(Some(value)))
        };
        let assignment_interval_ms = number("consumer.assignment.interval.ms", bounds.assignment_interval_ms);
        GroupOverrides {
            session_timeout_ms: number("consumer.session.timeout.ms", bounds.session_timeout_ms),
            heartbeat_interval_ms: number("consumer.heartbeat.interval.ms", bounds.heartbeat_interval_ms),
            // Of the three, this one may be changed for all groups while the node runs.
            assignment_interval_ms: assignment_interval_ms.or(Some(bounds.assignment_interval_ms.default)),
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

    /// The log behind the coordinator of a key.
    pub fn log_of(&self, key: &str) -> Result<Arc<Partition>, ErrorCode> {
        Ok(self.shard(key)?.partition.clone())
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
        // What was read may be more than what is committed: nothing is said or done because of it before it is.
        let committed = partition.await_commit(end, now, out);
        let shard = Arc::new(Shard::new(partition, coordinator, (end, committed), self.commit_timeout_ms));
        let image = broker.image();
        let topics = ImageTopics::new(&image, broker);
        let mut released =
            shard.run(broker, now, out, |coordinator| coordinator.on_loaded(leader_epoch, now, &topics));
        self.shards.rcu(|shards| {
            let mut shards = BTreeMap::clone(shards);
            shards.insert(index, shard.clone());
            shards
        });
        // What it goes on with comes back to it, so it has to be found. What was committed before it could be is heard of now.
        let high_watermark = shard.partition.high_watermark();
        released.append(shard.on_committed(high_watermark, out));
        broker.go_on(released, now, out);
        Ok(())
    }

    /// Leads a partition no more.
    pub fn resign(&self, broker: &Broker, index: i32, now: Millis, out: &mut Effects) {
        let gone = self.shard_at(index);
        self.shards.rcu(|shards| {
            let mut shards = BTreeMap::clone(shards);
            shards.remove(&index);
            shards
        });
        if let Some(shard) = gone {
            broker.go_on(shard.resign(out), now, out);
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
        self.ask(broker, call, key, asker, handle)
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
        self.ask(broker, call, key, Asker::Part(joint.clone()), handle)
    }

    fn ask(
        &self,
        broker: &Broker,
        call: &mut Call<'_>,
        key: &str,
        asker: Asker,
        handle: impl FnOnce(&mut C, &Context<'_>) -> Outcome,
    ) -> Result<(), ErrorCode> {
        let client_host = call.connection.client_host();
        let origin = Origin {
            now: call.now,
            api_version: call.reply.version,
            client_id: call.client_id,
            client_host: &client_host,
            admission: call.admission.and_then(Result::ok),
        };
        let released = self.shard(key)?.ask(broker, origin, call.out, asker, handle)?;
        broker.go_on(released, call.now, call.out);
        Ok(())
    }

    /// This node itself asks the coordinator of a key.
    pub fn ask_inside(
        &self,
        broker: &Broker,
        key: &str,
        ask: &Arc<Ask>,
        now: Millis,
        out: &mut Effects,
        handle: impl FnOnce(&mut C, &Context<'_>) -> Outcome,
    ) -> Result<(), ErrorCode> {
        let api_version = shard::INSIDE_VERSION;
        let origin = Origin { now, api_version, client_id: "", client_host: "", admission: None };
        let released = self.shard(key)?.ask(broker, origin, out, Asker::Inside(ask.clone()), handle)?;
        broker.go_on(released, now, out);
        Ok(())
    }

    /// Lets the coordinator of a key take a step that nobody asked for.
    pub fn tell(
        &self,
        broker: &Broker,
        key: &str,
        now: Millis,
        out: &mut Effects,
        step: impl FnOnce(&mut C) -> Outcome,
    ) {
        if let Ok(shard) = self.shard(key) {
            broker.go_on(shard.run(broker, now, out, step), now, out);
        }
    }

    /// Reads from the coordinator of a key. The joint answer leaves when what was read is committed.
    pub fn read(
        &self,
        broker: &Broker,
        key: &str,
        joint: &Arc<Joint>,
        now: Millis,
        out: &mut Effects,
        read: impl FnOnce(&C),
    ) -> Result<(), ErrorCode> {
        let released = self.shard(key)?.read(joint, now, out, read)?;
        broker.go_on(released, now, out);
        Ok(())
    }

    /// Reads from every coordinator. One that is resigning has nothing to say.
    pub fn read_all(
        &self,
        broker: &Broker,
        joint: &Arc<Joint>,
        now: Millis,
        out: &mut Effects,
        mut read: impl FnMut(&C),
    ) {
        for shard in self.shards.load().values() {
            if let Ok(released) = shard.read(joint, now, out, &mut read) {
                broker.go_on(released, now, out);
            }
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
            broker.go_on(shard.run(broker, now, out, &mut step), now, out);
        }
    }

    /// Ends a transaction on a partition of the topic, and tells its coordinator. Returns whether the marker is committed already.
    pub fn append_marker(
        &self,
        broker: &Broker,
        index: i32,
        marker: &PartitionMarker,
        waiter: Committed,
        now: Millis,
        out: &mut Effects,
    ) -> Result<bool, ErrorCode> {
        let shard = self.shard_at(index).ok_or(ErrorCode::NotLeaderOrFollower)?;
        shard.append_marker(broker, marker, waiter, now, out)
    }

    /// The high watermark of a partition moved.
    pub fn on_committed(
        &self,
        broker: &Broker,
        index: i32,
        high_watermark: i64,
        now: Millis,
        out: &mut Effects,
    ) {
        if let Some(shard) = self.shard_at(index) {
            broker.go_on(shard.on_committed(high_watermark, out), now, out);
        }
    }

    /// Lets timers run.
    pub fn on_tick(&self, broker: &Broker, now: Millis, out: &mut Effects) {
        for shard in self.shards.load().values() {
            broker.go_on(shard.on_tick(broker, now, out), now, out);
        }
    }
}

impl Broker {
    /// Does what a coordinator let go of. Called outside of all locks.
    pub(crate) fn go_on(&self, released: Released, now: Millis, out: &mut Effects) {
        for deed in released.deeds {
            match deed {
                Deed::WriteMarkers(markers) => self.write_markers(&markers, now, out),
            }
        }
        for (ask, answer) in released.answers {
            self.on_ask_answered(&ask, &answer, now, out);
        }
        if self.producer_ids.is_starved() {
            // Not here: this may be part of acting upon a committed change, under the quorum's lock.
            out.push(Effect::Tick { at: now });
        }
    }
}
