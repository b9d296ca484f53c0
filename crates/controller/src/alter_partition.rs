//! AlterPartition (56), versions 2-3: the leader of a partition proposes who is in sync.
//!
//! The tricky idea: two epochs guard the proposal. The partition epoch makes it a compare-and-set: who proposes from an older state is
//! told so and reads again. An epoch *ahead* of ours means that we are not the controller any more. From version 3 on each member of the
//! ISR comes with its broker epoch, so that a broker that was restarted in between is not let in for what its earlier life had
//! (KIP-903). A proposal that completes a reassignment may cost the proposer its leadership: that is answered with an error *and* written.

use crate::context::{Context, Decision};
use crate::draft::Draft;
use crate::error::ApiError;
use crate::guard::Guard;
use ottla_metadata::topic::{LeaderRecoveryState, nodes, numbers};
use ottla_metadata::{Partition, Topic};
use ottla_protocol::ErrorCode;
use ottla_protocol::ids::{LeaderEpoch, NodeId, PartitionId, TopicId};
use ottla_protocol::messages::alter_partition_request::{AlterPartitionRequest, PartitionData as Proposal};
use ottla_protocol::messages::alter_partition_response::{AlterPartitionResponse, PartitionData, TopicData};

/// A broker epoch that is not checked.
const ANY_BROKER_EPOCH: i64 = -1;

/// Decides about a leader's proposals.
pub fn alter_partition(
    context: &Context<'_>,
    request: &AlterPartitionRequest,
    version: i16,
) -> Result<Decision<AlterPartitionResponse>, ApiError> {
    let proposer = NodeId(request.broker_id);
    context.check_broker_epoch(proposer, request.broker_epoch)?;
    let mut draft = Draft::new(context.image);
    let mut topics = Vec::with_capacity(request.topics.len());
    for asked in &request.topics {
        let topic = context.image.topic(TopicId(asked.topic_id));
        let mut partitions = Vec::with_capacity(asked.partitions.len());
        for proposal in &asked.partitions {
            let decided = match topic {
                Some(topic) => decide(context, &mut draft, topic, proposer, proposal, version),
                None => Err(ErrorCode::UnknownTopicId),
            };
            partitions.push(answer(proposal.partition_index, decided));
        }
        topics.push(TopicData { topic_id: asked.topic_id, partitions });
    }
    let response = AlterPartitionResponse { topics, ..Default::default() };
    Ok(Decision::splittable(draft.into_records(), response))
}

fn answer(partition_index: i32, decided: Result<Partition, ErrorCode>) -> PartitionData {
    match decided {
        Ok(partition) => PartitionData {
            partition_index,
            error_code: ErrorCode::None.code(),
            leader_id: partition.leader_or_none(),
            leader_epoch: partition.leader_epoch.0,
            isr: numbers(&partition.isr),
            leader_recovery_state: partition.leader_recovery_state.code(),
            partition_epoch: partition.partition_epoch,
        },
        Err(error) => PartitionData { partition_index, error_code: error.code(), ..Default::default() },
    }
}

fn decide(
    context: &Context<'_>,
    draft: &mut Draft<'_>,
    topic: &Topic,
    proposer: NodeId,
    proposal: &Proposal,
    version: i16,
) -> Result<Partition, ErrorCode> {
    let index = PartitionId(proposal.partition_index);
    let partition = draft.partition(topic, index).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    check_epochs(&partition, proposer, proposal)?;
    let isr = if version >= 3 {
        proposal.new_isr_with_epochs.iter().map(|member| NodeId(member.broker_id)).collect()
    } else {
        nodes(&proposal.new_isr)
    };
    let recovery = check_isr(&partition, &isr, proposal.leader_recovery_state)?;
    for (at, member) in isr.iter().enumerate() {
        let broker_epoch = match version {
            3.. => proposal.new_isr_with_epochs[at].broker_epoch,
            _ => ANY_BROKER_EPOCH,
        };
        if !is_eligible(context, *member, broker_epoch) {
            return Err(ErrorCode::IneligibleReplica);
        }
    }
    let may_lead = |broker, directory| context.may_lead(broker, directory);
    let mut change = context.partition_change(topic, index, &partition, &may_lead);
    change.target.isr = isr;
    change.target.leader_recovery_state = recovery;
    let Some(after) = draft.apply(change) else { return Ok(partition) };
    if after.leader != Some(proposer) {
        return Err(ErrorCode::NewLeaderElected);
    }
    Ok(after)
}

/// Whether the proposal is about the partition as it is, and comes from its leader; in Kafka's order.
fn check_epochs(partition: &Partition, proposer: NodeId, proposal: &Proposal) -> Result<(), ErrorCode> {
    let leader_epoch = LeaderEpoch(proposal.leader_epoch);
    if leader_epoch > partition.leader_epoch || proposal.partition_epoch > partition.partition_epoch {
        return Err(ErrorCode::NotController);
    }
    if leader_epoch < partition.leader_epoch {
        return Err(ErrorCode::FencedLeaderEpoch);
    }
    if partition.leader != Some(proposer) {
        return Err(ErrorCode::InvalidRequest);
    }
    if !Guard::ProposalOfThisPartitionEpoch.holds(proposal.partition_epoch >= partition.partition_epoch) {
        return Err(ErrorCode::InvalidUpdateVersion);
    }
    Ok(())
}

/// Whether the ISR is one that this partition may have.
fn check_isr(partition: &Partition, isr: &[NodeId], recovery: i8) -> Result<LeaderRecoveryState, ErrorCode> {
    let recovery = LeaderRecoveryState::from_code(recovery).ok_or(ErrorCode::InvalidRequest)?;
    let recovering = recovery == LeaderRecoveryState::Recovering;
    let is_set = isr.iter().enumerate().all(|(at, member)| !isr[..at].contains(member));
    let is_assigned = isr.iter().all(|member| partition.replicas.contains(member));
    let has_leader = partition.leader.is_some_and(|leader| isr.contains(&leader));
    let recovered_before = partition.leader_recovery_state == LeaderRecoveryState::Recovered;
    if !is_set || !is_assigned || !has_leader || (recovering && (isr.len() > 1 || recovered_before)) {
        return Err(ErrorCode::InvalidRequest);
    }
    Ok(recovery)
}

/// Whether the broker may be in an ISR: alive, staying, and in the life that the leader knows.
fn is_eligible(context: &Context<'_>, broker: NodeId, broker_epoch: i64) -> bool {
    let registered = context.image.broker(broker);
    registered.is_some_and(|broker| {
        let is_this_life = broker_epoch == ANY_BROKER_EPOCH || broker_epoch == broker.broker_epoch;
        Guard::MemberIsActive.holds(broker.is_active()) && Guard::MemberIsThisLife.holds(is_this_life)
    })
}
