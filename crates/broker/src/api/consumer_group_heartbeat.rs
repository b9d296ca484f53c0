//! ConsumerGroupHeartbeat 0-1 (KIP-848): handed to the coordinator of the group.
//!
//! The API is always announced, as in Kafka; a cluster that has not finalised `group.version` 1, and a broker that is told to serve other
//! protocols alone (`group.coordinator.rebalance.protocols`), answers UNSUPPORTED_VERSION (35), and the client says so.

use ottla_metadata::features::GROUP_VERSION;
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::consumer_group_heartbeat_request::ConsumerGroupHeartbeatRequest;
use ottla_protocol::messages::consumer_group_heartbeat_response::ConsumerGroupHeartbeatResponse;

use crate::Broker;
use crate::call::Call;

/// Whether there are consumer groups.
pub(crate) fn is_enabled(broker: &Broker) -> bool {
    broker.config().consumer_groups.enabled && broker.image().feature_level(GROUP_VERSION) >= 1
}

/// Handles the request.
pub(crate) fn handle(broker: &Broker, call: &mut Call<'_>, request: ConsumerGroupHeartbeatRequest<'_>) {
    let handled = match is_enabled(broker) {
        false => Err(ErrorCode::UnsupportedVersion),
        // Which coordinator looks after no group at all is as good as any other: each knows that the request is not valid.
        true => broker.groups().handle(broker, call, &request.group_id, |coordinator, context| {
            coordinator.handle_consumer_group_heartbeat(&request, context)
        }),
    };
    if let Err(error) = handled {
        call.respond(&ConsumerGroupHeartbeatResponse { error_code: error.code(), ..Default::default() });
    }
}
