//! AlterClientQuotas (49), versions 0-1: limits of users, client ids and addresses are set and removed (KIP-546).
//!
//! The tricky idea: an item is about an *entity*, a set of (type, name) where no name means the default of that type; which keys it may
//! have follows from its types. Only what changes becomes a record.

use crate::context::{Context, Decision, MAX_RECORDS_PER_BATCH};
use crate::error::{ApiError, code_and_message};
use ottla_metadata::{QuotaEntity, Quotas};
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::alter_client_quotas_request::{
    AlterClientQuotasRequest, EntityData as AskedEntity, EntryData as Asked,
};
use ottla_protocol::messages::alter_client_quotas_response::{
    AlterClientQuotasResponse, EntityData, EntryData,
};
use ottla_protocol::messages::client_quota_record::{ClientQuotaRecord, EntityData as RecordEntity};
use ottla_protocol::messages::metadata_record::MetadataRecord;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// The three kinds of entity.
const USER: &str = "user";
const CLIENT_ID: &str = "client-id";
const IP: &str = "ip";

/// Which numbers a key takes.
#[derive(Clone, Copy)]
enum Kind {
    Int,
    Long,
    Double,
}

/// Keys of users and client ids (Kafka's `QuotaConfig`).
const CLIENT_KEYS: &[(&str, Kind)] = &[
    ("producer_byte_rate", Kind::Long),
    ("consumer_byte_rate", Kind::Long),
    ("request_percentage", Kind::Double),
    ("controller_mutation_rate", Kind::Double),
];
/// Keys of addresses.
const IP_KEYS: &[(&str, Kind)] = &[("connection_creation_rate", Kind::Int)];

/// Decides about quotas that the client may alter.
pub fn alter_client_quotas(
    context: &Context<'_>,
    request: &AlterClientQuotasRequest<'_>,
) -> Decision<AlterClientQuotasResponse<'static>> {
    let mut records = Vec::new();
    let mut outcomes: BTreeMap<QuotaEntity, Result<(), ApiError>> = BTreeMap::new();
    for asked in &request.entries {
        let entity = entity_of(&asked.entity);
        let outcome = match outcomes.get(&entity) {
            Some(_) => invalid("The request names this entity more than once."),
            None => alter(context, asked, &entity).and_then(|new| {
                if records.len() + new.len() > MAX_RECORDS_PER_BATCH {
                    let message = "The request changes too many quotas at once; split it.";
                    return Err(ApiError::new(ErrorCode::PolicyViolation, message));
                }
                records.extend(new);
                Ok(())
            }),
        };
        outcomes.insert(entity, outcome);
    }
    if request.validate_only {
        records.clear();
    }
    let entries = outcomes.into_iter().map(|(entity, outcome)| {
        let (error_code, error_message) = code_and_message(&outcome);
        let entity = entity.pairs().iter().map(|(kind, name)| EntityData {
            entity_type: Cow::Owned(kind.to_string()),
            entity_name: name.as_ref().map(|name| Cow::Owned(name.to_string())),
        });
        EntryData { error_code, error_message, entity: entity.collect() }
    });
    let response = AlterClientQuotasResponse { throttle_time_ms: 0, entries: entries.collect() };
    Decision::atomic(records, response)
}

fn entity_of(pairs: &[AskedEntity<'_>]) -> QuotaEntity {
    let pair = |pair: &AskedEntity<'_>| -> (Arc<str>, Option<Arc<str>>) {
        (Arc::from(&*pair.entity_type), pair.entity_name.as_deref().map(Arc::from))
    };
    QuotaEntity::new(pairs.iter().map(pair).collect())
}

fn invalid<T>(message: impl Into<String>) -> Result<T, ApiError> {
    Err(ApiError::new(ErrorCode::InvalidRequest, message))
}

fn alter(
    context: &Context<'_>,
    asked: &Asked<'_>,
    entity: &QuotaEntity,
) -> Result<Vec<MetadataRecord<'static>>, ApiError> {
    for (at, op) in asked.ops.iter().enumerate() {
        if asked.ops[..at].iter().any(|earlier| earlier.key == op.key) {
            return invalid(format!("The request names the quota {} of this entity more than once.", op.key));
        }
    }
    let keys = keys_of(entity)?;
    let nothing = Quotas::new();
    let current = context.image.quotas().get(entity).map_or(&nothing, |quotas| &**quotas);
    let mut records = Vec::new();
    for op in &asked.ops {
        let before = current.get(&*op.key);
        if op.remove {
            if before.is_some() {
                records.push(record(entity, &op.key, None));
            }
        } else {
            check_value(keys, &op.key, op.value)?;
            if before != Some(&op.value) {
                records.push(record(entity, &op.key, Some(op.value)));
            }
        }
    }
    Ok(records)
}

/// The keys that an entity may have, if there can be such an entity.
fn keys_of(entity: &QuotaEntity) -> Result<&'static [(&'static str, Kind)], ApiError> {
    let pairs = entity.pairs();
    if pairs.is_empty() {
        return invalid("Invalid empty client quota entity");
    }
    for (at, (kind, name)) in pairs.iter().enumerate() {
        if ![USER, CLIENT_ID, IP].contains(&&**kind) {
            return invalid(format!("Unhandled client quota entity type: {kind}"));
        }
        if pairs[..at].iter().any(|(earlier, _)| earlier == kind) {
            return invalid(format!("The entity has two names of type {kind}."));
        }
        if name.as_deref() == Some("") {
            return invalid(format!("Empty {kind} not supported"));
        }
    }
    let address = pairs.iter().find(|(kind, _)| &**kind == IP);
    match address {
        None => Ok(CLIENT_KEYS),
        Some(_) if pairs.len() > 1 => invalid("An address can not be combined with a user or a client id."),
        Some((_, Some(name))) if name.parse::<IpAddr>().is_err() => {
            invalid(format!("{name} is not a valid IP or resolvable host."))
        }
        Some(_) => Ok(IP_KEYS),
    }
}

fn check_value(keys: &[(&str, Kind)], key: &str, value: f64) -> Result<(), ApiError> {
    let Some((_, kind)) = keys.iter().find(|(known, _)| *known == key) else {
        return invalid(format!("Invalid configuration key {key}"));
    };
    if value.is_nan() || value <= 0.0 {
        return invalid(format!("Quota {key} must be greater than 0"));
    }
    let (max, name) = match kind {
        Kind::Double => return Ok(()),
        Kind::Int => (f64::from(i32::MAX), "an INT"),
        Kind::Long => (i64::MAX as f64, "a LONG"),
    };
    if value > max {
        return invalid(format!("Proposed value for {key} is too large for {name}."));
    }
    // Kafka's tolerance for whole numbers that went through a double.
    if (value % 1.0).abs() > 1e-6 {
        return invalid(format!("{key} cannot be a fractional value."));
    }
    Ok(())
}

fn record(entity: &QuotaEntity, key: &str, value: Option<f64>) -> MetadataRecord<'static> {
    let entity = entity.pairs().iter().map(|(kind, name)| RecordEntity {
        entity_type: Cow::Owned(kind.to_string()),
        entity_name: name.as_ref().map(|name| Cow::Owned(name.to_string())),
    });
    MetadataRecord::ClientQuotaRecord(ClientQuotaRecord {
        entity: entity.collect(),
        key: Cow::Owned(key.to_owned()),
        value: value.unwrap_or_default(),
        remove: value.is_none(),
    })
}
