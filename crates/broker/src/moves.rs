//! Moves of logs between the log directories of this broker (KIP-113, KIP-858; Kafka: `ReplicaAlterLogDirsManager`,
//! `ReplicaAlterLogDirsThread`).
//!
//! The one tricky idea: a move is done in pieces. A background thread takes one that is due, copies for a while, and puts it back with the
//! time at which it goes on: at once, when the throttle lets it, or when somebody says that what it waits for has happened.

mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use ottla_metadata::config::QuotaWindows;
use ottla_protocol::ids::{NodeId, PartitionId, TopicId};
use ottla_protocol::{ErrorCode, Uuid};
use ottla_storage::PartitionName;

use crate::Broker;
use crate::effect::{Effect, Effects, Millis};
use crate::partition::{Abandoned, Destination, Future, Partition, Stage};
use crate::replication::{PartitionKey, Throttle};
use crate::sessions::lock;
use crate::store::Root;
use crate::upkeep::{Chore, Doomed};

/// The moves that are under way.
#[derive(Debug)]
pub(crate) struct Moves {
    state: Mutex<State>,
    throttle: Throttle,
    /// Sets directories of the same partition apart.
    unique: (u64, AtomicU64),
}

#[derive(Debug, Default)]
struct State {
    waiting: BTreeMap<PartitionKey, (Millis, Arc<Partition>)>,
    running: BTreeSet<PartitionKey>,
    /// Those of them that have been woken meanwhile, and the partition if that was said anew.
    woken: BTreeMap<PartitionKey, Option<Arc<Partition>>>,
}

/// When a move goes on.
enum Next {
    At(Millis),
    Over,
}

impl Moves {
    pub fn new(settings: QuotaWindows, seed: u64) -> Moves {
        Moves {
            state: Mutex::default(),
            throttle: Throttle::new(settings),
            unique: (seed, AtomicU64::new(0)),
        }
    }

    /// A number that no other directory has.
    pub fn unique(&self, now: Millis) -> u128 {
        let (seed, count) = &self.unique;
        let count = count.fetch_add(1, Ordering::Relaxed);
        u128::from(seed ^ count.wrapping_mul(0x9e37_79b9_7f4a_7c15)) << 64 | u128::from(now.unsigned_abs())
    }

    fn list(&self, partition: &Arc<Partition>, at: Millis, out: &mut Effects) {
        let key = key_of(partition);
        let state = &mut *lock(&self.state);
        if state.running.contains(&key) {
            state.woken.insert(key, Some(partition.clone()));
            return;
        }
        let due = state.waiting.entry(key).or_insert_with(|| (at, partition.clone()));
        due.0 = due.0.min(at);
        // The partition may be another one of its name by now.
        due.1 = partition.clone();
        out.push(Effect::Tick { at: due.0 });
    }

    /// What a move waited for has happened.
    pub fn wake(&self, key: PartitionKey, now: Millis, out: &mut Effects) {
        let state = &mut *lock(&self.state);
        if let Some(due) = state.waiting.get_mut(&key) {
            due.0 = due.0.min(now);
            out.push(Effect::Tick { at: now });
        } else if state.running.contains(&key) {
            state.woken.entry(key).or_default();
        }
    }

    /// Hands out the moves that are due, as far as there are threads for them, and asks for the next tick.
    pub fn plan(&self, threads: usize, now: Millis, out: &mut Effects) {
        let state = &mut *lock(&self.state);
        while state.running.len() < threads {
            let first = state.waiting.iter().min_by_key(|(_, (at, _))| *at).map(|(key, (at, _))| (*key, *at));
            let Some((key, at)) = first else { return };
            if at > now {
                return out.push(Effect::Tick { at });
            }
            if let Some((_, partition)) = state.waiting.remove(&key) {
                state.running.insert(key);
                out.push(Effect::Chore(Chore::copy(partition)));
            }
        }
    }

    fn end(&self, partition: &Arc<Partition>, next: &Next, now: Millis, out: &mut Effects) {
        let key = key_of(partition);
        let woken = {
            let state = &mut *lock(&self.state);
            state.running.remove(&key);
            state.woken.remove(&key)
        };
        let again = match (woken, next) {
            (Some(of), _) => Some((of.unwrap_or_else(|| partition.clone()), now)),
            (None, Next::At(at)) => Some((partition.clone(), *at)),
            (None, Next::Over) => None,
        };
        if let Some((partition, at)) = again.filter(|(partition, _)| partition.is_moving()) {
            self.list(&partition, at, out);
        }
        // Others may have waited for the thread.
        out.push(Effect::Tick { at: now });
    }
}

fn key_of(partition: &Partition) -> PartitionKey {
    (partition.topic.id, partition.index)
}

impl Broker {
    /// Has a replica live in the directory of that path. Waits for the disk.
    pub(crate) fn move_replica(
        &self,
        topic: &str,
        index: i32,
        path: &str,
        now: Millis,
        out: &mut Effects,
    ) -> ErrorCode {
        let moved = self.try_move_replica(topic, index, path, now, out);
        moved.err().unwrap_or(ErrorCode::None)
    }

    fn try_move_replica(
        &self,
        topic: &str,
        index: i32,
        path: &str,
        now: Millis,
        out: &mut Effects,
    ) -> Result<(), ErrorCode> {
        /// The longest file name, and what a copy's has beside the topic's: `-`, `.`, 32 digits, and `-future`.
        const NAME_BYTES_MAX: usize = 255 - 41;
        if topic.len() + index.to_string().len() > NAME_BYTES_MAX {
            return Err(ErrorCode::InvalidTopicException);
        }
        let root = self.home_at(path)?;
        let partition = match self.topics().partition_by_name(topic, index) {
            Ok(partition) => partition,
            Err(_) => {
                self.prefer(topic, index, &root);
                return Err(ErrorCode::UnknownTopicOrPartition);
            }
        };
        if partition.is_offline() {
            return Err(ErrorCode::KafkaStorageError);
        }
        if partition.root().is_none() {
            self.prefer(topic, index, &root);
            return Err(ErrorCode::ReplicaNotAvailable);
        }
        if !self.image().metadata_version().is_some_and(|level| level.supports_directory_assignment()) {
            // Should the node die when both directories have the log, nothing else could tell which one it is.
            return Err(ErrorCode::UnsupportedVersion);
        }
        let altered = partition.move_to(&root, self.moves.unique(now), now, out)?;
        if let Some(abandoned) = altered.abandoned {
            self.discard(&partition, abandoned, now, out);
        }
        match altered.outcome {
            Destination::Known => {}
            Destination::Housed => self.assign(key_of(&partition), root.id(), now, out),
            Destination::Begun => self.moves.list(&partition, now, out),
        }
        Ok(())
    }

    /// The log directory of that path, if replicas may go there.
    fn home_at(&self, path: &str) -> Result<Arc<Root>, ErrorCode> {
        let path = std::path::Path::new(path);
        let mut homes = self.store.roots().iter().filter(|root| root.holds_partitions);
        let Some(root) = homes.find(|root| root.path() == path) else {
            let is_known = self.store.unopened().iter().any(|(known, _)| std::path::Path::new(known) == path);
            return Err(if is_known { ErrorCode::KafkaStorageError } else { ErrorCode::LogDirNotFound });
        };
        if root.is_offline() {
            return Err(ErrorCode::KafkaStorageError);
        }
        if self.cordoned_dirs().contains(&root.id()) {
            return Err(ErrorCode::InvalidReplicaAssignment);
        }
        Ok(root.clone())
    }

    /// Remembers where a replica shall go that is not here yet.
    fn prefer(&self, topic: &str, index: i32, root: &Arc<Root>) {
        /// Nobody means to name more of them than there are partitions.
        const PREFERRED_MAX: usize = 100_000;
        let preferred = &mut *lock(&self.store.preferred);
        let name = PartitionName::new(topic, index);
        if preferred.len() < PREFERRED_MAX || preferred.contains_key(&name) {
            preferred.insert(name, root.clone());
        }
    }

    /// Goes on with the moves that the node found when it started.
    pub(crate) fn resume_moves(&self, now: Millis, out: &mut Effects) {
        for partition in self.topics().iter().flat_map(|topic| &topic.partitions) {
            if partition.is_moving() {
                self.moves.list(partition, now, out);
            }
        }
    }

    /// The copy of a move that is over goes.
    pub(crate) fn discard(
        &self,
        partition: &Partition,
        abandoned: Abandoned,
        now: Millis,
        out: &mut Effects,
    ) {
        let Abandoned { root, path, home, was_told } = abandoned;
        if let Some(home) = home.filter(|_| was_told || self.is_assigned_to(partition, &root)) {
            self.assign(key_of(partition), home.id(), now, out);
        }
        if root.is_offline() {
            return;
        }
        let name = PartitionName::new(&*partition.topic.name, partition.index);
        match root.set_future_aside(&name, &path, self.moves.unique(now)) {
            Ok(Some(path)) => {
                let delay = self.live_config().topic_defaults.file_delete_delay_ms;
                self.store.doom(Doomed::Directory(path), now + delay, out);
            }
            Ok(None) => {}
            Err(error) => {
                self.store.fail_if_broken(&root, &error);
                out.push(Effect::Report(format!("{name}: {error}")));
            }
        }
    }

    /// Whether the controller believes that the replica is in that directory.
    pub(crate) fn is_assigned_to(&self, partition: &Partition, root: &Root) -> bool {
        let image = self.image();
        let described = image.topic(TopicId(partition.topic.id));
        let state = described.and_then(|topic| topic.partitions.get(&PartitionId(partition.index)));
        state.and_then(|state| state.directory_of(NodeId(self.config.node_id))) == Some(root.id())
    }

    /// The controller knows of the directory to which a replica moves.
    pub(crate) fn on_move_told(&self, key: PartitionKey, directory: Uuid, now: Millis, out: &mut Effects) {
        let topics = self.topics();
        let Some(partition) = topics.by_id(key.0).and_then(|topic| topic.partition(key.1).ok()) else {
            return;
        };
        if partition.advance_move(directory, Stage::Telling, Stage::Told) {
            self.moves.wake(key, now, out);
        }
    }

    /// A directory failed: copies in it are of no use. (Logs in it are offline by now, and their copies are left alone.)
    pub(crate) fn leave_moves_to(&self, root: &Arc<Root>, now: Millis, out: &mut Effects) {
        for partition in self.topics().iter().flat_map(|topic| &topic.partitions) {
            let goes_there = |(future, _): (Arc<Future>, Stage)| Arc::ptr_eq(&future.root, root);
            if partition.moving().is_some_and(goes_there)
                && let Some(abandoned) = partition.leave_move(now, out)
            {
                self.discard(partition, abandoned, now, out);
            }
        }
    }
}
