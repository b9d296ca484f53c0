//! CreateAcls 1-3: access control entries are kept in the metadata log, if an authorizer is configured (KIP-140).

use ottla_controller::Decision;
use ottla_metadata::acl::UNKNOWN;
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::create_acls_request::{AclCreation, CreateAclsRequest};
use ottla_protocol::messages::create_acls_response::{AclCreationResult, CreateAclsResponse};

use crate::Broker;
use crate::call::Call;

/// What those are told who want entries where there is no authorizer.
pub(super) const NO_AUTHORIZER: &str = "No Authorizer is configured.";

/// Decided by the controller; answered when the records are committed. A number that stands for "unknown" is not a request, as in Kafka.
pub(crate) fn handle(broker: &Broker, call: &mut Call<'_>, request: CreateAclsRequest<'_>) {
    if request.creations.iter().any(has_unknown) {
        return call.reply.close(call.out);
    }
    let has_authorizer = broker.config().keeps_acls;
    broker.decide(call, |controller| match has_authorizer {
        true => controller.create_acls(&request),
        false => Decision::without_records(disabled(&request)),
    });
}

fn has_unknown(creation: &AclCreation<'_>) -> bool {
    let numbers = [
        creation.resource_type,
        creation.resource_pattern_type,
        creation.operation,
        creation.permission_type,
    ];
    numbers.contains(&UNKNOWN)
}

fn disabled(request: &CreateAclsRequest<'_>) -> CreateAclsResponse<'static> {
    let results = request.creations.iter().map(|_| AclCreationResult {
        error_code: ErrorCode::SecurityDisabled.code(),
        error_message: Some(NO_AUTHORIZER.into()),
    });
    CreateAclsResponse { results: results.collect(), ..Default::default() }
}
