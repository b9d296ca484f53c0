//! DeleteAcls 1-3: access control entries go, if an authorizer is configured (KIP-140).

use ottla_controller::Decision;
use ottla_metadata::acl::AclFilter;
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::delete_acls_request::DeleteAclsRequest;
use ottla_protocol::messages::delete_acls_response::{DeleteAclsFilterResult, DeleteAclsResponse};

use super::create_acls::NO_AUTHORIZER;
use crate::Broker;
use crate::call::Call;

/// Decided by the controller; answered when the records are committed. A number that stands for "unknown" is not a request, as in Kafka.
pub(crate) fn handle(broker: &Broker, call: &mut Call<'_>, request: DeleteAclsRequest<'_>) {
    if request.filters.iter().any(|filter| AclFilter::from(filter).has_unknown()) {
        return call.reply.close(call.out);
    }
    let has_authorizer = broker.config().keeps_acls;
    broker.decide(call, |controller| match has_authorizer {
        true => ottla_controller::delete_acls(&controller.context(), &request),
        false => Decision::without_records(disabled(&request)),
    });
}

fn disabled(request: &DeleteAclsRequest<'_>) -> DeleteAclsResponse<'static> {
    let filter_results = request.filters.iter().map(|_| DeleteAclsFilterResult {
        error_code: ErrorCode::SecurityDisabled.code(),
        error_message: Some(NO_AUTHORIZER.into()),
        matching_acls: Vec::new(),
    });
    DeleteAclsResponse { filter_results: filter_results.collect(), ..Default::default() }
}
