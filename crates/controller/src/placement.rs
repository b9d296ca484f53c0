//! Where the replicas of new partitions go: stripes over the brokers, unfenced ones first.
//!
//! The tricky idea: partition `p` starts one broker further than partition `p - 1`, from a start that is rolled, so
//! that leaders spread evenly and two topics do not begin at the same broker; after a full round the brokers are
//! shuffled, lest the same pairs meet again and again. Racks are not looked at: all brokers count as one rack.
//!
//! ```text
//!   brokers 1 2 3, start 2, factor 2:   p0 [2 3]   p1 [3 1]   p2 [1 2]   (shuffle)   p3 ...
//! ```

use crate::context::Context;
use crate::dice::Dice;
use crate::error::ApiError;
use ottla_metadata::topic::numbers;
use ottla_metadata::{Partition, directory};
use ottla_protocol::ErrorCode;
use ottla_protocol::Uuid;
use ottla_protocol::ids::{LeaderEpoch, NodeId};

/// Chooses replicas for `partitions` new partitions. The first replica of each is never a fenced broker.
pub(crate) fn place(
    context: &Context<'_>,
    dice: &mut Dice,
    partitions: usize,
    replication_factor: i16,
) -> Result<Vec<Vec<NodeId>>, ApiError> {
    let invalid = |reason: String| {
        let times = format!("Unable to replicate the partition {replication_factor} time(s): ");
        ApiError::new(ErrorCode::InvalidReplicationFactor, times + &reason)
    };
    let factor = match usize::try_from(replication_factor) {
        Ok(factor) if factor > 0 => factor,
        _ => return Err(invalid("the replication factor must be positive.".to_owned())),
    };
    let usable =
        context.image.brokers().values().filter(|b| !b.in_controlled_shutdown && b.has_uncordoned_dir());
    let (fenced, unfenced): (Vec<_>, Vec<_>) =
        usable.map(|b| (b.fenced, b.id)).partition(|(fenced, _)| *fenced);
    let ids = |brokers: Vec<(bool, NodeId)>| brokers.into_iter().map(|(_, id)| id).collect::<Vec<_>>();
    let (mut fenced, mut unfenced) = (ids(fenced), ids(unfenced));
    if unfenced.is_empty() {
        return Err(invalid(
            "All brokers are currently fenced, or have all their log directories cordoned.".to_owned(),
        ));
    }
    let total = fenced.len() + unfenced.len();
    if factor > total {
        return Err(invalid(format!(
            "The target replication factor of {factor} cannot be reached because only {total} broker(s) are registered."
        )));
    }
    let (mut start, fenced_start) = (dice.below(unfenced.len()), dice.below(fenced.len().max(1)));
    let mut placed = Vec::with_capacity(partitions);
    for partition in 0..partitions {
        if partition > 0 && partition.is_multiple_of(unfenced.len()) && unfenced.len() > 1 {
            dice.shuffle(&mut unfenced);
            dice.shuffle(&mut fenced);
        }
        let first = unfenced.iter().cycle().skip(start).take(unfenced.len());
        let then =
            fenced.iter().cycle().skip(fenced_start + partition % fenced.len().max(1)).take(fenced.len());
        placed.push(first.chain(then).take(factor).copied().collect());
        start = (start + 1) % unfenced.len();
    }
    Ok(placed)
}

/// Checks replicas that an administrator chose. `expected` is the replication factor of the other partitions.
pub(crate) fn check_manual(
    context: &Context<'_>,
    replicas: &[i32],
    expected: Option<usize>,
) -> Result<Vec<NodeId>, ApiError> {
    let invalid = |message: String| Err(ApiError::new(ErrorCode::InvalidReplicaAssignment, message));
    if replicas.is_empty() {
        return invalid("The manual partition assignment includes an empty replica list.".to_owned());
    }
    let mut sorted = replicas.to_vec();
    sorted.sort_unstable();
    for (index, id) in sorted.iter().enumerate() {
        let Some(broker) = context.image.broker(NodeId(*id)) else {
            return invalid(format!(
                "The manual partition assignment includes broker {id}, but no such broker is registered."
            ));
        };
        if !broker.has_uncordoned_dir() {
            return invalid(format!(
                "The manual partition assignment includes broker {id}, but all its log directories are cordoned."
            ));
        }
        if index > 0 && sorted[index - 1] == *id {
            return invalid(format!(
                "The manual partition assignment includes the broker {id} more than once."
            ));
        }
    }
    match expected {
        Some(factor) if factor != replicas.len() => invalid(format!(
            "The manual partition assignment includes a partition with {} replica(s), but this is not consistent \
             with previous partitions, which have {factor} replica(s).",
            replicas.len()
        )),
        _ => Ok(replicas.iter().map(|id| NodeId(*id)).collect()),
    }
}

/// The active ones of `replicas`: the first ISR of a new partition. Empty if it can not start.
pub(crate) fn active(context: &Context<'_>, replicas: &[NodeId]) -> Vec<NodeId> {
    replicas.iter().copied().filter(|id| context.image.is_active(*id)).collect()
}

/// A new partition with these replicas and this (not empty) ISR, led by the first of the ISR.
pub(crate) fn new_partition(context: &Context<'_>, replicas: Vec<NodeId>, isr: Vec<NodeId>) -> Partition {
    assert!(!isr.is_empty(), "a new partition starts with a leader, got replicas {:?}", numbers(&replicas));
    let directory_of = |id: &NodeId| -> Uuid {
        context.image.broker(*id).map_or(directory::UNASSIGNED, |broker| broker.default_dir())
    };
    Partition {
        directories: replicas.iter().map(directory_of).collect(),
        leader: Some(isr[0]),
        leader_epoch: LeaderEpoch(0),
        partition_epoch: 0,
        replicas,
        isr,
        ..Default::default()
    }
}
