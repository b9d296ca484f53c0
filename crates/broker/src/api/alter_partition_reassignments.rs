//! AlterPartitionReassignments 0-1: where replicas shall be, or that they stay where they were.

use ottla_protocol::messages::alter_partition_reassignments_request::AlterPartitionReassignmentsRequest;

use crate::Broker;
use crate::call::Call;

/// Decided by the controller; answered when the records are committed.
pub(crate) fn handle(broker: &Broker, call: &mut Call<'_>, request: AlterPartitionReassignmentsRequest<'_>) {
    broker.decide(call, |controller| {
        ottla_controller::alter_partition_reassignments(&controller.context(), &request)
    });
}
