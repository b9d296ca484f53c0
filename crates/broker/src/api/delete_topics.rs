//! DeleteTopics 1-6: topics go, by name or (v6) by id.

use ottla_protocol::messages::delete_topics_request::DeleteTopicsRequest;

use crate::Broker;
use crate::call::Call;

/// Decided by the controller; answered when the records are committed.
pub(crate) fn handle(broker: &Broker, call: &mut Call<'_>, request: DeleteTopicsRequest<'_>) {
    let version = call.reply.version;
    broker.decide(call, |controller| controller.delete_topics(&request, version));
}
