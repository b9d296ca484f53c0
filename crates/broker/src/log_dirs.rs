//! The log directories of this broker as the cluster sees them: where replicas are put, what the controller is told of that, and what
//! happens when a directory fails (KIP-112, KIP-858; Kafka: `LogManager`, `AssignmentsManager`, `ReplicaManager.handleLogDirFailure`).
//!
//! The one tricky idea: whoever meets the failure holds a partition's lock, and can not touch other partitions. It only says so
//! ([`crate::store::Store::fail`]); all partitions of the directory are taken out of service soon after, outside of all locks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use ottla_metadata::topic_name::{CONSUMER_OFFSETS, TRANSACTION_STATE};
use ottla_metadata::{Partition as Described, directory};
use ottla_protocol::ids::NodeId;
use ottla_protocol::messages::assign_replicas_to_dirs_request::{
    AssignReplicasToDirsRequest, DirectoryData, PartitionData, TopicData,
};
use ottla_protocol::messages::assign_replicas_to_dirs_response::AssignReplicasToDirsResponse;
use ottla_protocol::{ErrorCode, Uuid};
use ottla_storage::PartitionName;

use crate::Broker;
use crate::effect::{Effect, Effects, Millis, ReadTask};
use crate::partition::{Abandoned, Partition};
use crate::quorum::Ask;
use crate::replication::PartitionKey;
use crate::sessions::lock;
use crate::store::Root;
use crate::upkeep::Doomed;

/// Pause before assignments that were not accepted are told again.
const RETRY_MS: Millis = 500;
/// Replicas of one request (`AssignmentsManager.MAX_ASSIGNMENTS_PER_REQUEST`).
const REPLICAS_MAX: usize = 2250;

/// What the controller has to be told of the directories of replicas.
#[derive(Debug, Default)]
pub(crate) struct Assignments {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    waiting: BTreeMap<PartitionKey, Uuid>,
    asked: BTreeMap<PartitionKey, Uuid>,
    at: Millis,
}

impl Broker {
    /// Finds a directory for a replica that the image gives to this node, and sees to it that the controller knows where it is.
    pub(crate) fn house(
        &self,
        partition: &Arc<Partition>,
        state: &Described,
        now: Millis,
        out: &mut Effects,
    ) {
        let Some(assigned) = state.directory_of(NodeId(self.config.node_id)) else { return };
        let root = match partition.root() {
            Some(root) => root,
            None if partition.is_offline() => return,
            None => match self.choose_dir(partition, assigned) {
                Some(root) => {
                    partition.move_in(&root);
                    root
                }
                // It may be in a directory that failed.
                None => return self.take_offline(partition, now, out),
            },
        };
        // The controller hears of a directory before the log is there.
        let moves_there = partition.moving().is_some_and(|(future, _)| future.root.id() == assigned);
        let is_vague = assigned == directory::UNASSIGNED || assigned == directory::MIGRATING;
        let is_only = self.store.roots().iter().filter(|root| root.holds_partitions).count() == 1;
        let is_known = assigned == root.id() || moves_there || is_vague && is_only;
        if !is_known && !root.is_offline() {
            self.assign((partition.topic.id, partition.index), root.id(), now, out);
        }
    }

    /// `None`: a log that exists may be in a directory that is not there.
    fn choose_dir(&self, partition: &Partition, assigned: Uuid) -> Option<Arc<Root>> {
        let name = PartitionName::new(&*partition.topic.name, partition.index);
        if self.store.homes().any(|root| root.future(&name).is_some()) {
            // A copy of it is here.
            return None;
        }
        let preferred = lock(&self.store.preferred).remove(&name);
        let known = self.store.by_id(assigned);
        if known.is_some() {
            return known.cloned();
        }
        let is_new = assigned == directory::UNASSIGNED;
        if !is_new && self.store.is_incomplete() {
            return None;
        }
        let preferred = preferred.filter(|root| !root.is_offline());
        preferred.or_else(|| self.store.place(&self.live_config().cordoned_log_dirs).cloned())
    }

    /// Tells the controller in which directory a replica is.
    pub(crate) fn assign(&self, key: PartitionKey, directory: Uuid, now: Millis, out: &mut Effects) {
        if !self.image().metadata_version().is_some_and(|level| level.supports_directory_assignment()) {
            return;
        }
        lock(&self.assignments.state).waiting.insert(key, directory);
        out.push(Effect::Tick { at: now });
    }

    fn send_assignments(&self, now: Millis, out: &mut Effects) {
        let request = {
            let state = &mut *lock(&self.assignments.state);
            if !state.asked.is_empty() || state.waiting.is_empty() {
                return;
            }
            if now < state.at {
                out.push(Effect::Tick { at: state.at });
                return;
            }
            let mut directories: BTreeMap<Uuid, BTreeMap<Uuid, Vec<PartitionData>>> = BTreeMap::new();
            while let Some(((topic_id, index), directory)) = state.waiting.pop_first() {
                let topics = directories.entry(directory).or_default();
                topics.entry(topic_id).or_default().push(PartitionData { partition_index: index });
                state.asked.insert((topic_id, index), directory);
                if state.asked.len() >= REPLICAS_MAX {
                    break;
                }
            }
            let topic = |(topic_id, partitions)| TopicData { topic_id, partitions };
            let directories = directories.into_iter();
            AssignReplicasToDirsRequest {
                broker_id: self.config.node_id,
                broker_epoch: self.broker_epoch(),
                directories: directories
                    .map(|(id, topics)| DirectoryData { id, topics: topics.into_iter().map(topic).collect() })
                    .collect(),
            }
        };
        self.ask_controller(Ask::Directories(Box::new(request)), now, out);
    }

    /// The controller took note of where replicas are, or did not answer.
    pub(crate) fn on_directories_assigned(
        &self,
        answer: Option<AssignReplicasToDirsResponse>,
        now: Millis,
        out: &mut Effects,
    ) {
        let answer = answer.filter(|answer| answer.error_code == ErrorCode::None.code());
        let mut told = Vec::new();
        self.note_assigned(answer.as_ref(), &mut told, now, out);
        for (key, directory) in told {
            self.on_move_told(key, directory, now, out);
        }
    }

    fn note_assigned(
        &self,
        answer: Option<&AssignReplicasToDirsResponse>,
        told: &mut Vec<(PartitionKey, Uuid)>,
        now: Millis,
        out: &mut Effects,
    ) {
        let state = &mut *lock(&self.assignments.state);
        let mut asked = std::mem::take(&mut state.asked);
        let directories = answer.iter().flat_map(|answer| &answer.directories);
        for topic in directories.flat_map(|directory| &directory.topics) {
            for data in &topic.partitions {
                match ErrorCode::from_code(data.error_code) {
                    // What was deleted, or went to other nodes, is nobody's business any more.
                    ErrorCode::None
                    | ErrorCode::UnknownTopicId
                    | ErrorCode::UnknownTopicOrPartition
                    | ErrorCode::NotLeaderOrFollower => {
                        let key = (topic.topic_id, data.partition_index);
                        told.extend(asked.remove(&key).map(|directory| (key, directory)));
                    }
                    _ => {}
                }
            }
        }
        if !asked.is_empty() {
            state.at = now + RETRY_MS;
        }
        for (key, directory) in asked {
            // Unless it has moved on meanwhile.
            state.waiting.entry(key).or_insert(directory);
        }
        if !state.waiting.is_empty() {
            out.push(Effect::Tick { at: state.at.max(now) });
        }
    }

    /// Time passed: what the controller does not know yet is told, and if it was not told of a failed directory in time this node stops.
    pub(crate) fn on_log_dirs_tick(&self, now: Millis, out: &mut Effects) {
        if self.lifecycle.is_taken_up() {
            self.send_assignments(now, out);
        }
        if let Some(at) = self.lifecycle.untold_since() {
            let due = at + self.config.log_dir_failure_timeout_ms;
            if now >= due {
                out.push(Effect::Halt(
                    "the controller could not be told within log.dir.failure.timeout.ms that a log directory failed".to_owned(),
                ));
            } else {
                out.push(Effect::Tick { at: due });
            }
        }
    }

    /// Takes the partitions of directories that failed out of service, and has logs opened anew that failed for want of something. Called
    /// outside of all locks.
    pub(crate) fn on_dirs_failed(&self, now: Millis, out: &mut Effects) {
        self.plan_refill(now, out);
        if !self.store.take_failed() {
            return;
        }
        let topics = self.topics();
        for (topic_id, index) in self.store.take_closing() {
            let partition = topics.partition_by_id(topic_id, index);
            let Ok(partition) = partition else { continue };
            let wakes = partition.close_failed();
            self.wake(&partition, wakes, now, out);
            out.push(Effect::Read(ReadTask::Reopen(partition)));
        }
        for root in self.store.roots().iter().filter(|root| root.is_offline()) {
            if !self.lifecycle.on_dir_failed(root.id(), now) {
                continue;
            }
            let path = root.path().display();
            let partitions = topics.iter().flat_map(|topic| &topic.partitions);
            let is_here = |home: &Arc<Root>| Arc::ptr_eq(home, root);
            let lost: Vec<_> =
                partitions.filter(|partition| partition.root().as_ref().is_some_and(is_here)).collect();
            out.push(Effect::Report(format!(
                "log directory {path} failed and is not used any more, with the replicas of {} partitions: {}",
                lost.len(),
                root.failure().unwrap_or_default()
            )));
            for partition in lost {
                self.take_offline(partition, now, out);
            }
            self.leave_moves_to(root, now, out);
            if Arc::ptr_eq(root, self.store.metadata_root()) {
                out.push(Effect::Halt(format!("{path}, the directory of the metadata log, failed")));
            } else if self.store.homes().next().is_none() {
                out.push(Effect::Halt(format!("{path} failed, and no other log directory is left")));
            }
            self.lifecycle.hurry(now);
            out.push(Effect::Tick { at: now });
        }
    }

    /// Opens a log anew; if that fails for want of something, it is tried again later. Waits for the disk.
    pub(crate) fn reopen(&self, partition: &Arc<Partition>, now: Millis, out: &mut Effects) {
        if partition.settle(now).is_err() && partition.has_upkeep() {
            self.store.doom(Doomed::Reopening(partition.clone()), now + RETRY_MS, out);
        }
    }

    fn take_offline(&self, partition: &Arc<Partition>, now: Millis, out: &mut Effects) {
        self.fetchers.leave((partition.topic.id, partition.index));
        let (abandoned, wakes) = partition.go_offline();
        self.wake(partition, wakes, now, out);
        if let Some(Abandoned { root, home: Some(home), was_told, .. }) = abandoned
            && (was_told || self.is_assigned_to(partition, &root))
        {
            // The controller must not believe that it is where its copy is. What is there of it is taken up by the next start.
            self.assign((partition.topic.id, partition.index), home.id(), now, out);
        }
        match &*partition.topic.name {
            TRANSACTION_STATE => self.transactions.resign(self, partition.index, now, out),
            CONSUMER_OFFSETS => self.groups.resign(self, partition.index, now, out),
            _ => {}
        }
    }

    /// Which of the directories take no new replicas (KIP-1066).
    pub(crate) fn cordoned_dirs(&self) -> Vec<Uuid> {
        let live = self.live_config();
        let is_cordoned = |root: &&Arc<Root>| {
            live.cordoned_log_dirs.iter().any(|path| std::path::Path::new(path) == root.path())
        };
        self.store.homes().filter(is_cordoned).map(|root| root.id()).collect()
    }
}
