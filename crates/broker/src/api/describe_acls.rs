//! DescribeAcls 1-3: the access control entries that match a filter, by resource; none are told without an authorizer, as in Kafka.

use std::collections::BTreeMap;

use ottla_metadata::acl::AclFilter;
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::describe_acls_request::DescribeAclsRequest;
use ottla_protocol::messages::describe_acls_response::{
    AclDescription, DescribeAclsResource, DescribeAclsResponse,
};

use crate::Broker;
use crate::call::Call;

/// Handles the request. A number that stands for "unknown" is not a request, as in Kafka.
pub(crate) fn handle(broker: &Broker, call: &mut Call<'_>, request: DescribeAclsRequest<'_>) {
    let filter = AclFilter::from(&request);
    if filter.has_unknown() {
        return call.reply.close(call.out);
    }
    if !broker.config().keeps_acls {
        return call.respond(&DescribeAclsResponse {
            error_code: ErrorCode::SecurityDisabled.code(),
            error_message: Some("No Authorizer is configured on the broker".into()),
            ..Default::default()
        });
    }
    let image = broker.image();
    let mut by_resource: BTreeMap<(i8, &str, i8), Vec<AclDescription<'_>>> = BTreeMap::new();
    for acl in image.acls().values().filter(|acl| filter.matches(acl)) {
        let resource = (acl.resource_type, &*acl.resource_name, acl.pattern_type);
        by_resource.entry(resource).or_default().push(AclDescription {
            principal: (&*acl.principal).into(),
            host: (&*acl.host).into(),
            operation: acl.operation,
            permission_type: acl.permission_type,
        });
    }
    let resources = by_resource.into_iter().map(|((resource_type, name, pattern_type), acls)| {
        DescribeAclsResource { resource_type, resource_name: name.into(), pattern_type, acls }
    });
    call.respond(&DescribeAclsResponse { resources: resources.collect(), ..Default::default() });
}
