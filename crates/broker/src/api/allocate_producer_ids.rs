//! AllocateProducerIds 0: a broker gets a block of producer ids.

use ottla_controller::Decision;
use ottla_protocol::messages::allocate_producer_ids_request::AllocateProducerIdsRequest;
use ottla_protocol::messages::allocate_producer_ids_response::AllocateProducerIdsResponse;

use crate::Broker;
use crate::call::Call;

/// Decided by the controller; answered when the record is committed.
pub(crate) fn handle(broker: &Broker, call: &mut Call<'_>, request: AllocateProducerIdsRequest) {
    broker.decide(call, |controller| {
        controller.allocate_producer_ids(&request).unwrap_or_else(|error| {
            let error_code = error.code.code();
            Decision::without_records(AllocateProducerIdsResponse { error_code, ..Default::default() })
        })
    });
}
