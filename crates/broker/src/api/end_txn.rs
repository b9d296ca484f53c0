//! EndTxn 0-5: a client commits or aborts its transaction. v5 takes and answers a new producer epoch (KIP-890).

use ottla_coordinator::transaction::end_txn_error;
use ottla_protocol::messages::end_txn_request::EndTxnRequest;

use crate::Broker;
use crate::call::Call;

/// Handles the request.
pub(crate) fn handle(broker: &Broker, call: &mut Call<'_>, request: EndTxnRequest<'_>) {
    let handled =
        broker.transactions().handle(broker, call, &request.transactional_id, |coordinator, context| {
            coordinator.handle_end_txn(&request, context)
        });
    if let Err(error) = handled {
        call.respond(&end_txn_error(error, call.reply.version));
    }
}
