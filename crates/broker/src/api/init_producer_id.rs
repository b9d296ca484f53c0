//! InitProducerId 0-5: a producer id for an idempotent producer (KIP-98), or the id and a new epoch of a transactional one. Ids come in
//! blocks of a thousand from the controller (KIP-730), so that two brokers, or two lives of one, never give the same.

use ottla_coordinator::transaction::init_producer_id_error;
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::init_producer_id_request::InitProducerIdRequest;
use ottla_protocol::messages::init_producer_id_response::InitProducerIdResponse;

use crate::Broker;
use crate::call::Call;

/// Handles the request.
pub(crate) fn handle(broker: &Broker, call: &mut Call<'_>, request: InitProducerIdRequest<'_>) {
    if broker.producer_ids().is_empty() && !call.retried {
        return broker.allocate_producer_ids(Some(call.to_deferred()), call.now, call.out);
    }
    let version = call.reply.version;
    let Some(transactional_id) = request.transactional_id.as_deref() else {
        let response = match broker.producer_ids().next() {
            Some(producer_id) => {
                InitProducerIdResponse { producer_id, producer_epoch: 0, ..Default::default() }
            }
            None => init_producer_id_error(ErrorCode::CoordinatorLoadInProgress, version),
        };
        return call.respond(&response);
    };
    if transactional_id.is_empty() {
        return call.respond(&init_producer_id_error(ErrorCode::InvalidRequest, version));
    }
    let handled = broker.transactions().handle(broker, call, transactional_id, |coordinator, context| {
        coordinator.handle_init_producer_id(&request, context)
    });
    if let Err(error) = handled {
        call.respond(&init_producer_id_error(error, version));
    }
}
