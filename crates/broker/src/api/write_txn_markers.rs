//! WriteTxnMarkers 1-2: ends transactions in partitions of this node, as other coordinators or an operator (`kafka-transactions --abort`)
//! ask. v2 says which rules the transaction was ended by: with version 2 the epoch must be new (KIP-1228).

use ottla_coordinator::TransactionVersion;
use ottla_protocol::messages::write_txn_markers_request::WriteTxnMarkersRequest;
use ottla_protocol::messages::write_txn_markers_response::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
    WriteTxnMarkersResponse,
};

use crate::Broker;
use crate::call::Call;
use crate::coordination::{Joint, JointBody, MarkerWaiter, PartitionMarker};

/// Handles the request.
pub(crate) fn handle(broker: &Broker, call: &mut Call<'_>, request: WriteTxnMarkersRequest<'_>) {
    // The whole answer, without errors: each marker fills its own in when it is settled.
    let markers = request.markers.iter().map(|marker| {
        let topics = marker.topics.iter().map(|topic| {
            let partitions = topic
                .partition_indexes
                .iter()
                .map(|index| WritableTxnMarkerPartitionResult { partition_index: *index, error_code: 0 });
            WritableTxnMarkerTopicResult {
                name: topic.name.to_string().into(),
                partitions: partitions.collect(),
            }
        });
        WritableTxnMarkerResult { producer_id: marker.producer_id, topics: topics.collect() }
    });
    let response = WriteTxnMarkersResponse { markers: markers.collect() };
    let joint = Joint::new(call.reply, JointBody::WriteTxnMarkers(response));
    for (m, asked) in request.markers.iter().enumerate() {
        let marker = PartitionMarker {
            producer_id: asked.producer_id,
            producer_epoch: asked.producer_epoch,
            coordinator_epoch: asked.coordinator_epoch,
            commit: asked.transaction_result,
            version: TransactionVersion(i16::from(asked.transaction_version)),
        };
        for (t, topic) in asked.topics.iter().enumerate() {
            for (p, index) in topic.partition_indexes.iter().enumerate() {
                joint.expect_part();
                let waiter = MarkerWaiter::Request(joint.clone(), (m, t, p));
                broker.write_marker((&topic.name, *index), &marker, waiter, call.now, call.out);
            }
        }
    }
    joint.part_done(call.out);
}
