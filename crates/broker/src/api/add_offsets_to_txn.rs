//! AddOffsetsToTxn 0-4: the offsets of a group become part of an open transaction. Producers of version 2 do without.

use ottla_metadata::topic_name::CONSUMER_OFFSETS;
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::add_offsets_to_txn_request::AddOffsetsToTxnRequest;
use ottla_protocol::messages::add_offsets_to_txn_response::AddOffsetsToTxnResponse;

use crate::Broker;
use crate::call::Call;

/// Handles the request.
pub(crate) fn handle(broker: &Broker, call: &mut Call<'_>, request: AddOffsetsToTxnRequest<'_>) {
    let index = broker.groups().partition_of(&request.group_id).ok_or(ErrorCode::CoordinatorNotAvailable);
    let handled = index.and_then(|index| {
        let offsets_partition = (CONSUMER_OFFSETS.into(), index);
        broker.transactions().handle(broker, call, &request.transactional_id, |coordinator, context| {
            coordinator.handle_add_offsets(&request, offsets_partition, context)
        })
    });
    if let Err(error) = handled {
        call.respond(&AddOffsetsToTxnResponse { error_code: error.code(), ..Default::default() });
    }
}
