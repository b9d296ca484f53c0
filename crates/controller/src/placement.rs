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
use ottla_metadata::{Partition, directory};
use ottla_protocol::ErrorCode;
use ottla_protocol::Uuid;
use ottla_protocol::ids::{LeaderEpoch, NodeId};

/// Makes `partitions` new partitions on replicas of its choice. The first replica of each is an active broker, and leads.
pub(crate) fn place(
    context: &Context<'_>,
    dice: &mut Dice,
    partitions: usize,
    replication_factor: i16,
) -> Result<Vec<Partition>, ApiError> {
    let invalid = |reason: String| {
        let times = format!("A replication factor of {replication_factor} is not possible: ");
        ApiError::new(ErrorCode::InvalidReplicationFactor, times + &reason)
    };
    let factor = match usize::try_from(replication_factor) {
        Ok(factor) if factor > 0 => factor,
        _ => return Err(invalid("it must be at least 1.".to_owned())),
    };
    let usable =
        context.image.brokers().values().filter(|b| !b.in_controlled_shutdown && b.has_uncordoned_dir());
    let (fenced, unfenced): (Vec<_>, Vec<_>) =
        usable.map(|b| (b.fenced, b.id)).partition(|(fenced, _)| *fenced);
    let ids = |brokers: Vec<(bool, NodeId)>| brokers.into_iter().map(|(_, id)| id).collect::<Vec<_>>();
    let (mut fenced, mut unfenced) = (ids(fenced), ids(unfenced));
    if unfenced.is_empty() {
        return Err(invalid("every broker is fenced, or has all its log directories cordoned.".to_owned()));
    }
    let total = fenced.len() + unfenced.len();
    if factor > total {
        return Err(invalid(format!("only {total} broker(s) can take replicas.")));
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
        let replicas = first.chain(then).take(factor).copied().collect();
        placed.push(new_partition(context, replicas).expect("the first replica is active"));
        start = (start + 1) % unfenced.len();
    }
    Ok(placed)
}

/// Makes partition `index` on replicas that an administrator chose. `expected` is the replication factor of the other
/// partitions.
pub(crate) fn assign(
    context: &Context<'_>,
    index: i32,
    replicas: &[i32],
    expected: Option<usize>,
) -> Result<Partition, ApiError> {
    let invalid = |message: String| Err(ApiError::new(ErrorCode::InvalidReplicaAssignment, message));
    if replicas.is_empty() {
        return invalid("The assignment gives a partition no replicas.".to_owned());
    }
    let mut sorted = replicas.to_vec();
    sorted.sort_unstable();
    for (index, id) in sorted.iter().enumerate() {
        let Some(broker) = context.image.broker(NodeId(*id)) else {
            return invalid(format!("The assignment names broker {id}, which is not registered."));
        };
        if !broker.has_uncordoned_dir() {
            return invalid(format!(
                "The assignment names broker {id}, all of whose log directories are cordoned."
            ));
        }
        if index > 0 && sorted[index - 1] == *id {
            return invalid(format!("The assignment puts two replicas of a partition on broker {id}."));
        }
    }
    if let Some(factor) = expected.filter(|factor| *factor != replicas.len()) {
        let given = replicas.len();
        return invalid(format!(
            "The assignment gives partition {index} {given} replica(s); other partitions have {factor}."
        ));
    }
    let replicas = replicas.iter().map(|id| NodeId(*id)).collect();
    let nobody = format!("Every broker assigned to partition {index} is fenced or in controlled shutdown.");
    new_partition(context, replicas).ok_or_else(|| ApiError::new(ErrorCode::InvalidReplicaAssignment, nobody))
}

/// A new partition on these replicas; the active ones are in sync and the first of them leads. `None` if there is none.
fn new_partition(context: &Context<'_>, replicas: Vec<NodeId>) -> Option<Partition> {
    let isr: Vec<NodeId> = replicas.iter().copied().filter(|id| context.image.is_active(*id)).collect();
    let leader = *isr.first()?;
    let directory_of = |id: &NodeId| -> Uuid {
        context.image.broker(*id).map_or(directory::UNASSIGNED, |broker| broker.default_dir())
    };
    Some(Partition {
        directories: replicas.iter().map(directory_of).collect(),
        leader: Some(leader),
        leader_epoch: LeaderEpoch(0),
        partition_epoch: 0,
        replicas,
        isr,
        ..Default::default()
    })
}
