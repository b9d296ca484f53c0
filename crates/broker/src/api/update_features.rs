//! UpdateFeatures 0-2: which levels of features the cluster runs with (KIP-584); among them kraft.version, which is the quorum's own
//! (KIP-853).

use ottla_controller::{Quorum, UpdatedFeatures};
use ottla_protocol::messages::update_features_request::UpdateFeaturesRequest;

use crate::Broker;
use crate::call::Call;

/// Decided by the controller; answered when the records are committed.
pub(crate) fn handle(broker: &Broker, call: &mut Call<'_>, request: UpdateFeaturesRequest<'_>) {
    let version = call.reply.version;
    broker.decide_as_controller(call, |deciding| {
        let voters: Vec<i32> = deciding.raft.voters().iter().map(|voter| voter.key.id).collect();
        let quorum = Quorum {
            kraft_version: deciding.raft.kraft_version(),
            voters: &voters,
            may_upgrade: &|level| deciding.raft.may_upgrade(level).is_ok(),
        };
        let decision = deciding.controller.update_features(&request, version, quorum);
        deciding.kraft_version = decision.response.kraft_version;
        decision.map(|UpdatedFeatures { response, .. }| response)
    });
}
