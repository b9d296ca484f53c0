//! UnregisterController 0 (KIP-1312): a controller that will not come back is forgotten, so that what it supported counts no more when
//! features are upgraded. One that lives introduces itself again.

use ottla_controller::{ApiError, Decision};
use ottla_protocol::ErrorCode;
use ottla_protocol::ids::NodeId;
use ottla_protocol::messages::unregister_controller_request::UnregisterControllerRequest;
use ottla_protocol::messages::unregister_controller_response::UnregisterControllerResponse;

use crate::Broker;
use crate::call::Call;

/// Decided by the controller, which is not forgotten while it is the active one; answered when the record is committed.
pub(crate) fn handle(broker: &Broker, call: &mut Call<'_>, request: UnregisterControllerRequest) {
    let me = broker.config().node_id;
    broker.decide(call, |controller| {
        if request.controller_id == me {
            let message = "Controller cannot unregister itself while it is active.";
            return refusal(&ApiError::new(ErrorCode::InvalidRequest, message));
        }
        match controller.unregister_controller(NodeId(request.controller_id)) {
            Ok(decision) => decision.map(|()| UnregisterControllerResponse::default()),
            Err(error) => refusal(&error),
        }
    });
}

fn refusal(error: &ApiError) -> Decision<UnregisterControllerResponse<'static>> {
    Decision::without_records(UnregisterControllerResponse {
        error_code: error.code.code(),
        error_message: error.text(),
        ..Default::default()
    })
}
