//! IncrementalAlterConfigs (44), versions 0-1: SET, DELETE, APPEND and SUBTRACT on single keys.
//!
//! The tricky idea: APPEND and SUBTRACT start from the value in force, which for a key that is not set is what the
//! resource inherits; appending to `cleanup.policy` of a fresh topic extends `delete`, it does not replace it.

use crate::configs::{Edit, decide_for_each};
use crate::context::{Context, Decision};
use crate::error::ApiError;
use ottla_metadata::ResourceType;
use ottla_metadata::config::{list_append, list_subtract};
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use ottla_protocol::messages::incremental_alter_configs_response::{
    AlterConfigsResourceResponse, IncrementalAlterConfigsResponse,
};
use std::collections::BTreeSet;

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

/// Decides about an IncrementalAlterConfigs whose resources the client may alter. Log levels (BROKER_LOGGER) are no
/// metadata: the broker answers them itself.
pub fn incremental_alter_configs(
    context: &Context<'_>,
    request: &IncrementalAlterConfigsRequest<'_>,
) -> Decision<IncrementalAlterConfigsResponse<'static>> {
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
    let responses = responses.collect();
    Decision::atomic(records, IncrementalAlterConfigsResponse { throttle_time_ms: 0, responses })
}

/// What the operations lead to, each key at most once.
fn edits(context: &Context<'_>, resource: &AlterConfigsResource<'_>) -> Result<Vec<Edit>, ApiError> {
    let invalid = |message: &str| Err(ApiError::new(ErrorCode::InvalidRequest, message));
    let mut keys = BTreeSet::new();
    let repeated: Vec<&str> =
        resource.configs.iter().map(|config| &*config.name).filter(|key| !keys.insert(*key)).collect();
    if !repeated.is_empty() {
        return invalid(&format!("These keys are given more than once: {}.", repeated.join(",")));
    }
    let without_value = resource.configs.iter().filter(|c| c.config_operation != DELETE && c.value.is_none());
    let without_value: Vec<&str> = without_value.map(|config| &*config.name).collect();
    if !without_value.is_empty() {
        return invalid(&format!(
            "A value is missing for: {}. To unset a key, use DELETE.",
            without_value.join(",")
        ));
    }
    let kind = ResourceType(resource.resource_type);
    resource.configs.iter().map(|config| edit(context, kind, &resource.resource_name, config)).collect()
}

/// The value that an operation leads to.
fn edit(
    context: &Context<'_>,
    kind: ResourceType,
    resource: &str,
    config: &AlterableConfig<'_>,
) -> Result<Edit, ApiError> {
    let key = config.name.to_string();
    let operand = config.value.as_deref().unwrap_or_default();
    let value = match config.config_operation {
        SET => Some(operand.to_owned()),
        DELETE => None,
        APPEND | SUBTRACT => {
            let append = config.config_operation == APPEND;
            if !context.rules.is_list(kind, &key) {
                let operation = if append { "APPEND" } else { "SUBTRACT" };
                let message = format!("{operation} needs a key that holds a list, and {key} does not.");
                return Err(ApiError::new(ErrorCode::InvalidConfig, message));
            }
            let current = context.image.config_value(kind, resource, &key).map(str::to_owned);
            let current =
                current.or_else(|| context.rules.inherited(context.image, kind, &key)).unwrap_or_default();
            Some(if append { list_append(&current, operand) } else { list_subtract(&current, operand) })
        }
        other => {
            let message = format!("Operation {other} on {key} is unknown.");
            return Err(ApiError::new(ErrorCode::InvalidRequest, message));
        }
    };
    Ok(Edit { key, value })
}
