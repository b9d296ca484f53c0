//! UpdateFeatures 0-2: which levels of features the cluster runs with (KIP-584).

use ottla_protocol::messages::update_features_request::UpdateFeaturesRequest;

use crate::Broker;
use crate::call::Call;

/// Decided by the controller; answered when the records are committed.
pub(crate) fn handle(broker: &Broker, call: &mut Call<'_>, request: UpdateFeaturesRequest<'_>) {
    let version = call.reply.version;
    broker.decide_as_controller(call, |deciding| {
        deciding.controller.update_features(&request, version, deciding.kraft_version)
    });
}
