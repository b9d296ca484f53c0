//! UnregisterBroker 0: a broker that will not come back is forgotten.
//!
//! A broker that is alive would go on without being known to anybody; so this node does not forget itself.

use ottla_controller::{ApiError, Decision};
use ottla_protocol::ErrorCode;
use ottla_protocol::ids::NodeId;
use ottla_protocol::messages::unregister_broker_request::UnregisterBrokerRequest;
use ottla_protocol::messages::unregister_broker_response::UnregisterBrokerResponse;

use crate::Broker;
use crate::call::Call;

/// Decided by the controller; answered when the records are committed.
pub(crate) fn handle(broker: &Broker, call: &mut Call<'_>, request: UnregisterBrokerRequest) {
    if request.broker_id == broker.config().node_id {
        let message =
            format!("Broker {} is alive: it serves this request. Stop it first.", request.broker_id);
        let error = ApiError::new(ErrorCode::InvalidRequest, message);
        return call.respond(&refusal(&error));
    }
    broker.decide(call, |controller| match controller.unregister_broker(NodeId(request.broker_id)) {
        Ok(decision) => decision.map(|()| UnregisterBrokerResponse::default()),
        Err(error) => Decision::without_records(refusal(&error)),
    });
}

fn refusal(error: &ApiError) -> UnregisterBrokerResponse<'static> {
    UnregisterBrokerResponse {
        error_code: error.code.code(),
        error_message: error.text(),
        ..Default::default()
    }
}
