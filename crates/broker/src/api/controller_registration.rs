//! ControllerRegistration 0 (KIP-919): a controller introduces itself: where it listens, and which features it supports.

use ottla_controller::Decision;
use ottla_protocol::messages::controller_registration_request::ControllerRegistrationRequest;
use ottla_protocol::messages::controller_registration_response::ControllerRegistrationResponse;

use crate::Broker;
use crate::call::Call;
use crate::quorum::Deciding;

/// Decided by the controller; answered when the record is committed.
pub(crate) fn handle(broker: &Broker, call: &mut Call<'_>, request: ControllerRegistrationRequest<'_>) {
    broker.decide_as_controller(call, |deciding| decide(deciding, &request));
}

/// Decides.
pub(crate) fn decide(
    deciding: &mut Deciding<'_>,
    request: &ControllerRegistrationRequest<'_>,
) -> Decision<ControllerRegistrationResponse<'static>> {
    match deciding.controller.register_controller(request) {
        Ok(decision) => decision.map(|()| ControllerRegistrationResponse::default()),
        Err(error) => Decision::without_records(ControllerRegistrationResponse {
            error_code: error.code.code(),
            error_message: error.text(),
            ..Default::default()
        }),
    }
}
