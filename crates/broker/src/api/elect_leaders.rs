//! ElectLeaders 0-2: preferred leaders, or any leader, for partitions that lack them.

use ottla_protocol::messages::elect_leaders_request::ElectLeadersRequest;

use crate::Broker;
use crate::call::Call;

/// Decided by the controller; answered when the records are committed.
pub(crate) fn handle(broker: &Broker, call: &mut Call<'_>, request: ElectLeadersRequest<'_>) {
    let version = call.reply.version;
    broker
        .decide(call, |controller| ottla_controller::elect_leaders(&controller.context(), &request, version));
}
