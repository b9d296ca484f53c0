//! DeleteAcls (31), versions 1-3: access control entries that match a filter go (KIP-140, KIP-290; Kafka's `AclControlManager`).
//!
//! The one tricky idea: filters may overlap. An entry that two of them match is told to both, and goes once.

use crate::context::{Context, Decision, MAX_RECORDS_PER_BATCH};
use crate::error::{ApiError, code_and_message};
use ottla_metadata::acl::AclFilter;
use ottla_metadata::security::Acl;
use ottla_protocol::messages::delete_acls_request::DeleteAclsRequest;
use ottla_protocol::messages::delete_acls_response::{
    DeleteAclsFilterResult, DeleteAclsMatchingAcl, DeleteAclsResponse,
};
use ottla_protocol::messages::metadata_record::MetadataRecord;
use ottla_protocol::messages::remove_access_control_entry_record::RemoveAccessControlEntryRecord;
use ottla_protocol::{ErrorCode, Uuid};
use std::borrow::Cow;
use std::collections::BTreeSet;

/// Decides which entries go.
pub fn delete_acls(
    context: &Context<'_>,
    request: &DeleteAclsRequest<'_>,
) -> Decision<DeleteAclsResponse<'static>> {
    let mut gone: BTreeSet<Uuid> = BTreeSet::new();
    let results = request.filters.iter().map(|asked| {
        let filter = AclFilter::from(asked);
        if let Err(error) = check(&filter) {
            return refused(&error);
        }
        let matching = context.image.acls().values().filter(|entry| filter.matches(entry));
        let told = matching.map(|entry| {
            gone.insert(entry.id);
            tell(entry)
        });
        DeleteAclsFilterResult {
            error_code: ErrorCode::None.code(),
            error_message: None,
            matching_acls: told.collect(),
        }
    });
    let mut results: Vec<_> = results.collect();
    if gone.len() > MAX_RECORDS_PER_BATCH {
        let message = "Cannot remove more than 10000 acls in a single delete operation.";
        results.fill(refused(&ApiError::new(ErrorCode::InvalidRequest, message)));
        gone.clear();
    }
    let records = gone
        .into_iter()
        .map(|id| MetadataRecord::RemoveAccessControlEntryRecord(RemoveAccessControlEntryRecord { id }));
    Decision::atomic(records.collect(), DeleteAclsResponse { filter_results: results, ..Default::default() })
}

fn check(filter: &AclFilter<'_>) -> Result<(), ApiError> {
    let invalid = |message: &str| Err(ApiError::new(ErrorCode::InvalidRequest, message));
    if !filter.is_resource_known() {
        return invalid("Unknown patternFilter.");
    }
    if !filter.is_entry_known() {
        return invalid("Unknown entryFilter.");
    }
    Ok(())
}

fn refused(error: &ApiError) -> DeleteAclsFilterResult<'static> {
    let (error_code, error_message) = code_and_message(&Err(error.clone()));
    DeleteAclsFilterResult { error_code, error_message, matching_acls: Vec::new() }
}

fn tell(entry: &Acl) -> DeleteAclsMatchingAcl<'static> {
    DeleteAclsMatchingAcl {
        error_code: ErrorCode::None.code(),
        error_message: None,
        resource_type: entry.resource_type,
        resource_name: Cow::Owned(entry.resource_name.to_string()),
        pattern_type: entry.pattern_type,
        principal: Cow::Owned(entry.principal.to_string()),
        host: Cow::Owned(entry.host.to_string()),
        operation: entry.operation,
        permission_type: entry.permission_type,
    }
}
