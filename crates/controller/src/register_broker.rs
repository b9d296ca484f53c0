//! BrokerRegistration (62), versions 0-4: a broker process introduces itself and gets its epoch.
//!
//! The tricky idea: the broker epoch is the offset of the registration, so it grows without a counter of its own. A
//! new incarnation starts fenced; its earlier life ends in the same step, cleanly if the broker can name the epoch
//! that it had then (KIP-966: only a process that stopped in good order has written it down).

use crate::broker_lifecycle::earlier_life_ended;
use crate::context::{Context, Decision};
use crate::error::ApiError;
use crate::guard::Guard;
use ottla_metadata::{Broker, directory, features};
use ottla_protocol::ErrorCode;
use ottla_protocol::Uuid;
use ottla_protocol::ids::NodeId;
use ottla_protocol::messages::broker_registration_request::{BrokerRegistrationRequest, Feature};
use ottla_protocol::messages::broker_registration_response::BrokerRegistrationResponse;
use ottla_protocol::messages::metadata_record::MetadataRecord;
use ottla_protocol::messages::register_broker_record::{BrokerEndpoint, BrokerFeature, RegisterBrokerRecord};
use std::borrow::Cow;
use std::collections::BTreeSet;

/// What the caller knows beyond the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Registration {
    /// The version of the request; from 3 on it tells whether the earlier life ended cleanly.
    pub version: i16,
    /// The offset that the next record of the metadata log will get.
    pub next_offset: i64,
    /// Whether the present incarnation of that broker still sends heartbeats.
    pub has_live_session: bool,
    /// The quorum's kraft.version.
    pub kraft_version: i16,
}

/// Decides about a registration. The response carries the broker epoch.
pub fn register_broker(
    context: &Context<'_>,
    request: &BrokerRegistrationRequest<'_>,
    registration: Registration,
) -> Result<Decision<BrokerRegistrationResponse>, ApiError> {
    let id = NodeId(request.broker_id);
    let existing = context.image.broker(id);
    check_cluster(context, request)?;
    let same_incarnation = existing.is_some_and(|broker| broker.incarnation_id == request.incarnation_id);
    // One that said that it stops may come back at once; in Kafka, too (ClusterControlManager).
    let is_held = existing.is_some_and(|broker| !broker.in_controlled_shutdown);
    if is_held && !same_incarnation && registration.has_live_session {
        let message = format!(
            "Another process is alive as broker {id}. If it is the earlier life of this one, its session will expire \
             soon."
        );
        return Err(ApiError::new(ErrorCode::DuplicateBrokerRegistration, message));
    }
    if request.is_migrating_zk_broker {
        let message = "Brokers that use ZooKeeper can not register.";
        return Err(ApiError::new(ErrorCode::BrokerIdNotRegistered, message));
    }
    let assigns_directories = context.metadata_version().supports_directory_assignment();
    if assigns_directories {
        check_directories(context, id, &request.log_dirs)?;
    }
    check_features(context, request, registration.kraft_version)?;

    let mut record = record(request, if assigns_directories { request.log_dirs.clone() } else { Vec::new() });
    let mut records = Vec::new();
    match existing.filter(|_| same_incarnation) {
        Some(broker) => amend(&mut record, broker),
        None => {
            let epoch_before = existing.map(|broker| broker.broker_epoch);
            let clean = registration.version >= 3
                && Guard::CleanKnowsItsEpoch.holds(epoch_before == Some(request.previous_broker_epoch));
            records = earlier_life_ended(context, id, clean);
            record.broker_epoch = registration.next_offset;
        }
    }
    let broker_epoch = record.broker_epoch;
    // Last, so that a broker whose cleaning up was cut short registers again.
    records.push(MetadataRecord::RegisterBrokerRecord(record));
    let response =
        BrokerRegistrationResponse { throttle_time_ms: 0, error_code: ErrorCode::None.code(), broker_epoch };
    Ok(Decision::splittable(records, response))
}

fn check_cluster(context: &Context<'_>, request: &BrokerRegistrationRequest<'_>) -> Result<(), ApiError> {
    let expected = context.image.cluster_id();
    if request.cluster_id != **expected {
        let message =
            format!("This is cluster {expected}; the broker belongs to cluster {}.", request.cluster_id);
        return Err(ApiError::new(ErrorCode::InconsistentClusterId, message));
    }
    Ok(())
}

fn check_directories(context: &Context<'_>, id: NodeId, dirs: &[Uuid]) -> Result<(), ApiError> {
    let invalid = |message: String| Err(ApiError::new(ErrorCode::InvalidRegistration, message));
    if dirs.is_empty() {
        return invalid("The broker names no log directory.".to_owned());
    }
    if dirs.iter().any(|dir| directory::is_reserved(*dir)) {
        return invalid("The broker names a log directory whose id is reserved.".to_owned());
    }
    if dirs.iter().collect::<BTreeSet<_>>().len() != dirs.len() {
        return invalid("The broker names two log directories with the same id.".to_owned());
    }
    for broker in context.image.brokers().values().filter(|broker| broker.id != id) {
        if let Some(taken) = dirs.iter().find(|dir| broker.log_dirs.contains(dir)) {
            return invalid(format!("Log directory {taken} belongs to broker {}.", broker.id));
        }
    }
    Ok(())
}

/// Every finalised feature must be within what the broker supports; one that it does not name is at 0 for it.
fn check_features(
    context: &Context<'_>,
    request: &BrokerRegistrationRequest<'_>,
    kraft_version: i16,
) -> Result<(), ApiError> {
    let named = |name: &str| request.features.iter().find(|feature| feature.name == name);
    if named(features::METADATA_VERSION).is_none() {
        let message =
            format!("The broker does not say which levels of {} it supports.", features::METADATA_VERSION);
        return Err(ApiError::new(ErrorCode::InvalidRegistration, message));
    }
    let finalized = context.image.features().iter().map(|(name, level)| (&**name, *level));
    let finalized = finalized.chain([(features::KRAFT_VERSION, kraft_version)]);
    let known: Vec<(&str, i16)> = finalized.collect();
    for (name, level) in &known {
        let (min, max) = named(name).map_or((0, 0), range);
        check_range(name, *level, min, max)?;
    }
    for feature in &request.features {
        if !known.iter().any(|(name, _)| *name == feature.name) {
            let (min, max) = range(feature);
            check_range(&feature.name, 0, min, max)?;
        }
    }
    Ok(())
}

fn range(feature: &Feature<'_>) -> (i16, i16) {
    (feature.min_supported_version, feature.max_supported_version)
}

fn check_range(name: &str, level: i16, min: i16, max: i16) -> Result<(), ApiError> {
    if (min..=max).contains(&level) {
        return Ok(());
    }
    let message = format!(
        "The cluster has finalized {name} at level {level}; the broker supports levels {min} to {max}."
    );
    Err(ApiError::new(ErrorCode::UnsupportedVersion, message))
}

fn record(request: &BrokerRegistrationRequest<'_>, log_dirs: Vec<Uuid>) -> RegisterBrokerRecord<'static> {
    let endpoints = request.listeners.iter().map(|listener| BrokerEndpoint {
        name: Cow::Owned(listener.name.to_string()),
        host: Cow::Owned(listener.host.to_string()),
        port: listener.port,
        security_protocol: listener.security_protocol,
    });
    let features = request.features.iter().map(|feature| BrokerFeature {
        name: Cow::Owned(feature.name.to_string()),
        min_supported_version: feature.min_supported_version,
        max_supported_version: feature.max_supported_version,
    });
    RegisterBrokerRecord {
        broker_id: request.broker_id,
        is_migrating_zk_broker: false,
        incarnation_id: request.incarnation_id,
        broker_epoch: -1,
        end_points: endpoints.collect(),
        features: features.collect(),
        rack: request.rack.as_ref().map(|rack| Cow::Owned(rack.to_string())),
        fenced: Guard::NextLifeIsFenced.stands(),
        in_controlled_shutdown: false,
        log_dirs,
        cordoned_log_dirs: None,
    }
}

/// The same process registers again: its listeners or features may be new, its standing is not.
fn amend(record: &mut RegisterBrokerRecord<'_>, broker: &Broker) {
    record.fenced = broker.fenced;
    record.in_controlled_shutdown = broker.in_controlled_shutdown;
    record.broker_epoch = broker.broker_epoch;
}
