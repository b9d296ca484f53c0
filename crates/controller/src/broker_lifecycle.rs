//! A broker comes, goes, or is lost: what its partitions make of it, and the records that say so.
//!
//! The tricky idea: partitions are judged by the state *after* the step (the broker that is just being unfenced may
//! lead, the one being fenced may not), while the image still shows the state before. And the order of records is
//! such that every prefix is safe: a broker loses its partitions before it is fenced, and is unfenced before it
//! leads.

use crate::context::{Context, Decision};
use crate::error::ApiError;
use crate::guard::Guard;
use ottla_metadata::{Broker, Partition, Topic};
use ottla_protocol::ErrorCode;
use ottla_protocol::Uuid;
use ottla_protocol::ids::{NodeId, PartitionId};
use ottla_protocol::messages::broker_registration_change_record::BrokerRegistrationChangeRecord;
use ottla_protocol::messages::metadata_record::MetadataRecord;
use ottla_protocol::messages::unregister_broker_record::UnregisterBrokerRecord;

const FENCE: i8 = 1;
const UNFENCE: i8 = -1;
const IN_CONTROLLED_SHUTDOWN: i8 = 1;

/// The broker is alive and has caught up with its registration: unfences it and lets it lead what has no leader.
pub fn unfence_broker(context: &Context<'_>, broker: NodeId) -> Result<Decision<()>, ApiError> {
    let registered = registered(context, broker)?;
    let mut records = vec![registration_change(registered, |change| change.fenced = UNFENCE)];
    let leaderless = |partition: &Partition| partition.leader.is_none();
    records.extend(partition_records(context, Step { back: Some(broker), ..Step::default() }, leaderless));
    Ok(Decision::splittable(records, ()))
}

/// The broker's session ended or it wants to be fenced: takes it out of every ISR and leadership, then fences it.
pub fn fence_broker(context: &Context<'_>, broker: NodeId) -> Result<Decision<()>, ApiError> {
    let registered = registered(context, broker)?;
    let mut records = leave_isr(context, broker);
    records.push(registration_change(registered, |change| change.fenced = FENCE));
    Ok(Decision::splittable(records, ()))
}

/// The broker wants to stop in good order: hands over what it leads. It may stop when [`leads_any`] is false.
pub fn begin_controlled_shutdown(context: &Context<'_>, broker: NodeId) -> Result<Decision<()>, ApiError> {
    let registered = registered(context, broker)?;
    let mut records = Vec::new();
    if !registered.in_controlled_shutdown {
        records.push(registration_change(registered, |change| {
            change.in_controlled_shutdown = IN_CONTROLLED_SHUTDOWN;
        }));
    }
    records.extend(leave_isr(context, broker));
    Ok(Decision::splittable(records, ()))
}

/// Directories of the broker failed (KIP-858): it leaves the ISRs of what was in them.
pub(crate) fn leave_directories(
    context: &Context<'_>,
    broker: NodeId,
    failed: &[Uuid],
) -> Vec<MetadataRecord<'static>> {
    let was_there = |partition: &Partition| {
        let directory = partition.directory_of(broker);
        partition.isr.contains(&broker) && directory.is_some_and(|directory| failed.contains(&directory))
    };
    partition_records(context, Step { away: Some(broker), ..Step::default() }, was_there)
}

/// The broker's registration loses these directories. Comes after their partitions were left.
pub(crate) fn directories_failed(broker: &Broker, failed: &[Uuid]) -> MetadataRecord<'static> {
    registration_change(broker, |change| {
        change.log_dirs = broker.log_dirs.iter().copied().filter(|dir| !failed.contains(dir)).collect();
    })
}

/// UnregisterBroker (64): the broker will not come back.
pub fn unregister_broker(context: &Context<'_>, broker: NodeId) -> Result<Decision<()>, ApiError> {
    let Some(registered) = context.image.broker(broker) else {
        let message = format!("Broker ID {broker} is not currently registered");
        return Err(ApiError::new(ErrorCode::BrokerIdNotRegistered, message));
    };
    let mut records = leave_isr(context, broker);
    let eligible =
        |partition: &Partition| !partition.isr.contains(&broker) && partition.elr.contains(&broker);
    records.extend(partition_records(context, Step { away: Some(broker), ..Step::default() }, eligible));
    records.push(MetadataRecord::UnregisterBrokerRecord(UnregisterBrokerRecord {
        broker_id: broker.0,
        broker_epoch: registered.broker_epoch,
    }));
    Ok(Decision::splittable(records, ()))
}

/// Whether the broker leads a partition.
pub fn leads_any(context: &Context<'_>, broker: NodeId) -> bool {
    context.image.partitions().any(|(_, _, partition)| partition.leader == Some(broker))
}

/// A new process of the broker registers: what the end of the old one means for its partitions. After a clean stop
/// it left every ISR but stays eligible; after an unclean one it may have lost records and is not even that.
pub(crate) fn earlier_life_ended(
    context: &Context<'_>,
    broker: NodeId,
    clean: bool,
) -> Vec<MetadataRecord<'static>> {
    if !Guard::NextLifeLeavesIsr.stands() {
        return Vec::new();
    }
    if clean || !context.image.elr_enabled() {
        return leave_isr(context, broker);
    }
    let step = Step { lost: Some(broker), ..Step::default() };
    let held = |partition: &Partition| partition.isr.contains(&broker) || partition.elr.contains(&broker);
    partition_records(context, step, held)
}

fn registered<'a>(context: &'a Context<'_>, broker: NodeId) -> Result<&'a Broker, ApiError> {
    let registered = context.image.broker(broker);
    let unknown =
        || ApiError::new(ErrorCode::StaleBrokerEpoch, format!("Broker {broker} is not registered."));
    registered.map(|broker| &**broker).ok_or_else(unknown)
}

fn registration_change(
    broker: &Broker,
    set: impl FnOnce(&mut BrokerRegistrationChangeRecord),
) -> MetadataRecord<'static> {
    let mut change = BrokerRegistrationChangeRecord {
        broker_id: broker.id.0,
        broker_epoch: broker.broker_epoch,
        ..Default::default()
    };
    set(&mut change);
    MetadataRecord::BrokerRegistrationChangeRecord(change)
}

fn leave_isr(context: &Context<'_>, broker: NodeId) -> Vec<MetadataRecord<'static>> {
    let step = Step { away: Some(broker), ..Step::default() };
    partition_records(context, step, |partition| partition.isr.contains(&broker))
}

/// What happens to brokers in this step.
#[derive(Debug, Clone, Copy, Default)]
struct Step {
    /// Leaves its ISRs and leads no more.
    away: Option<NodeId>,
    /// May lead again.
    back: Option<NodeId>,
    /// Stopped uncleanly: leaves ISR and ELR.
    lost: Option<NodeId>,
}

/// The changes of all partitions that `concerned` picks.
fn partition_records(
    context: &Context<'_>,
    step: Step,
    concerned: impl Fn(&Partition) -> bool,
) -> Vec<MetadataRecord<'static>> {
    let concerned = context.image.partitions().filter(|(_, _, partition)| concerned(partition));
    concerned
        .filter_map(|(topic, index, partition)| partition_record(context, step, topic, index, partition))
        .collect()
}

fn partition_record(
    context: &Context<'_>,
    step: Step,
    topic: &Topic,
    index: PartitionId,
    partition: &Partition,
) -> Option<MetadataRecord<'static>> {
    let may_lead = |id: NodeId, directory: Uuid| {
        let gone = step.away == Some(id) || step.lost == Some(id);
        // The one that is being unfenced still shows as fenced.
        let back = |broker: &Broker| step.back == Some(id) && !broker.in_controlled_shutdown;
        let broker = context.image.broker(id);
        let is_alive = |b: &Broker| !gone && (b.is_active() || back(b));
        broker.is_some_and(|b| Guard::ElectedIsAlive.holds(is_alive(b)) && b.has_online_dir(directory))
    };
    let mut change = context.partition_change(topic, index, partition, &may_lead);
    let stays = |member: &NodeId| {
        !Guard::FencedLeavesIsr.stands() && step.away == Some(*member)
            || step.away != Some(*member) && step.lost != Some(*member)
    };
    change.target.isr.retain(stays);
    change.unclean_shutdown = step.lost;
    change.record().map(MetadataRecord::PartitionChangeRecord)
}
