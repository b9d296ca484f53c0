//! IncrementalAlterConfigs 0-1: single keys are set, deleted, appended to or subtracted from (KIP-339).
//!
//! Levels of loggers (KIP-412) are no metadata: the node that they belong to changes them by itself, all of a resource or none. What names
//! something of this node is looked at here, before the controller decides: it does not know what this node has.

use std::borrow::Cow;
use std::collections::BTreeMap;

use ottla_controller::ApiError;
use ottla_metadata::ResourceType;
use ottla_metadata::config::OF_ONE_NODE;
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use ottla_protocol::messages::incremental_alter_configs_response::{
    AlterConfigsResourceResponse, IncrementalAlterConfigsResponse,
};

use crate::Broker;
use crate::call::Call;
use crate::loggers::{LogLevel, ROOT};

const SET: i8 = 0;
const DELETE: i8 = 1;

/// Decided by the controller; answered when the records are committed.
pub(crate) fn handle(broker: &Broker, call: &mut Call<'_>, mut request: IncrementalAlterConfigsRequest<'_>) {
    let is_logger =
        |resource: &mut AlterConfigsResource<'_>| resource.resource_type == ResourceType::BROKER_LOGGER.0;
    let loggers: Vec<_> = request.resources.extract_if(.., is_logger).collect();
    let mut told = alter_all(broker, &loggers, request.validate_only);
    request.resources.retain(|resource| match check_own(broker, resource) {
        Ok(()) => true,
        Err(error) => {
            told.push(tell(resource, Err(error)));
            false
        }
    });
    if request.resources.is_empty() && !told.is_empty() {
        return call.respond(&IncrementalAlterConfigsResponse { throttle_time_ms: 0, responses: told });
    }
    broker.decide(call, |controller| {
        let mut decision = controller.incremental_alter_configs(&request);
        decision.response.responses.extend(told);
        decision
    });
}

fn alter_all(
    broker: &Broker,
    resources: &[AlterConfigsResource<'_>],
    validate_only: bool,
) -> Vec<AlterConfigsResourceResponse<'static>> {
    let mut told: Vec<AlterConfigsResourceResponse<'static>> = Vec::new();
    for resource in resources {
        let name = &*resource.resource_name;
        if told.iter().any(|earlier| *earlier.resource_name == *name) {
            continue;
        }
        let times = resources.iter().filter(|other| *other.resource_name == *name).count();
        let altered = match times {
            1 => alter(broker, resource, validate_only),
            _ => refuse(ErrorCode::InvalidRequest, "The request names this resource more than once."),
        };
        told.push(tell(resource, altered));
    }
    told
}

fn tell(
    resource: &AlterConfigsResource<'_>,
    altered: Result<(), ApiError>,
) -> AlterConfigsResourceResponse<'static> {
    let (error_code, error_message) = match altered {
        Ok(()) => (ErrorCode::None, None),
        Err(error) => (error.code, error.text()),
    };
    AlterConfigsResourceResponse {
        error_code: error_code.code(),
        error_message,
        resource_type: resource.resource_type,
        resource_name: Cow::Owned(resource.resource_name.clone().into_owned()),
    }
}

/// Whether this node has what is set for it.
fn check_own(broker: &Broker, resource: &AlterConfigsResource<'_>) -> Result<(), ApiError> {
    let kind = ResourceType(resource.resource_type);
    if kind != ResourceType::BROKER || resource.resource_name.parse() != Ok(broker.config().node_id) {
        return Ok(());
    }
    let set = resource.configs.iter().filter(|config| config.config_operation == SET);
    let own = set.filter(|config| OF_ONE_NODE.contains(&&*config.name));
    let own: BTreeMap<_, _> = own
        .filter_map(|config| Some((config.name.to_string(), config.value.as_deref()?.to_owned())))
        .collect();
    let resolved = broker.config().reconfigure(&BTreeMap::new(), &own);
    resolved.map(drop).map_err(|error| ApiError::new(ErrorCode::InvalidRequest, error.to_clients()))
}

fn refuse<T>(code: ErrorCode, message: impl Into<String>) -> Result<T, ApiError> {
    Err(ApiError::new(code, message))
}

fn alter(broker: &Broker, resource: &AlterConfigsResource<'_>, validate_only: bool) -> Result<(), ApiError> {
    let (name, me) = (&*resource.resource_name, broker.config().node_id);
    match name.parse::<i32>() {
        Ok(id) if id == me => {}
        Ok(id) => {
            let message = format!("Unexpected node id. Expected {me}, but received {id}");
            return refuse(ErrorCode::InvalidRequest, message);
        }
        Err(_) => {
            let message = format!("Node id must be an integer, but it is: {name}");
            return refuse(ErrorCode::InvalidRequest, message);
        }
    }
    for (at, config) in resource.configs.iter().enumerate() {
        if resource.configs[..at].iter().any(|earlier| earlier.name == config.name) {
            return refuse(ErrorCode::InvalidRequest, "Error due to duplicate config keys");
        }
    }
    let known = broker.loggers.list();
    let checked = resource.configs.iter().map(|config| {
        let is_known = known.iter().any(|(name, _)| *name == *config.name);
        Ok((&*config.name, check(config, is_known)?))
    });
    let checked = checked.collect::<Result<Vec<_>, ApiError>>()?;
    if !validate_only {
        for (name, level) in checked {
            assert!(broker.loggers.set(name, level), "it was there a moment ago");
        }
    }
    Ok(())
}

/// The level that an operation leads to; `None`: that of the logger above.
fn check(config: &AlterableConfig<'_>, is_known: bool) -> Result<Option<LogLevel>, ApiError> {
    let name = &*config.name;
    if ![SET, DELETE].contains(&config.config_operation) {
        let operation = match config.config_operation {
            2 => "APPEND".to_owned(),
            3 => "SUBTRACT".to_owned(),
            other => format!("Unknown operation type {other}"),
        };
        let message = format!("{operation} operation is not allowed for the BROKER_LOGGER resource");
        return refuse(ErrorCode::InvalidRequest, message);
    }
    if !is_known {
        return refuse(ErrorCode::InvalidConfig, format!("Logger {name} does not exist!"));
    }
    match (config.config_operation, config.value.as_deref()) {
        (DELETE, _) if name == ROOT => {
            refuse(ErrorCode::InvalidRequest, "Removing the log level of the root logger is not allowed")
        }
        (DELETE, _) => Ok(None),
        (_, None) => refuse(ErrorCode::InvalidRequest, format!("Null value not supported for : {name}")),
        (_, Some(text)) => match LogLevel::from_name(text) {
            Some(level) => Ok(Some(level)),
            None => refuse(
                ErrorCode::InvalidConfig,
                format!(
                    "Cannot set the log level of {name} to {text} as it is not a supported log level. Valid log levels are DEBUG, ERROR, FATAL, INFO, TRACE, WARN"
                ),
            ),
        },
    }
}
