//! AlterClientQuotas 0-1: limits of users, client ids and addresses.

use ottla_protocol::messages::alter_client_quotas_request::AlterClientQuotasRequest;

use crate::Broker;
use crate::call::Call;

/// Decided by the controller; answered when the records are committed.
pub(crate) fn handle(broker: &Broker, call: &mut Call<'_>, request: AlterClientQuotasRequest<'_>) {
    broker.decide(call, |controller| ottla_controller::alter_client_quotas(&controller.context(), &request));
}
