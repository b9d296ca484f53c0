//! Where the replicas of new partitions go: where an administrator says, or on brokers that take turns ([`Racks`]).

use crate::context::Context;
use crate::dice::Dice;
use crate::error::ApiError;
use crate::racks::Racks;
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
        // Kafka's words (`StripedReplicaPlacer`), as scripts look for them.
        let times = format!("Unable to replicate the partition {replication_factor} time(s): ");
        ApiError::new(ErrorCode::InvalidReplicationFactor, times + &reason)
    };
    let factor = match usize::try_from(replication_factor) {
        Ok(factor) if factor > 0 => factor,
        _ => {
            return Err(invalid(format!(
                "Invalid replication factor {replication_factor}: the replication factor must be positive."
            )));
        }
    };
    let brokers = context.image.brokers().values().map(|broker| &**broker);
    let usable = brokers.filter(|broker| !broker.in_controlled_shutdown && broker.has_uncordoned_dir());
    let mut racks = Racks::of(usable, dice);
    if racks.unfenced() == 0 {
        return Err(invalid(
            "All brokers are currently fenced, or have all their log directories cordoned.".to_owned(),
        ));
    }
    if factor > racks.total() {
        let total = racks.total();
        return Err(invalid(format!(
            "The target replication factor of {factor} cannot be reached because only {total} broker(s) are registered \
             or some brokers have all their log directories cordoned."
        )));
    }
    let next = |_| new_partition(context, racks.place(factor, dice)).expect("the first replica is active");
    Ok((0..partitions).map(next).collect())
}

/// Makes partition `index` on replicas that an administrator chose. `expected` is the replication factor of the other
/// partitions.
pub(crate) fn assign(
    context: &Context<'_>,
    index: i32,
    replicas: &[i32],
    expected: Option<usize>,
) -> Result<Partition, ApiError> {
    check_assignment(context, replicas)?;
    let invalid = |message: String| Err(ApiError::new(ErrorCode::InvalidReplicaAssignment, message));
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

/// Whether replicas may be put on these brokers: registered, with room, and each once.
pub(crate) fn check_assignment(context: &Context<'_>, replicas: &[i32]) -> Result<(), ApiError> {
    let invalid = |message: String| Err(ApiError::new(ErrorCode::InvalidReplicaAssignment, message));
    if replicas.is_empty() {
        return invalid("The assignment gives a partition no replicas.".to_owned());
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
                "The assignment names broker {id}, all of whose log directories are cordoned."
            ));
        }
        if index > 0 && sorted[index - 1] == *id {
            return invalid(format!("The assignment puts two replicas of a partition on broker {id}."));
        }
    }
    Ok(())
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
