//! AlterConfigs 0-2: the whole configuration of a resource is replaced (kept for old clients).

use ottla_protocol::messages::alter_configs_request::AlterConfigsRequest;

use crate::Broker;
use crate::call::Call;

/// Decided by the controller; answered when the records are committed.
pub(crate) fn handle(broker: &Broker, call: &mut Call<'_>, request: AlterConfigsRequest<'_>) {
    broker.decide(call, |controller| controller.alter_configs(&request));
}
