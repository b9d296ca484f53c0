//! CreateAcls 1-3: without an authorizer nothing would enforce an access control entry, so none is taken, as in Kafka.

use ottla_protocol::ErrorCode;
use ottla_protocol::messages::create_acls_request::CreateAclsRequest;
use ottla_protocol::messages::create_acls_response::{AclCreationResult, CreateAclsResponse};

use crate::Broker;
use crate::call::Call;

/// What those are told who want entries where there is no authorizer.
pub(super) const NO_AUTHORIZER: &str = "No Authorizer is configured.";

/// Handles the request.
pub(crate) fn handle(_: &Broker, call: &mut Call<'_>, request: CreateAclsRequest<'_>) {
    let results = request.creations.iter().map(|_| AclCreationResult {
        error_code: ErrorCode::SecurityDisabled.code(),
        error_message: Some(NO_AUTHORIZER.into()),
    });
    call.respond(&CreateAclsResponse { results: results.collect(), ..Default::default() });
}
