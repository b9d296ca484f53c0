//! AlterConfigs (33), versions 0-2: the old way, which replaces *all* values of a resource by those given.
//!
//! The tricky idea: what is not named is unset. Clients that only meant to change one key lose the others; that is
//! why IncrementalAlterConfigs came, and why this must do exactly what it says for those who still use it.

use crate::configs::{Edit, decide_for_resource};
use crate::context::{Context, Decision, MAX_RECORDS_PER_BATCH};
use crate::error::{ApiError, code_and_message};
use ottla_metadata::{ConfigMap, ResourceType};
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::alter_configs_request::{AlterConfigsRequest, AlterConfigsResource};
use ottla_protocol::messages::alter_configs_response::{AlterConfigsResourceResponse, AlterConfigsResponse};
use ottla_protocol::messages::metadata_record::MetadataRecord;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Decides about an AlterConfigs whose resources the client may alter.
pub fn alter_configs(
    context: &Context<'_>,
    request: &AlterConfigsRequest<'_>,
) -> Decision<AlterConfigsResponse<'static>> {
    let mut times = BTreeMap::<(i8, &str), usize>::new();
    for resource in &request.resources {
        *times.entry((resource.resource_type, &*resource.resource_name)).or_default() += 1;
    }
    let (mut records, mut responses) = (Vec::new(), Vec::new());
    for resource in &request.resources {
        // A repeated resource is answered once.
        let Some(times) = times.remove(&(resource.resource_type, &*resource.resource_name)) else { continue };
        let result = replace(context, resource, times > 1).and_then(|new| {
            if records.len() + new.len() > MAX_RECORDS_PER_BATCH {
                let message = "Unable to perform excessively large batch operation.";
                return Err(ApiError::new(ErrorCode::PolicyViolation, message));
            }
            records.extend(new);
            Ok(())
        });
        let (error_code, error_message) = code_and_message(&result);
        responses.push(AlterConfigsResourceResponse {
            error_code,
            error_message,
            resource_type: resource.resource_type,
            resource_name: Cow::Owned(resource.resource_name.to_string()),
        });
    }
    if request.validate_only {
        records.clear();
    }
    Decision::atomic(records, AlterConfigsResponse { throttle_time_ms: 0, responses })
}

fn replace(
    context: &Context<'_>,
    resource: &AlterConfigsResource<'_>,
    repeated: bool,
) -> Result<Vec<MetadataRecord<'static>>, ApiError> {
    let kind = ResourceType(resource.resource_type);
    let invalid = |message: &str| Err(ApiError::new(ErrorCode::InvalidRequest, message));
    if !kind.is_known() {
        let message = format!("Unknown resource type {}.", kind.0);
        return Err(ApiError::new(ErrorCode::UnsupportedVersion, message));
    }
    if repeated {
        return invalid("Duplicate resource.");
    }
    let mut wanted = ConfigMap::new();
    let mut without_value = Vec::new();
    for config in &resource.configs {
        match &config.value {
            None => without_value.push(&*config.name),
            Some(value) => {
                if wanted.insert(config.name.to_string(), value.to_string()).is_some() {
                    return invalid(&format!("Error due to duplicate config keys: {}", config.name));
                }
            }
        }
    }
    if !without_value.is_empty() {
        return invalid(&format!("Null value not supported for : {}", without_value.join(",")));
    }
    let current = context.image.config(kind, &resource.resource_name);
    let current_keys = current.iter().flat_map(|values| values.keys());
    let unset: Vec<&String> = current_keys.filter(|key| !wanted.contains_key(*key)).collect();
    let edits = wanted.iter().map(|(key, value)| Edit { key: key.clone(), value: Some(value.clone()) });
    let edits = edits.chain(unset.into_iter().map(|key| Edit { key: key.clone(), value: None }));
    decide_for_resource(context, kind, &resource.resource_name, &edits.collect::<Vec<_>>())
}
