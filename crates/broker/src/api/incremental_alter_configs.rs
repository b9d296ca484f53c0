//! IncrementalAlterConfigs 0-1: single keys are set, deleted, appended to or subtracted from (KIP-339).

use ottla_protocol::messages::incremental_alter_configs_request::IncrementalAlterConfigsRequest;

use crate::Broker;
use crate::call::Call;

/// Decided by the controller; answered when the records are committed.
pub(crate) fn handle(broker: &Broker, call: &mut Call<'_>, request: IncrementalAlterConfigsRequest<'_>) {
    broker.decide(call, |controller| controller.incremental_alter_configs(&request));
}
