//! DeleteAcls 1-3: without an authorizer there are no access control entries to delete, as in Kafka.

use ottla_protocol::ErrorCode;
use ottla_protocol::messages::delete_acls_request::DeleteAclsRequest;
use ottla_protocol::messages::delete_acls_response::{DeleteAclsFilterResult, DeleteAclsResponse};

use super::create_acls::NO_AUTHORIZER;
use crate::Broker;
use crate::call::Call;

/// Handles the request.
pub(crate) fn handle(_: &Broker, call: &mut Call<'_>, request: DeleteAclsRequest<'_>) {
    let filter_results = request.filters.iter().map(|_| DeleteAclsFilterResult {
        error_code: ErrorCode::SecurityDisabled.code(),
        error_message: Some(NO_AUTHORIZER.into()),
        matching_acls: Vec::new(),
    });
    call.respond(&DeleteAclsResponse { filter_results: filter_results.collect(), ..Default::default() });
}
