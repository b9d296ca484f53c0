//! CreateTopics 2-7: new topics with their partitions, replicas and configurations.

use ottla_protocol::messages::create_topics_request::CreateTopicsRequest;

use crate::Broker;
use crate::call::Call;

/// From this version on a client that creates too much is refused, and not only paused (KIP-599).
const STRICT_SINCE: i16 = 6;

/// Decided by the controller; answered when the records are committed.
pub(crate) fn handle(broker: &Broker, call: &mut Call<'_>, request: CreateTopicsRequest<'_>) {
    broker.decide_within_quota(
        call,
        STRICT_SINCE,
        |controller, allowance| controller.create_topics(&request, allowance),
        |response| &mut response.throttle_time_ms,
    );
}
