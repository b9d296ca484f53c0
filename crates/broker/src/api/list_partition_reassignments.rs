//! ListPartitionReassignments 0: what is on its way.

use ottla_protocol::messages::list_partition_reassignments_request::ListPartitionReassignmentsRequest;

use crate::Broker;
use crate::call::Call;

/// Answered from what is committed.
pub(crate) fn handle(broker: &Broker, call: &mut Call<'_>, request: ListPartitionReassignmentsRequest<'_>) {
    call.respond(&ottla_controller::list_partition_reassignments(&broker.image(), &request));
}
