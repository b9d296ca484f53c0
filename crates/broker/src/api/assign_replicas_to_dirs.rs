//! AssignReplicasToDirs 0 (KIP-858): a broker says in which of its directories replicas are.

use ottla_controller::Decision;
use ottla_protocol::messages::assign_replicas_to_dirs_request::AssignReplicasToDirsRequest;
use ottla_protocol::messages::assign_replicas_to_dirs_response::AssignReplicasToDirsResponse;

use crate::Broker;
use crate::call::Call;

/// Decided by the controller; answered when the records are committed.
pub(crate) fn handle(broker: &Broker, call: &mut Call<'_>, request: AssignReplicasToDirsRequest) {
    broker.decide(call, |controller| {
        let decided = ottla_controller::assign_replicas_to_dirs(&controller.context(), &request);
        decided.unwrap_or_else(|error| {
            let error_code = error.code.code();
            Decision::without_records(AssignReplicasToDirsResponse { error_code, ..Default::default() })
        })
    });
}
