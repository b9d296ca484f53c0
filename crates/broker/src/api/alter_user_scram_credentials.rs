//! AlterUserScramCredentials 0: credentials are set and deleted (KIP-554).

use ottla_protocol::messages::alter_user_scram_credentials_request::AlterUserScramCredentialsRequest;

use crate::Broker;
use crate::call::Call;

/// Decided by the controller; answered when the records are committed.
pub(crate) fn handle(broker: &Broker, call: &mut Call<'_>, request: AlterUserScramCredentialsRequest<'_>) {
    broker.decide(call, |controller| {
        ottla_controller::alter_user_scram_credentials(&controller.context(), &request)
    });
}
