//! BrokerRegistration 0-4 (KIP-631): a broker process introduces itself, and is told its epoch.

use ottla_controller::{Decision, Registration};
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::broker_registration_request::BrokerRegistrationRequest;
use ottla_protocol::messages::broker_registration_response::BrokerRegistrationResponse;

use crate::Broker;
use crate::call::Call;
use crate::quorum::Deciding;

/// Decided by the controller; answered when the records are committed.
pub(crate) fn handle(broker: &Broker, call: &mut Call<'_>, request: BrokerRegistrationRequest<'_>) {
    let version = call.reply.version;
    broker.decide_as_controller(call, |deciding| decide(deciding, &request, version));
}

/// Decides; a registration counts as a sign of life.
pub(crate) fn decide(
    deciding: &mut Deciding<'_>,
    request: &BrokerRegistrationRequest<'_>,
    version: i16,
) -> Decision<BrokerRegistrationResponse> {
    if !deciding.controller.context().is_bootstrapped() {
        return refusal(ErrorCode::NotController);
    }
    let registration = Registration {
        version,
        next_offset: deciding.next_offset,
        has_live_session: deciding.sessions.is_alive(request.broker_id, deciding.now),
        kraft_version: deciding.raft.kraft_version(),
    };
    match deciding.controller.register_broker(request, registration) {
        Ok(decision) => {
            let broker_epoch = decision.response.broker_epoch;
            deciding.sessions.touch(request.broker_id, broker_epoch, -1, deciding.now);
            decision
        }
        Err(error) => refusal(error.code),
    }
}

fn refusal(error: ErrorCode) -> Decision<BrokerRegistrationResponse> {
    let error_code = error.code();
    Decision::without_records(BrokerRegistrationResponse { error_code, ..Default::default() })
}
