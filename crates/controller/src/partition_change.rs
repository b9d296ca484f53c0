//! How one partition answers to a change of its surroundings: a broker fenced, a broker back, an ISR proposed.
//!
//! The tricky idea (KIP-966): when the ISR falls below `min.insync.replicas`, no record can be committed any more, so
//! those who just left still hold every committed record. They are remembered as eligible leader replicas, and may
//! lead again without loss when the ISR is empty; only a replica that stopped uncleanly is struck from them. If even
//! they are gone, the last leader is remembered, and is believed (unclean, but least bad) when it alone comes back.

use ottla_metadata::topic::{LeaderRecoveryState, NO_LEADER, NO_LEADER_CHANGE, NO_RECOVERY_CHANGE, numbers};
use ottla_metadata::{MetadataVersion, Partition};
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
    /// The ISR that it shall have.
    pub isr: Vec<NodeId>,
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
    /// Whether a broker may lead this partition now: alive, and the replica's directory online.
    pub may_lead: &'a dyn Fn(NodeId) -> bool,
}

/// Who leads after an election, and whether it may lose records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Elected {
    leader: Option<NodeId>,
    unclean: bool,
}

impl PartitionChange<'_> {
    /// The record of the change; `None` if everything stays as it is.
    pub fn record(self) -> Option<PartitionChangeRecord> {
        let partition = self.partition;
        let mut isr = self.isr.clone();
        let mut elr = self.eligible();
        let mut record = PartitionChangeRecord {
            partition_id: self.index.0,
            topic_id: self.topic_id.0,
            ..Default::default()
        };
        let elected = self.elect(&elr);
        if elected.leader != partition.leader {
            record.leader = elected.leader.map_or(NO_LEADER, |leader| leader.0);
            if let Some(leader) = elected.leader {
                if elr.contains(&leader) {
                    isr = vec![leader];
                    elr.retain(|replica| *replica != leader);
                }
                if elected.unclean {
                    record.isr = Some(vec![leader.0]);
                    if partition.leader_recovery_state != LeaderRecoveryState::Recovering {
                        record.leader_recovery_state = LeaderRecoveryState::Recovering.code();
                    }
                }
            }
        }
        if record.isr.is_some() || !self.elr_enabled {
            elr.clear();
        }
        if elr != partition.elr {
            record.eligible_leader_replicas = Some(numbers(&elr));
        }
        // Without eligible replicas an ISR never becomes empty: its last member stays as the only one to wait for.
        if record.isr.is_none() && (!isr.is_empty() || self.elr_enabled) && isr != partition.isr {
            record.isr = Some(numbers(&isr));
        }
        self.bump_on_shrink(&mut record);
        self.remember_last_leader(&mut record);
        (!is_no_change(&record)).then_some(record)
    }

    /// The eligible leader replicas after the change, if nobody is elected from among them.
    fn eligible(&self) -> Vec<NodeId> {
        if !self.elr_enabled {
            return self.partition.elr.clone();
        }
        if self.isr.len() >= self.min_isr {
            return Vec::new();
        }
        let candidates: BTreeSet<NodeId> =
            self.partition.elr.iter().chain(&self.partition.isr).copied().collect();
        let keeps = |replica: &NodeId| !self.isr.contains(replica) && self.unclean_shutdown != Some(*replica);
        candidates.into_iter().filter(keeps).collect()
    }

    fn elect(&self, elr: &[NodeId]) -> Elected {
        let clean = |replica: NodeId| {
            let complete = self.isr.contains(&replica) || (self.isr.is_empty() && elr.contains(&replica));
            complete && (self.may_lead)(replica)
        };
        let partition = self.partition;
        let preferred = match self.election {
            Election::Preferred => partition.replicas.first().copied(),
            Election::Online | Election::Unclean => None,
        };
        let candidates =
            preferred.into_iter().chain(partition.leader).chain(partition.replicas.iter().copied());
        if let Some(leader) = candidates.into_iter().find(|replica| clean(*replica)) {
            return Elected { leader: Some(leader), unclean: false };
        }
        if let Some(leader) = self.last_known_leader(elr) {
            return Elected { leader: Some(leader), unclean: true };
        }
        if self.election == Election::Unclean
            && let Some(leader) = partition.replicas.iter().copied().find(|replica| (self.may_lead)(*replica))
        {
            return Elected { leader: Some(leader), unclean: true };
        }
        Elected { leader: None, unclean: false }
    }

    /// The last leader, if nobody else is left and it is back.
    fn last_known_leader(&self, elr: &[NodeId]) -> Option<NodeId> {
        match self.partition.last_known_elr.as_slice() {
            [last] if self.elr_enabled && elr.is_empty() && self.isr.is_empty() && (self.may_lead)(*last) => {
                Some(*last)
            }
            _ => None,
        }
    }

    /// Brokers before 3.6 needed a new leader epoch with each ISR that lost a member (KAFKA-15021).
    fn bump_on_shrink(&self, record: &mut PartitionChangeRecord) {
        if !self.metadata_version.bumps_leader_epoch_on_isr_shrink() || record.leader != NO_LEADER_CHANGE {
            return;
        }
        if let Some(isr) = &record.isr
            && self.partition.isr.iter().any(|replica| !isr.contains(&replica.0))
        {
            record.leader = self.partition.leader_or_none();
        }
    }

    /// A partition that loses its leader remembers it, until there is one again.
    fn remember_last_leader(&self, record: &mut PartitionChangeRecord) {
        if !self.elr_enabled {
            return;
        }
        let remembered = &self.partition.last_known_elr;
        match record.leader {
            NO_LEADER if remembered.is_empty() => {
                record.last_known_elr = self.partition.leader.map(|leader| vec![leader.0]);
            }
            leader if leader >= 0 && !remembered.is_empty() => record.last_known_elr = Some(Vec::new()),
            _ => {}
        }
    }
}

fn is_no_change(record: &PartitionChangeRecord) -> bool {
    record.isr.is_none()
        && record.eligible_leader_replicas.is_none()
        && record.last_known_elr.is_none()
        && record.leader == NO_LEADER_CHANGE
        && record.replicas.is_none()
        && record.removing_replicas.is_none()
        && record.adding_replicas.is_none()
        && record.leader_recovery_state == NO_RECOVERY_CHANGE
        && record.directories.is_none()
}
