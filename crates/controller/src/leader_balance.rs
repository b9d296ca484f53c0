//! What the controller does of its own accord from time to time: leadership back to preferred replicas
//! (`auto.leader.rebalance.enable`), and leaders for partitions without one where the topic allows an unclean election.
//!
//! The tricky idea: a round is bounded, so that a big cluster is not moved in one batch; the answer says whether another round is due
//! at once.

use crate::context::{Context, Decision};
use crate::draft::Draft;
use crate::elect_leaders::elect;
use crate::partition_change::Election;
use ottla_metadata::{Partition, Topic};

/// Elections of one round (Kafka's `MAX_ELECTIONS_PER_IMBALANCE`).
pub const MAX_ELECTIONS_PER_ROUND: usize = 1_000;

/// Elects preferred leaders where another replica leads. The response: whether more may be left to do.
pub fn balance_leaders(context: &Context<'_>, elections_max: usize) -> Decision<bool> {
    let elsewhere = |partition: &Partition| partition.leader != partition.replicas.first().copied();
    round(context, elections_max, Election::Preferred, |_, partition| elsewhere(partition))
}

/// Elects leaders for partitions that have none, from whoever is alive, where the topic's `unclean.leader.election.enable` allows it.
/// The response: whether more may be left to do.
pub fn elect_unclean_leaders(context: &Context<'_>, elections_max: usize) -> Decision<bool> {
    round(context, elections_max, Election::Unclean, |topic, partition| {
        partition.leader.is_none() && context.unclean_election(topic)
    })
}

fn round(
    context: &Context<'_>,
    elections_max: usize,
    election: Election,
    concerned: impl Fn(&Topic, &Partition) -> bool,
) -> Decision<bool> {
    let mut draft = Draft::new(context.image);
    for (topic, index, partition) in context.image.partitions() {
        if draft.len() >= elections_max {
            break;
        }
        if concerned(topic, partition) {
            // Where nobody can be elected now, the next round will look again.
            let _ = elect(context, &mut draft, topic, index, election);
        }
    }
    let more = draft.len() >= elections_max;
    Decision::splittable(draft.into_records(), more)
}
