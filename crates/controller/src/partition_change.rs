//! How one partition answers to a change of its surroundings: a broker fenced, a broker back, an ISR proposed, replicas moved.
//!
//! The tricky idea (KIP-966): when the ISR falls below `min.insync.replicas`, no record can be committed any more, so
//! those who just left still hold every committed record. They are remembered as eligible leader replicas, and may
//! lead again without loss when the ISR is empty; only a replica that stopped uncleanly is struck from them. If even
//! they are gone, the last leader is remembered, and is believed (unclean, but least bad) when it alone comes back.
//!
//! A caller edits `target`, the partition as it shall become: replicas, ISR, reassignment, recovery. What follows from that (a completed
//! reassignment, ELR, leader) is worked out here, and the record is the difference.

use crate::guard::Guard;
use crate::reassignment;
use ottla_metadata::topic::{LeaderRecoveryState, NO_LEADER_CHANGE, NO_RECOVERY_CHANGE, numbers};
use ottla_metadata::{MetadataVersion, Partition};
use ottla_protocol::Uuid;
use ottla_protocol::ids::{NodeId, PartitionId, TopicId};
use ottla_protocol::messages::partition_change_record::PartitionChangeRecord;
use std::collections::BTreeSet;

/// Who may be elected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Election {
    /// Somebody who has every committed record; the leader stays if it can.
    Online,
    /// The same, but the preferred replica comes before the present leader.
    Preferred,
    /// Anybody who is alive, rather than nobody. May lose records.
    Unclean,
}

/// A change that is being worked out.
pub struct PartitionChange<'a> {
    /// The partition as it is.
    pub partition: &'a Partition,
    /// Its topic.
    pub topic_id: TopicId,
    /// Its number.
    pub index: PartitionId,
    /// The partition as it shall become. Its leader, eligible replicas and epochs are not looked at.
    pub target: Partition,
    /// Who may be elected.
    pub election: Election,
    /// A replica that stopped without saying so: it may have lost what it held.
    pub unclean_shutdown: Option<NodeId>,
    /// Whether the cluster keeps eligible leader replicas.
    pub elr_enabled: bool,
    /// `min.insync.replicas` of the topic, at most its replication factor.
    pub min_isr: usize,
    /// The cluster's metadata.version.
    pub metadata_version: MetadataVersion,
    /// Whether a broker that keeps its replica in this directory may lead now: alive, and the directory online.
    pub may_lead: &'a dyn Fn(NodeId, Uuid) -> bool,
}

/// Who leads after an election, and whether it may lose records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Elected {
    leader: Option<NodeId>,
    unclean: bool,
}

impl PartitionChange<'_> {
    /// The record of the change; `None` if everything stays as it is.
    pub fn record(mut self) -> Option<PartitionChangeRecord> {
        let before = self.partition;
        reassignment::complete(&mut self.target);
        self.target.elr = self.eligible();
        let elected = self.elect();
        let names_leader = self.install(elected) || self.loses_replica();
        if !self.elr_enabled {
            self.target.elr.clear();
            // Without eligible replicas an ISR never becomes empty: its last member stays as the only one to wait for.
            if self.target.isr.is_empty() {
                self.target.isr.clone_from(&before.isr);
            }
        }
        let names_leader = names_leader || self.must_bump_for_isr();
        self.target.last_known_elr = self.last_known(names_leader);
        let record = self.difference(names_leader);
        (!is_no_change(&record)).then_some(record)
    }

    /// The eligible leader replicas after the change, if nobody is elected from among them.
    fn eligible(&self) -> Vec<NodeId> {
        let too_few = self.target.isr.len() < self.min_isr;
        if !self.elr_enabled || !Guard::EligibleBelowMinIsr.holds(too_few) {
            return Vec::new();
        }
        let candidates: BTreeSet<NodeId> =
            self.partition.elr.iter().chain(&self.partition.isr).copied().collect();
        let keeps = |replica: &NodeId| {
            !self.target.isr.contains(replica)
                && self.target.replicas.contains(replica)
                && Guard::UncleanIsNotEligible.holds(self.unclean_shutdown != Some(*replica))
        };
        candidates.into_iter().filter(keeps).collect()
    }

    fn may_lead(&self, replica: NodeId) -> bool {
        let directory = self.target.directory_of(replica);
        directory.is_some_and(|directory| (self.may_lead)(replica, directory))
    }

    fn elect(&self) -> Elected {
        let target = &self.target;
        let clean = |replica: &NodeId| {
            let nobody_in_sync = Guard::EligibleWhenIsrIsEmpty.holds(target.isr.is_empty());
            let complete = target.isr.contains(replica) || (nobody_in_sync && target.elr.contains(replica));
            Guard::ElectedIsComplete.holds(complete) && self.may_lead(*replica)
        };
        let preferred = match self.election {
            Election::Preferred => target.replicas.first().copied(),
            Election::Online | Election::Unclean => None,
        };
        let mut candidates =
            preferred.into_iter().chain(self.partition.leader).chain(target.replicas.iter().copied());
        if let Some(leader) = candidates.find(clean) {
            return Elected { leader: Some(leader), unclean: false };
        }
        if let Some(leader) = self.last_known_leader() {
            return Elected { leader: Some(leader), unclean: true };
        }
        let anybody = target.replicas.iter().copied().find(|replica| self.may_lead(*replica));
        match anybody.filter(|_| self.election == Election::Unclean) {
            Some(leader) => Elected { leader: Some(leader), unclean: true },
            None => Elected { leader: None, unclean: false },
        }
    }

    /// The last leader, if nobody else is left and it is back.
    fn last_known_leader(&self) -> Option<NodeId> {
        let nobody_else =
            Guard::LastLeaderIsLastResort.holds(self.target.elr.is_empty() && self.target.isr.is_empty());
        let nobody_else = self.elr_enabled && nobody_else;
        match self.partition.last_known_elr.as_slice() {
            [last] if nobody_else && self.may_lead(*last) => Some(*last),
            _ => None,
        }
    }

    /// Puts the elected one into its office. Whether the record has to name it.
    fn install(&mut self, elected: Elected) -> bool {
        let target = &mut self.target;
        target.leader = elected.leader;
        if let Some(leader) = elected.leader {
            if elected.unclean {
                target.isr = vec![leader];
                target.elr.clear();
                target.leader_recovery_state = LeaderRecoveryState::Recovering;
            } else if target.elr.contains(&leader) {
                let others = std::mem::replace(&mut target.isr, vec![leader]);
                if !Guard::ElectedFromEligibleIsAlone.stands() {
                    target.isr.extend(
                        others.into_iter().chain(target.elr.iter().copied().filter(|it| *it != leader)),
                    );
                    target.elr.clear();
                }
                target.elr.retain(|replica| *replica != leader);
            }
        }
        elected.leader != self.partition.leader
    }

    /// Who is no replica any more has to notice: a new leader epoch tells it.
    fn loses_replica(&self) -> bool {
        self.partition.replicas.iter().any(|replica| !self.target.replicas.contains(replica))
    }

    /// Brokers before 3.6 needed a new leader epoch with each ISR that lost a member (KAFKA-15021).
    fn must_bump_for_isr(&self) -> bool {
        self.metadata_version.bumps_leader_epoch_on_isr_shrink()
            && self.partition.isr.iter().any(|replica| !self.target.isr.contains(replica))
    }

    /// A partition that loses its leader remembers it, until there is one again.
    fn last_known(&self, names_leader: bool) -> Vec<NodeId> {
        let remembered = &self.partition.last_known_elr;
        if !self.elr_enabled || !names_leader {
            return remembered.clone();
        }
        let kept = |last: &NodeId| self.target.replicas.contains(last);
        match self.target.leader {
            Some(_) => Vec::new(),
            None if remembered.is_empty() => self.partition.leader.into_iter().filter(kept).collect(),
            None => remembered.iter().copied().filter(kept).collect(),
        }
    }

    /// What the record has to say for the partition to become the target.
    fn difference(&self, names_leader: bool) -> PartitionChangeRecord {
        let (before, after) = (self.partition, &self.target);
        let changed = |before: &Vec<NodeId>, after: &Vec<NodeId>| (before != after).then(|| numbers(after));
        let directories =
            self.metadata_version.supports_directory_assignment() && before.directories != after.directories;
        PartitionChangeRecord {
            partition_id: self.index.0,
            topic_id: self.topic_id.0,
            isr: changed(&before.isr, &after.isr),
            leader: if names_leader { after.leader_or_none() } else { NO_LEADER_CHANGE },
            replicas: changed(&before.replicas, &after.replicas),
            removing_replicas: changed(&before.removing_replicas, &after.removing_replicas),
            adding_replicas: changed(&before.adding_replicas, &after.adding_replicas),
            leader_recovery_state: match before.leader_recovery_state == after.leader_recovery_state {
                true => NO_RECOVERY_CHANGE,
                false => after.leader_recovery_state.code(),
            },
            directories: directories.then(|| after.directories.clone()),
            eligible_leader_replicas: changed(&before.elr, &after.elr),
            last_known_elr: changed(&before.last_known_elr, &after.last_known_elr),
        }
    }
}

fn is_no_change(record: &PartitionChangeRecord) -> bool {
    let unnamed = PartitionChangeRecord {
        partition_id: record.partition_id,
        topic_id: record.topic_id,
        leader: NO_LEADER_CHANGE,
        leader_recovery_state: NO_RECOVERY_CHANGE,
        ..Default::default()
    };
    *record == unnamed
}
