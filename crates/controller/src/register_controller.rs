//! ControllerRegistration (70) and UnregisterController (94), version 0: controllers introduce themselves, and are forgotten (KIP-919).
//!
//! The tricky idea: what counts are their features: no feature is finalised that a registered controller does not support.

use crate::context::{Context, Decision};
use crate::error::ApiError;
use ottla_protocol::ErrorCode;
use ottla_protocol::ids::NodeId;
use ottla_protocol::messages::controller_registration_request::ControllerRegistrationRequest;
use ottla_protocol::messages::metadata_record::MetadataRecord;
use ottla_protocol::messages::register_controller_record::{
    ControllerEndpoint, ControllerFeature, RegisterControllerRecord,
};
use ottla_protocol::messages::unregister_controller_record::UnregisterControllerRecord;
use std::borrow::Cow;

/// A controller process introduces itself; a later life replaces the earlier one.
pub fn register_controller(
    context: &Context<'_>,
    request: &ControllerRegistrationRequest<'_>,
) -> Result<Decision<()>, ApiError> {
    if !context.metadata_version().supports_controller_registration() {
        let message = "The cluster's metadata.version does not know registrations of controllers.";
        return Err(ApiError::new(ErrorCode::UnsupportedVersion, message));
    }
    let end_points = request.listeners.iter().map(|listener| ControllerEndpoint {
        name: Cow::Owned(listener.name.to_string()),
        host: Cow::Owned(listener.host.to_string()),
        port: listener.port,
        security_protocol: listener.security_protocol,
    });
    let features = request.features.iter().map(|feature| ControllerFeature {
        name: Cow::Owned(feature.name.to_string()),
        min_supported_version: feature.min_supported_version,
        max_supported_version: feature.max_supported_version,
    });
    let record = RegisterControllerRecord {
        controller_id: request.controller_id,
        incarnation_id: request.incarnation_id,
        zk_migration_ready: false,
        end_points: end_points.collect(),
        features: features.collect(),
    };
    Ok(Decision::atomic(vec![MetadataRecord::RegisterControllerRecord(record)], ()))
}

/// The controller will not come back, and its features count no more.
pub fn unregister_controller(context: &Context<'_>, controller: NodeId) -> Result<Decision<()>, ApiError> {
    if !context.metadata_version().supports_controller_unregistration() {
        let message = "The current MetadataVersion is too old to support controller unregistration.";
        return Err(ApiError::new(ErrorCode::UnsupportedVersion, message));
    }
    if !context.image.controllers().contains_key(&controller) {
        let message = format!("Controller ID {controller} is not currently registered.");
        return Err(ApiError::new(ErrorCode::ControllerIdNotRegistered, message));
    }
    let record = UnregisterControllerRecord { controller_id: controller.0 };
    Ok(Decision::atomic(vec![MetadataRecord::UnregisterControllerRecord(record)], ()))
}
