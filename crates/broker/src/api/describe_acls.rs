//! DescribeAcls 1-3: without an authorizer there are no access control entries to tell, as in Kafka.

use ottla_protocol::ErrorCode;
use ottla_protocol::messages::describe_acls_request::DescribeAclsRequest;
use ottla_protocol::messages::describe_acls_response::DescribeAclsResponse;

use crate::Broker;
use crate::call::Call;

/// Handles the request.
pub(crate) fn handle(_: &Broker, call: &mut Call<'_>, _: DescribeAclsRequest<'_>) {
    call.respond(&DescribeAclsResponse {
        error_code: ErrorCode::SecurityDisabled.code(),
        error_message: Some("No Authorizer is configured on the broker".into()),
        ..Default::default()
    });
}
