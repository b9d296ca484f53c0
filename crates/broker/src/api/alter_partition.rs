//! AlterPartition 2-3 (KIP-497, KIP-903): the leader of a partition says who is in sync; v3 names the epoch of each of those brokers.

use ottla_controller::Decision;
use ottla_protocol::messages::alter_partition_request::AlterPartitionRequest;
use ottla_protocol::messages::alter_partition_response::AlterPartitionResponse;

use crate::Broker;
use crate::call::Call;
use crate::quorum::Deciding;

/// Decided by the controller; answered when the records are committed.
pub(crate) fn handle(broker: &Broker, call: &mut Call<'_>, request: AlterPartitionRequest) {
    let version = call.reply.version;
    broker.decide_as_controller(call, |deciding| decide(deciding, &request, version));
}

/// Decides.
pub(crate) fn decide(
    deciding: &mut Deciding<'_>,
    request: &AlterPartitionRequest,
    version: i16,
) -> Decision<AlterPartitionResponse> {
    let decided = ottla_controller::alter_partition(&deciding.controller.context(), request, version);
    decided.unwrap_or_else(|error| {
        let error_code = error.code.code();
        Decision::without_records(AlterPartitionResponse { error_code, ..Default::default() })
    })
}
