//! Writing transaction markers: on behalf of the coordinators of this node, and of whoever sends WriteTxnMarkers. Those for partitions that
//! other brokers lead are sent there (`remote`).
//!
//! The tricky idea: a marker on `__consumer_offsets` goes through the group coordinator of that partition, whose pending offsets it
//! decides; everywhere else it goes straight to the log.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use ottla_coordinator::TransactionVersion;
use ottla_coordinator::transaction::{MarkerEvent, MarkerResult, Markers};
use ottla_metadata::topic_name::CONSUMER_OFFSETS;
use ottla_protocol::ErrorCode;
use ottla_protocol::ids::PartitionId;
use ottla_protocol::records::{EndTxnMarker, end_txn_batch};
use ottla_storage::AppendOrigin;

use crate::Broker;
use crate::coordination::remote::MarkerLetter;
use crate::coordination::{Joint, JointBody};
use crate::effect::{Effect, Effects, Millis, ReadTask};
use crate::partition::{AppendRefusal, Committed, Partition, Wakes};

/// A marker for one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PartitionMarker {
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub coordinator_epoch: i32,
    pub commit: bool,
    /// The rules that the transaction was ended by; with version 2 the marker must bring a new epoch.
    pub version: TransactionVersion,
}

/// Who is told what became of a marker.
#[derive(Debug, Clone)]
pub(crate) enum MarkerWaiter {
    /// A coordinator of this node.
    Coordinator(Arc<MarkerEvent>),
    /// A WriteTxnMarkers request: its answer, and where in it the partition stands (marker, topic, partition).
    Request(Arc<Joint>, (usize, usize, usize)),
}

/// A marker on its way to a partition whose log has to be opened first.
#[derive(Debug)]
pub struct MarkerWrite {
    pub(crate) partition: Arc<Partition>,
    pub(crate) marker: PartitionMarker,
    pub(crate) waiter: MarkerWaiter,
}

impl PartitionMarker {
    /// Appends it. Returns the log's new end and whether it is committed already.
    pub fn append(
        &self,
        partition: &Arc<Partition>,
        waiter: Committed,
        now: Millis,
        out: &mut Effects,
    ) -> Result<(i64, bool, Wakes), ErrorCode> {
        let marker = EndTxnMarker { coordinator_epoch: self.coordinator_epoch };
        let batch = end_txn_batch(0, now, self.commit, marker, self.producer_id, self.producer_epoch, 0);
        let origin = AppendOrigin::Marker { bumps_epoch: self.version.bumps_epoch() };
        match partition.append(&Bytes::from(batch), origin, Some(waiter), now, out) {
            Ok((info, committed, wakes)) => Ok((info.last_offset + 1, committed, wakes)),
            Err(AppendRefusal::Code(error) | AppendRefusal::Unverified(error)) => Err(error),
            Err(AppendRefusal::Invalid(error)) => Err(error.code()),
        }
    }
}

impl Broker {
    /// Writes the markers of a transaction that a coordinator of this node has decided.
    pub(crate) fn write_markers(&self, markers: &Markers, now: Millis, out: &mut Effects) {
        let marker = PartitionMarker {
            producer_id: markers.producer_id,
            producer_epoch: markers.producer_epoch,
            coordinator_epoch: markers.coordinator_epoch,
            commit: markers.commit,
            version: markers.version,
        };
        let mut reached = BTreeSet::new();
        for partition in &markers.partitions {
            let event = MarkerEvent {
                transactional_id: markers.transactional_id.clone(),
                coordinator_epoch: markers.coordinator_epoch,
                round: markers.round,
                partition: partition.clone(),
                result: MarkerResult::Done,
            };
            let event = Arc::new(event);
            match self.leader_of(&partition.0, partition.1) {
                Some(leader) if leader != self.config.node_id => {
                    reached.insert(leader);
                    self.post_marker(leader, MarkerLetter { marker, event }, now, out);
                }
                // Here, or nowhere: then that is what comes out.
                _ => {
                    let waiter = MarkerWaiter::Coordinator(event);
                    self.write_marker((&partition.0, partition.1), &marker, waiter, now, out);
                }
            }
        }
        for leader in reached {
            self.send_markers(leader, now, out);
        }
    }

    /// Writes one marker to a partition that this node leads. `waiter` is told, now or later.
    pub(crate) fn write_marker(
        &self,
        (topic, index): (&str, i32),
        marker: &PartitionMarker,
        waiter: MarkerWaiter,
        now: Millis,
        out: &mut Effects,
    ) {
        let committed = Committed::Marker(waiter.clone());
        let written = if topic == CONSUMER_OFFSETS {
            self.groups.append_marker(self, index, marker, committed, now, out)
        } else {
            let partition = self.topics().partition_by_name(topic, index);
            partition.and_then(|partition| {
                if !partition.is_at_hand() {
                    let write = MarkerWrite { partition, marker: *marker, waiter: waiter.clone() };
                    out.push(Effect::Read(ReadTask::Marker(Box::new(write))));
                    return Ok(false);
                }
                let (_, committed, wakes) = marker.append(&partition, committed, now, out)?;
                self.wake(&partition, wakes, now, out);
                Ok(committed)
            })
        };
        match written {
            Ok(false) => {}
            Ok(true) => self.on_marker_settled(&waiter, ErrorCode::None, now, out),
            Err(error) => self.on_marker_settled(&waiter, error, now, out),
        }
    }

    /// A marker is committed, or will not be.
    pub(crate) fn on_marker_settled(
        &self,
        waiter: &MarkerWaiter,
        error: ErrorCode,
        now: Millis,
        out: &mut Effects,
    ) {
        match waiter {
            MarkerWaiter::Coordinator(event) => {
                let result = self.marker_result(event, error, out);
                let event = MarkerEvent { result, ..MarkerEvent::clone(event) };
                self.transactions.tell(self, &event.transactional_id, now, out, |coordinator| {
                    coordinator.on_marker(&event, now)
                });
                self.reask_parked(&event.transactional_id, now, out);
            }
            MarkerWaiter::Request(joint, (marker, topic, partition)) => {
                joint.write(|body| {
                    if let JointBody::WriteTxnMarkers(response) = body {
                        let result = &mut response.markers[*marker].topics[*topic].partitions[*partition];
                        result.error_code = error.code();
                    }
                });
                joint.part_done(out);
            }
        }
    }

    fn marker_result(&self, event: &MarkerEvent, error: ErrorCode, out: &mut Effects) -> MarkerResult {
        let (topic, index) = &event.partition;
        match error {
            ErrorCode::None => MarkerResult::Done,
            // A partition that was deleted has nothing left to decide. One that is only not here yet has.
            ErrorCode::UnknownTopicOrPartition => {
                let image = self.image();
                let described = image.topic_by_name(topic);
                let exists =
                    described.is_some_and(|topic| topic.partitions.contains_key(&PartitionId(*index)));
                if exists { MarkerResult::NotNow } else { MarkerResult::Done }
            }
            // The partition knows a later producer of this id, whose transactions are not ours to end.
            ErrorCode::InvalidProducerEpoch => {
                out.push(Effect::Report(format!(
                    "{topic}-{index}: the marker of {} came after a later epoch of its producer",
                    event.transactional_id
                )));
                MarkerResult::Done
            }
            ErrorCode::TransactionCoordinatorFenced => MarkerResult::Fenced,
            _ => MarkerResult::NotNow,
        }
    }
}
