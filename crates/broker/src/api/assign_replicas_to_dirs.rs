//! AssignReplicasToDirs 0 (KIP-858): a broker says in which of its directories replicas are.

use ottla_controller::Decision;
use ottla_protocol::messages::assign_replicas_to_dirs_request::AssignReplicasToDirsRequest;
use ottla_protocol::messages::assign_replicas_to_dirs_response::AssignReplicasToDirsResponse;

use crate::Broker;
use crate::call::Call;
use crate::quorum::Deciding;

/// Decided by the controller; answered when the records are committed.
pub(crate) fn handle(broker: &Broker, call: &mut Call<'_>, request: AssignReplicasToDirsRequest) {
    broker.decide_as_controller(call, |deciding| decide(deciding, &request));
}

/// Decides.
pub(crate) fn decide(
    deciding: &mut Deciding<'_>,
    request: &AssignReplicasToDirsRequest,
) -> Decision<AssignReplicasToDirsResponse> {
    let decided = ottla_controller::assign_replicas_to_dirs(&deciding.controller.context(), request);
    decided.unwrap_or_else(|error| {
        let error_code = error.code.code();
        Decision::without_records(AssignReplicasToDirsResponse { error_code, ..Default::default() })
    })
}
