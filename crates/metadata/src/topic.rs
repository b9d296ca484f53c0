//! Topics and partitions as the metadata log knows them.
//!
//! The tricky idea: every change of a partition raises its partition epoch by one; only a change that names a leader
//! (the same one counts too) raises the leader epoch. `Partition::changed` is the one place where both happen.

use crate::directory;
use crate::metadata_version::MetadataVersion;
use imbl::OrdMap;
use ottla_protocol::Uuid;
use ottla_protocol::ids::{LeaderEpoch, NodeId, PartitionId, TopicId};
use ottla_protocol::messages::partition_change_record::PartitionChangeRecord;
use ottla_protocol::messages::partition_record::PartitionRecord;
use std::sync::Arc;

/// In a PartitionChangeRecord: the leader does not change.
pub const NO_LEADER_CHANGE: i32 = -2;
/// In records and responses: there is no leader.
pub const NO_LEADER: i32 = -1;
/// In a PartitionChangeRecord: the recovery state does not change.
pub const NO_RECOVERY_CHANGE: i8 = -1;

/// A topic. Cheap to clone; partitions are shared between clones.
#[derive(Debug, Clone, PartialEq)]
pub struct Topic {
    /// The id, never used again after deletion.
    pub id: TopicId,
    /// The name.
    pub name: Arc<str>,
    /// The partitions by number: 0, 1, 2 and so on without a gap.
    pub partitions: OrdMap<PartitionId, Arc<Partition>>,
}

impl Topic {
    /// How many partitions the topic has.
    pub fn partition_count(&self) -> i32 {
        i32::try_from(self.partitions.len()).unwrap_or(i32::MAX)
    }

    /// The replication factor, as Kafka understands it: that of partition 0.
    pub fn replication_factor(&self) -> usize {
        self.partitions.get(&PartitionId(0)).map_or(0, |partition| partition.replicas.len())
    }
}

/// Whether the leader was elected from outside the ISR and may still have to recover (KIP-704).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum LeaderRecoveryState {
    /// The usual state.
    #[default]
    Recovered,
    /// The election was unclean.
    Recovering,
}

impl LeaderRecoveryState {
    /// The state's number in records and requests.
    pub fn code(self) -> i8 {
        match self {
            LeaderRecoveryState::Recovered => 0,
            LeaderRecoveryState::Recovering => 1,
        }
    }

    /// The state with that number.
    pub fn from_code(code: i8) -> Option<LeaderRecoveryState> {
        match code {
            0 => Some(LeaderRecoveryState::Recovered),
            1 => Some(LeaderRecoveryState::Recovering),
            _ => None,
        }
    }
}

/// A partition: where it lives, who leads, who is in sync.
#[derive(Debug, Clone, PartialEq, Eq, Default, Hash)]
pub struct Partition {
    /// The assigned replicas; the first is the preferred leader.
    pub replicas: Vec<NodeId>,
    /// The log directory of each replica, in the order of `replicas`.
    pub directories: Vec<Uuid>,
    /// The in-sync replicas.
    pub isr: Vec<NodeId>,
    /// The replicas that a reassignment takes away.
    pub removing_replicas: Vec<NodeId>,
    /// The replicas that a reassignment adds.
    pub adding_replicas: Vec<NodeId>,
    /// The replicas outside the ISR that still hold every committed record (KIP-966).
    pub elr: Vec<NodeId>,
    /// The last known leader or eligible replicas, once nobody is left.
    pub last_known_elr: Vec<NodeId>,
    /// The leader, if there is one.
    pub leader: Option<NodeId>,
    /// Whether the leader came from an unclean election.
    pub leader_recovery_state: LeaderRecoveryState,
    /// Raised by one at each election.
    pub leader_epoch: LeaderEpoch,
    /// Raised by one at each change.
    pub partition_epoch: i32,
}

/// What is wrong with a partition's record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartitionError {
    /// Directories and replicas differ in number.
    Directories,
    /// A recovery state that does not exist.
    RecoveryState(i8),
}

impl Partition {
    /// The partition that a PartitionRecord describes.
    pub fn from_record(record: &PartitionRecord) -> Result<Partition, PartitionError> {
        let replicas = nodes(&record.replicas);
        Ok(Partition {
            directories: directories(Some(&record.directories), replicas.len())?,
            replicas,
            isr: nodes(&record.isr),
            removing_replicas: nodes(&record.removing_replicas),
            adding_replicas: nodes(&record.adding_replicas),
            elr: record.eligible_leader_replicas.as_deref().map(nodes).unwrap_or_default(),
            last_known_elr: record.last_known_elr.as_deref().map(nodes).unwrap_or_default(),
            leader: leader(record.leader),
            leader_recovery_state: LeaderRecoveryState::from_code(record.leader_recovery_state)
                .ok_or(PartitionError::RecoveryState(record.leader_recovery_state))?,
            leader_epoch: LeaderEpoch(record.leader_epoch),
            partition_epoch: record.partition_epoch,
        })
    }

    /// The record that recreates this partition. Before 3.7-IV2 it can not tell directories, and there are none.
    pub fn to_record(
        &self,
        topic_id: TopicId,
        partition: PartitionId,
        metadata_version: MetadataVersion,
    ) -> PartitionRecord {
        PartitionRecord {
            partition_id: partition.0,
            topic_id: topic_id.0,
            replicas: numbers(&self.replicas),
            isr: numbers(&self.isr),
            removing_replicas: numbers(&self.removing_replicas),
            adding_replicas: numbers(&self.adding_replicas),
            leader: self.leader.map_or(NO_LEADER, |leader| leader.0),
            leader_recovery_state: self.leader_recovery_state.code(),
            leader_epoch: self.leader_epoch.0,
            partition_epoch: self.partition_epoch,
            directories: match metadata_version.supports_directory_assignment() {
                true => self.directories.clone(),
                false => Vec::new(),
            },
            eligible_leader_replicas: some_unless_empty(&self.elr),
            last_known_elr: some_unless_empty(&self.last_known_elr),
        }
    }

    /// The partition after a change. Raises the partition epoch, and the leader epoch if the change names a leader.
    pub fn changed(&self, change: &PartitionChangeRecord) -> Result<Partition, PartitionError> {
        let replicas = change.replicas.as_deref().map_or_else(|| self.replicas.clone(), nodes);
        let new_directories = change.directories.as_deref().unwrap_or(&self.directories);
        let or_same = |field: &Option<Vec<i32>>, same: &Vec<NodeId>| {
            field.as_deref().map_or_else(|| same.clone(), nodes)
        };
        let (leader, leader_epoch) = match change.leader {
            NO_LEADER_CHANGE => (self.leader, self.leader_epoch),
            named => (leader(named), LeaderEpoch(self.leader_epoch.0.saturating_add(1))),
        };
        let leader_recovery_state = match change.leader_recovery_state {
            NO_RECOVERY_CHANGE => self.leader_recovery_state,
            code => LeaderRecoveryState::from_code(code).ok_or(PartitionError::RecoveryState(code))?,
        };
        Ok(Partition {
            directories: directories(Some(new_directories), replicas.len())?,
            replicas,
            isr: or_same(&change.isr, &self.isr),
            removing_replicas: or_same(&change.removing_replicas, &self.removing_replicas),
            adding_replicas: or_same(&change.adding_replicas, &self.adding_replicas),
            elr: or_same(&change.eligible_leader_replicas, &self.elr),
            last_known_elr: or_same(&change.last_known_elr, &self.last_known_elr),
            leader,
            leader_recovery_state,
            leader_epoch,
            partition_epoch: self.partition_epoch.saturating_add(1),
        })
    }

    /// The directory of `replica`, if it is assigned.
    pub fn directory_of(&self, replica: NodeId) -> Option<Uuid> {
        let index = self.replicas.iter().position(|r| *r == replica)?;
        self.directories.get(index).copied()
    }

    /// The leader as requests and responses say it: -1 for none.
    pub fn leader_or_none(&self) -> i32 {
        self.leader.map_or(NO_LEADER, |leader| leader.0)
    }
}

/// Node ids out of the numbers of a record.
pub fn nodes(numbers: &[i32]) -> Vec<NodeId> {
    numbers.iter().map(|id| NodeId(*id)).collect()
}

/// The numbers of node ids, for a record or a response.
pub fn numbers(nodes: &[NodeId]) -> Vec<i32> {
    nodes.iter().map(|node| node.0).collect()
}

fn some_unless_empty(nodes: &[NodeId]) -> Option<Vec<i32>> {
    (!nodes.is_empty()).then(|| numbers(nodes))
}

fn leader(number: i32) -> Option<NodeId> {
    (number >= 0).then_some(NodeId(number))
}

/// Directories from before their time (none, or all "migrating") stretch to the number of replicas.
fn directories(given: Option<&[Uuid]>, replicas: usize) -> Result<Vec<Uuid>, PartitionError> {
    let given = given.unwrap_or_default();
    if given.iter().all(|dir| *dir == directory::MIGRATING) {
        return Ok(vec![directory::MIGRATING; replicas]);
    }
    if given.len() != replicas {
        return Err(PartitionError::Directories);
    }
    Ok(given.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition() -> Partition {
        let record = PartitionRecord {
            partition_id: 3,
            topic_id: Uuid([9; 16]),
            replicas: vec![1, 2, 3],
            isr: vec![1, 2],
            leader: 1,
            leader_epoch: 4,
            partition_epoch: 7,
            directories: vec![Uuid([1; 16]), Uuid([2; 16]), Uuid([3; 16])],
            ..Default::default()
        };
        Partition::from_record(&record).expect("valid")
    }

    #[test]
    fn records_round_trip() {
        let full = Partition {
            elr: nodes(&[3]),
            last_known_elr: nodes(&[1]),
            removing_replicas: nodes(&[2]),
            adding_replicas: nodes(&[3]),
            leader: None,
            leader_recovery_state: LeaderRecoveryState::Recovering,
            ..partition()
        };
        for partition in [partition(), full] {
            let record = partition.to_record(TopicId(Uuid([9; 16])), PartitionId(3), MetadataVersion::LATEST);
            assert_eq!(Partition::from_record(&record), Ok(partition));
        }
        let old = partition().to_record(TopicId(Uuid([9; 16])), PartitionId(3), MetadataVersion(16));
        assert_eq!(old.directories, []);
    }

    #[test]
    fn a_change_raises_the_partition_epoch_and_sometimes_the_leader_epoch() {
        let before = partition();
        let shrink = PartitionChangeRecord { isr: Some(vec![1]), ..Default::default() };
        let after = before.changed(&shrink).expect("valid");
        assert_eq!((after.leader_epoch, after.partition_epoch), (LeaderEpoch(4), 8));
        assert_eq!(after.isr, nodes(&[1]));
        let elect = PartitionChangeRecord { leader: 2, ..Default::default() };
        let after = before.changed(&elect).expect("valid");
        assert_eq!(
            (after.leader, after.leader_epoch, after.partition_epoch),
            (Some(NodeId(2)), LeaderEpoch(5), 8)
        );
        let lose = PartitionChangeRecord { leader: NO_LEADER, ..Default::default() };
        let after = before.changed(&lose).expect("valid");
        assert_eq!((after.leader, after.leader_epoch), (None, LeaderEpoch(5)));
    }

    #[test]
    fn directories_must_match_replicas() {
        let record =
            PartitionRecord { replicas: vec![1, 2], directories: vec![Uuid([1; 16])], ..Default::default() };
        assert_eq!(Partition::from_record(&record), Err(PartitionError::Directories));
        let old = PartitionRecord { replicas: vec![1, 2], ..Default::default() };
        let old = Partition::from_record(&old).expect("valid");
        assert_eq!(old.directories, vec![directory::MIGRATING; 2]);
        let grow = PartitionChangeRecord { replicas: Some(vec![1, 2, 3]), ..Default::default() };
        assert_eq!(old.changed(&grow).expect("valid").directories, vec![directory::MIGRATING; 3]);
        assert_eq!(partition().directory_of(NodeId(2)), Some(Uuid([2; 16])));
        assert_eq!(partition().directory_of(NodeId(9)), None);
    }

    #[test]
    fn unknown_recovery_states_are_refused() {
        let change = PartitionChangeRecord { leader_recovery_state: 7, ..Default::default() };
        assert_eq!(partition().changed(&change), Err(PartitionError::RecoveryState(7)));
    }
}
