//! InitProducerId 0-5: a producer id for an idempotent producer (KIP-98). Ids come in blocks of a thousand from the controller (KIP-730),
//! so that two brokers, or two lives of one, never give the same.

use ottla_protocol::ErrorCode;
use ottla_protocol::messages::init_producer_id_request::InitProducerIdRequest;
use ottla_protocol::messages::init_producer_id_response::InitProducerIdResponse;

use crate::Broker;
use crate::call::Call;

/// Handles the request. Transactional producers are refused: there is no transaction coordinator yet.
pub(crate) fn handle(broker: &Broker, call: &mut Call<'_>, request: InitProducerIdRequest<'_>) {
    let refused = |error: ErrorCode| InitProducerIdResponse {
        error_code: error.code(),
        producer_epoch: -1,
        ..Default::default()
    };
    if let Some(transactional_id) = &request.transactional_id {
        let error = if transactional_id.is_empty() {
            ErrorCode::InvalidRequest
        } else {
            ErrorCode::UnsupportedVersion
        };
        return call.respond(&refused(error));
    }
    match broker.producer_ids().next() {
        Some(producer_id) => {
            call.respond(&InitProducerIdResponse { producer_id, producer_epoch: 0, ..Default::default() });
        }
        None if call.retried => call.respond(&refused(ErrorCode::CoordinatorLoadInProgress)),
        None => broker.allocate_producer_ids(call),
    }
}
