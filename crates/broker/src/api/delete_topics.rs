//! DeleteTopics 1-6: topics go, by name or (v6) by id.

use ottla_protocol::messages::delete_topics_request::DeleteTopicsRequest;

use crate::Broker;
use crate::call::Call;

/// From this version on a client that deletes too much is refused, and not only paused (KIP-599).
const STRICT_SINCE: i16 = 5;

/// Decided by the controller; answered when the records are committed.
pub(crate) fn handle(broker: &Broker, call: &mut Call<'_>, request: DeleteTopicsRequest<'_>) {
    let version = call.reply.version;
    broker.decide_within_quota(
        call,
        STRICT_SINCE,
        |controller, allowance| controller.delete_topics(&request, version, allowance),
        |response| &mut response.throttle_time_ms,
    );
}
