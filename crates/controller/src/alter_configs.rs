//! AlterConfigs (33), versions 0-2: the old way, which replaces *all* values of a resource by those given.
//!
//! The tricky idea: what is not named is unset. Clients that only meant to change one key lose the others; that is
//! why IncrementalAlterConfigs came, and why this must do exactly what it says for those who still use it.

use crate::configs::{Edit, decide_for_each};
use crate::context::{Context, Decision};
use crate::error::ApiError;
use ottla_metadata::{ConfigMap, ResourceType};
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::alter_configs_request::{AlterConfigsRequest, AlterConfigsResource};
use ottla_protocol::messages::alter_configs_response::{AlterConfigsResourceResponse, AlterConfigsResponse};

/// Decides about an AlterConfigs whose resources the client may alter.
pub fn alter_configs(
    context: &Context<'_>,
    request: &AlterConfigsRequest<'_>,
) -> Decision<AlterConfigsResponse<'static>> {
    let (mut records, answered) = decide_for_each(
        context,
        &request.resources,
        |resource| (resource.resource_type, &resource.resource_name),
        |resource| edits(context, resource),
    );
    if request.validate_only {
        records.clear();
    }
    let responses = answered.into_iter().map(|it| AlterConfigsResourceResponse {
        error_code: it.error_code,
        error_message: it.error_message,
        resource_type: it.resource_type,
        resource_name: it.resource_name.into(),
    });
    Decision::atomic(records, AlterConfigsResponse { throttle_time_ms: 0, responses: responses.collect() })
}

/// What is given is set, everything else unset.
fn edits(context: &Context<'_>, resource: &AlterConfigsResource<'_>) -> Result<Vec<Edit>, ApiError> {
    let invalid = |message: &str| Err(ApiError::new(ErrorCode::InvalidRequest, message));
    let mut wanted = ConfigMap::new();
    let mut without_value = Vec::new();
    for config in &resource.configs {
        match &config.value {
            None => without_value.push(&*config.name),
            Some(value) => {
                if wanted.insert(config.name.to_string(), value.to_string()).is_some() {
                    return invalid(&format!("The key {} is given more than once.", config.name));
                }
            }
        }
    }
    if !without_value.is_empty() {
        return invalid(&format!(
            "A value is missing for: {}. To unset a key, leave it out.",
            without_value.join(",")
        ));
    }
    let current = context.image.config(ResourceType(resource.resource_type), &resource.resource_name);
    let current_keys = current.iter().flat_map(|values| values.keys());
    let unset: Vec<&String> = current_keys.filter(|key| !wanted.contains_key(*key)).collect();
    let set = wanted.iter().map(|(key, value)| Edit { key: key.clone(), value: Some(value.clone()) });
    Ok(set.chain(unset.into_iter().map(|key| Edit { key: key.clone(), value: None })).collect())
}
