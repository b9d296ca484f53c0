//! IncrementalAlterConfigs (44), versions 0-1: SET, DELETE, APPEND and SUBTRACT on single keys.
//!
//! The tricky idea: APPEND and SUBTRACT start from the value in force, which for a key that is not set is what the
//! resource inherits; appending to `cleanup.policy` of a fresh topic extends `delete`, it does not replace it.

use crate::configs::{Edit, decide_for_resource};
use crate::context::{Context, Decision, MAX_RECORDS_PER_BATCH};
use crate::error::{ApiError, code_and_message};
use ottla_metadata::ResourceType;
use ottla_metadata::config::{list_append, list_subtract};
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use ottla_protocol::messages::incremental_alter_configs_response::{
    AlterConfigsResourceResponse, IncrementalAlterConfigsResponse,
};
use ottla_protocol::messages::metadata_record::MetadataRecord;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

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
    let mut times = BTreeMap::<(i8, &str), usize>::new();
    for resource in &request.resources {
        *times.entry((resource.resource_type, &*resource.resource_name)).or_default() += 1;
    }
    let (mut records, mut responses) = (Vec::new(), Vec::new());
    for resource in &request.resources {
        // A repeated resource is answered once.
        let Some(times) = times.remove(&(resource.resource_type, &*resource.resource_name)) else { continue };
        let result = alter(context, resource, times > 1).and_then(|new| {
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
    Decision::atomic(records, IncrementalAlterConfigsResponse { throttle_time_ms: 0, responses })
}

fn alter(
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
    let mut keys = BTreeSet::new();
    let repeated: Vec<&str> =
        resource.configs.iter().map(|config| &*config.name).filter(|key| !keys.insert(*key)).collect();
    if !repeated.is_empty() {
        return invalid(&format!("Error due to duplicate config keys: {}", repeated.join(",")));
    }
    let without_value = resource.configs.iter().filter(|c| c.config_operation != DELETE && c.value.is_none());
    let without_value: Vec<&str> = without_value.map(|config| &*config.name).collect();
    if !without_value.is_empty() {
        return invalid(&format!("Null value not supported for : {}", without_value.join(",")));
    }
    let edits = resource.configs.iter().map(|config| edit(context, kind, &resource.resource_name, config));
    let edits = edits.collect::<Result<Vec<Edit>, ApiError>>()?;
    decide_for_resource(context, kind, &resource.resource_name, &edits)
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
                let message = format!("Can't {operation} to key {key} because its type is not LIST.");
                return Err(ApiError::new(ErrorCode::InvalidConfig, message));
            }
            let current = context.image.config_value(kind, resource, &key).map(str::to_owned);
            let current =
                current.or_else(|| context.rules.inherited(context.image, kind, &key)).unwrap_or_default();
            Some(if append { list_append(&current, operand) } else { list_subtract(&current, operand) })
        }
        other => {
            let message = format!("Unknown operation {other} for config {key}.");
            return Err(ApiError::new(ErrorCode::InvalidRequest, message));
        }
    };
    Ok(Edit { key, value })
}
