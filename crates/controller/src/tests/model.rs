//! The naive model of what a partition promises: who holds every committed record, and what may happen to a partition from one step to
//! the next.
//!
//! The tricky idea (KIP-966): with at least `min.insync.replicas` in sync records are committed, and then exactly the ISR has them all;
//! with fewer nothing is committed, and who left still has them all, until its broker stops uncleanly. Whoever is elected, unless nobody
//! safe was left, must be one of those.

use ottla_metadata::{Image, LeaderRecoveryState, Partition};
use ottla_protocol::ids::{NodeId, PartitionId, TopicId};
use std::collections::{BTreeMap, BTreeSet};

/// `min.insync.replicas` of every topic.
pub(super) const MIN_ISR: usize = 2;

/// What a step was.
#[derive(Default)]
pub(super) struct Step {
    /// A broker stopped uncleanly and may have lost records that it held.
    pub(super) lost: Option<NodeId>,
    /// A reassignment was given up, which may have put somebody into the ISR who lacks records.
    pub(super) gave_up: bool,
    /// Replicas that have everything that their leader has; it proposed them for the ISR.
    pub(super) caught_up: BTreeMap<(TopicId, PartitionId), Vec<NodeId>>,
}

#[derive(Default)]
pub(super) struct Model {
    complete: BTreeMap<(TopicId, PartitionId), BTreeSet<NodeId>>,
}

impl Model {
    /// Compares the images before and after one step.
    pub(super) fn step(&mut self, before: &Image, after: &Image, step: &Step, elr: bool, at: &str) {
        if let Some(broker) = step.lost {
            for holders in self.complete.values_mut() {
                holders.remove(&broker);
            }
        }
        self.complete.retain(|(topic, _), _| after.topic(*topic).is_some());
        for (topic, index, now) in after.partitions() {
            let at = format!("{at}: {}-{index} {now:?}", topic.name);
            assert_shape(now, elr, &at);
            let holders = self.complete.entry((topic.id, index)).or_default();
            match before.partition(topic.id, index) {
                None => *holders = now.isr.iter().copied().collect(),
                Some(then) => {
                    let at = format!("{at}\n  was {then:?}");
                    let caught_up = step.caught_up.get(&(topic.id, index)).map_or(&[][..], Vec::as_slice);
                    follow(holders, then, now, caught_up, step.gave_up, elr, &at);
                }
            }
            // As the leader counts: it has no more than its replicas.
            let min_isr = MIN_ISR.min(now.replicas.len());
            if now.leader.is_some() && now.isr.len() >= min_isr {
                *holders = now.isr.iter().copied().collect();
            }
            if let Some(leader) = now.leader {
                assert!(after.is_active(leader), "{at}");
            }
        }
        for topic in after.topics().values() {
            assert!(topic.partitions.keys().map(|id| id.0).eq(0..topic.partition_count()));
        }
    }
}

/// What changed, and whether it might.
fn follow(
    holders: &mut BTreeSet<NodeId>,
    then: &Partition,
    now: &Partition,
    caught_up: &[NodeId],
    gave_up: bool,
    elr: bool,
    at: &str,
) {
    assert!(now.leader_epoch >= then.leader_epoch && now.partition_epoch >= then.partition_epoch, "{at}");
    if now == then {
        return;
    }
    assert!(now.partition_epoch > then.partition_epoch, "a change that nobody can notice: {at}");
    if now.leader != then.leader {
        assert!(now.leader_epoch > then.leader_epoch, "{at}");
    }
    if then.replicas.iter().any(|replica| !now.replicas.contains(replica)) {
        assert!(now.leader_epoch > then.leader_epoch, "who is no replica any more must notice: {at}");
    }
    holders.extend(caught_up);
    let was_safe =
        |node: &NodeId| then.isr.contains(node) || then.elr.contains(node) || caught_up.contains(node);
    if gave_up && !now.isr.iter().any(was_safe) {
        *holders = now.isr.iter().copied().collect();
        return;
    }
    let recovering =
        |partition: &Partition| partition.leader_recovery_state == LeaderRecoveryState::Recovering;
    match now.leader {
        Some(leader) if recovering(now) && !recovering(then) => *holders = BTreeSet::from([leader]),
        Some(leader) if now.leader != then.leader && !was_safe(&leader) && !now.isr.iter().any(was_safe) => {
            assert!(recovering(now), "an unclean election that nobody is told of: {at}");
            assert_eq!(now.isr, [leader], "{at}");
            *holders = BTreeSet::from([leader]);
        }
        Some(leader) => {
            assert!(!elr || holders.contains(&leader), "records are lost; complete are {holders:?}: {at}");
        }
        None => {}
    }
}

/// What is true of every partition at any time.
fn assert_shape(partition: &Partition, elr: bool, at: &str) {
    let Partition {
        replicas, isr, elr: eligible, last_known_elr, adding_replicas, removing_replicas, ..
    } = partition;
    for set in [replicas, isr, eligible, last_known_elr, adding_replicas, removing_replicas] {
        assert!(set.iter().all(|node| replicas.contains(node)), "{at}");
        assert_eq!(set.iter().collect::<BTreeSet<_>>().len(), set.len(), "{at}");
    }
    assert!(eligible.iter().all(|node| !isr.contains(node)), "{at}");
    assert!(adding_replicas.iter().all(|node| !removing_replicas.contains(node)), "{at}");
    assert!(removing_replicas.len() < replicas.len(), "{at}");
    assert_eq!(replicas.len(), partition.directories.len(), "{at}");
    assert!(elr || (eligible.is_empty() && last_known_elr.is_empty()), "{at}");
    match partition.leader {
        Some(leader) => assert!(isr.contains(&leader) && last_known_elr.is_empty(), "{at}"),
        None if elr => {}
        None => assert!(!isr.is_empty(), "{at}"),
    }
}
