//! CreatePartitions 0-3: topics grow; they never shrink.

use ottla_protocol::messages::create_partitions_request::CreatePartitionsRequest;

use crate::Broker;
use crate::call::Call;

/// From this version on a client that creates too much is refused, and not only paused (KIP-599).
const STRICT_SINCE: i16 = 3;

/// Decided by the controller; answered when the records are committed.
pub(crate) fn handle(broker: &Broker, call: &mut Call<'_>, request: CreatePartitionsRequest<'_>) {
    broker.decide_within_quota(
        call,
        STRICT_SINCE,
        |controller, allowance| controller.create_partitions(&request, allowance),
        |response| &mut response.throttle_time_ms,
    );
}
