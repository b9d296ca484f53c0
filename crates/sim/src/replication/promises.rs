//! What is promised, checked after every step and at every decision of the controller.
//!
//! The tricky idea: what is committed is what any leader ever took for committed. So a promise is broken as soon as somebody who may be
//! elected lacks a record, long before a client could miss it.

use ottla_metadata::config::Durability;
use ottla_metadata::{LeaderRecoveryState, Partition};
use ottla_protocol::ids::NodeId;

use super::metadata::{Metadata, View};
use super::node::{Entry, MIN_ISR, Node, Role};
use super::origin::NODES;

/// What a decision of the controller may do to a partition. `lost` stopped uncleanly, as is known by it.
///
/// - Who is in sync is there: alive, and about to stay (KIP-841). Nothing that is to be committed waits for somebody who is known to be gone.
/// - Somebody who may lack records is believed only when nobody is left who is known to have them all (KIP-966).
/// - While too few are in sync to commit anything, nobody who has everything is forgotten: that one may be the last.
pub(super) fn check_decision(before: &Partition, after: &View, lost: Option<NodeId>) -> Result<(), String> {
    let View { partition: now, brokers, .. } = after;
    if let Some(gone) = now.isr.iter().find(|member| !brokers[member.0 as usize - 1].1) {
        return Err(format!("KIP-841: {gone} is gone, and in sync: {now:?}"));
    }
    let known = before.isr.iter().chain(&before.elr).filter(|member| lost != Some(**member));
    let complete: Vec<NodeId> = known.copied().collect();
    let is_recovering = now.leader_recovery_state == LeaderRecoveryState::Recovering;
    if let Some(leader) = now.leader.filter(|leader| is_recovering && !complete.contains(leader)) {
        let was_elected = now.leader_epoch > before.leader_epoch;
        return if was_elected && !complete.is_empty() {
            Err(format!("KIP-966: {leader} is believed, though {complete:?} have everything: {now:?}"))
        } else {
            Ok(())
        };
    }
    let is_remembered = |member: &&NodeId| now.isr.contains(*member) || now.elr.contains(*member);
    if now.isr.len() < MIN_ISR as usize
        && let Some(forgotten) = complete.iter().find(|member| !is_remembered(member))
    {
        return Err(format!("KIP-966: {forgotten} has everything and is forgotten: {now:?}"));
    }
    Ok(())
}

/// Everything that any leader took for committed.
#[derive(Debug, Clone, Default, Hash)]
pub(super) struct Committed {
    records: Vec<Entry>,
    /// The last leader was believed although it lost records: nothing is promised of records any more.
    pub is_unclean: bool,
}

impl Committed {
    /// The controller decided something.
    pub fn see(&mut self, partition: &Partition, durability: Durability) {
        let recovers = partition.leader_recovery_state == LeaderRecoveryState::Recovering;
        self.is_unclean |= recovers && durability == Durability::Replicated;
    }

    /// Everything that is promised at any time.
    pub fn check(
        &mut self,
        metadata: &Metadata,
        nodes: &[Node],
        durability: Durability,
    ) -> Result<(), String> {
        if let Some(broken) = metadata.broken() {
            return Err(broken.clone());
        }
        let partition = metadata.partition();
        if let Some(leader) = partition.leader
            && !partition.isr.contains(&leader)
        {
            return Err(format!("the leader is not in sync: {partition:?}"));
        }
        if self.is_unclean {
            return Ok(());
        }
        for node in nodes.iter().filter(|node| node.is_alive) {
            self.check_what_is_committed(node)?;
        }
        for member in partition.isr.iter().chain(&partition.elr) {
            let node = &nodes[member.0 as usize - 1];
            let kept = match durability {
                Durability::Flushed => &node.log[..node.synced],
                Durability::Replicated => &node.log[..],
            };
            if !node.is_wounded && !kept.starts_with(&self.records) {
                return Err(format!(
                    "I4: {} may lead with {kept:?}, committed is {:?}; {partition:?}",
                    node.id, self.records
                ));
            }
        }
        Ok(())
    }

    fn check_what_is_committed(&mut self, node: &Node) -> Result<(), String> {
        let Some(seen) = node.log.get(..node.high_watermark.max(0) as usize) else {
            return Err(format!("I8: what {} takes for committed is beyond its log", node.id));
        };
        let common = seen.len().min(self.records.len());
        if seen[..common] != self.records[..common] {
            return Err(format!("I3: {} takes {seen:?} for committed, it is {:?}", node.id, self.records));
        }
        if seen.len() > common {
            if node.role != Role::Leader {
                return Err(format!("I2: {} takes {seen:?} for committed, which no leader did", node.id));
            }
            self.records = seen.to_vec();
        }
        Ok(())
    }
}

/// What is promised when everybody had time.
pub(super) fn check_at_the_end(partition: &Partition, nodes: &[Node]) -> Result<(), String> {
    let is_whole = partition.leader.is_some()
        && partition.isr.len() == NODES
        && nodes.iter().all(|node| node.log == nodes[0].log && node.high_watermark == node.end());
    if is_whole {
        return Ok(());
    }
    let ends: Vec<i64> = nodes.iter().map(|node| node.high_watermark).collect();
    Err(format!("I19: not whole in the end: {partition:?}, committed {ends:?}"))
}
