//! The first records of a metadata log, and what a new leader of the quorum writes before anything else.
//!
//! The tricky idea: `format` leaves the chosen levels in the checkpoint `0-0`; the first leader copies them into the
//! log within a metadata transaction, so that nobody sees a cluster at metadata.version 33 that has no other feature
//! yet. A leader that finds a transaction open (its author is gone) aborts it, and writes the first records again if
//! they were in it.

use crate::context::{Context, Decision, Settings};
use ottla_metadata::{MetadataVersion, Replayer, ResourceType, features};
use ottla_protocol::messages::abort_transaction_record::AbortTransactionRecord;
use ottla_protocol::messages::begin_transaction_record::BeginTransactionRecord;
use ottla_protocol::messages::config_record::ConfigRecord;
use ottla_protocol::messages::end_transaction_record::EndTransactionRecord;
use ottla_protocol::messages::feature_level_record::FeatureLevelRecord;
use ottla_protocol::messages::metadata_record::MetadataRecord;
use ottla_protocol::messages::user_scram_credential_record::UserScramCredentialRecord;
use std::borrow::Cow;

/// The records that `format` writes into the first checkpoint: metadata.version first, then every other feature above
/// 0 by name. `chosen` overrides the defaults of that metadata.version; kraft.version is no record and left out.
pub fn bootstrap_records(
    metadata_version: MetadataVersion,
    chosen: &[(&str, i16)],
) -> Vec<MetadataRecord<'static>> {
    let of = |feature: &features::Feature| {
        let chosen = chosen.iter().find(|(name, _)| *name == feature.name).map(|(_, level)| *level);
        (feature.name, chosen.unwrap_or_else(|| feature.default_level(metadata_version)))
    };
    let others = features::FEATURES.iter().filter(|feature| {
        feature.name != features::METADATA_VERSION && feature.name != features::KRAFT_VERSION
    });
    let others = others.map(of).filter(|(_, level)| *level > 0);
    let levels = std::iter::once((features::METADATA_VERSION, metadata_version.0)).chain(others);
    levels.map(|(name, level)| feature_level(name, level)).collect()
}

/// A copy of a record that `format` may have written: a feature level, or a SCRAM credential. `None` for any other.
pub fn first_record(record: &MetadataRecord<'_>) -> Option<MetadataRecord<'static>> {
    let text = |text: &str| Cow::Owned(text.to_owned());
    let bytes = |bytes: &[u8]| Cow::Owned(bytes.to_vec());
    Some(match record {
        MetadataRecord::FeatureLevelRecord(record) => {
            MetadataRecord::FeatureLevelRecord(FeatureLevelRecord {
                name: text(&record.name),
                feature_level: record.feature_level,
            })
        }
        MetadataRecord::UserScramCredentialRecord(record) => {
            MetadataRecord::UserScramCredentialRecord(UserScramCredentialRecord {
                name: text(&record.name),
                mechanism: record.mechanism,
                salt: bytes(&record.salt),
                stored_key: bytes(&record.stored_key),
                server_key: bytes(&record.server_key),
                iterations: record.iterations,
            })
        }
        _ => return None,
    })
}

fn feature_level(name: &'static str, level: i16) -> MetadataRecord<'static> {
    let record = FeatureLevelRecord { name: Cow::Borrowed(name), feature_level: level };
    MetadataRecord::FeatureLevelRecord(record)
}

/// What a node writes when it becomes the leader of the quorum. `bootstrap`: the records of the first checkpoint, or
/// [`bootstrap_records`] when there is none. Nothing to write means nothing to wait for.
pub fn activation(
    replayed: &Replayer,
    settings: &Settings,
    bootstrap: &[MetadataRecord<'static>],
) -> Decision<()> {
    let mut records = Vec::new();
    if replayed.transaction_begin().is_some() {
        let reason = Some(Cow::Borrowed("Controller failover"));
        records.push(MetadataRecord::AbortTransactionRecord(AbortTransactionRecord { reason }));
    }
    // What an aborted transaction said does not count.
    if replayed.image().metadata_version().is_some() {
        return Decision::atomic(records, ());
    }
    let level_of = |wanted: &str| {
        bootstrap.iter().rev().find_map(|record| match record {
            MetadataRecord::FeatureLevelRecord(record) if record.name == wanted => Some(record.feature_level),
            _ => None,
        })
    };
    let metadata_version =
        MetadataVersion(level_of(features::METADATA_VERSION).unwrap_or(MetadataVersion::MINIMUM.0));
    let in_transaction = metadata_version.supports_metadata_transactions();
    if in_transaction {
        let name = Some(Cow::Borrowed("Bootstrap records"));
        records.push(MetadataRecord::BeginTransactionRecord(BeginTransactionRecord { name }));
    }
    records.extend_from_slice(bootstrap);
    if level_of(features::ELIGIBLE_LEADER_REPLICAS_VERSION).unwrap_or(0) > 0 {
        records.push(MetadataRecord::ConfigRecord(ConfigRecord {
            resource_type: ResourceType::BROKER.0,
            resource_name: Cow::Borrowed(""),
            name: Cow::Borrowed("min.insync.replicas"),
            value: Some(Cow::Owned(settings.min_insync_replicas.to_string())),
        }));
    }
    if in_transaction {
        records.push(MetadataRecord::EndTransactionRecord(EndTransactionRecord {}));
        return Decision::splittable(records, ());
    }
    Decision::atomic(records, ())
}

impl Context<'_> {
    /// Whether the log has its first records, so that decisions can be made.
    pub fn is_bootstrapped(&self) -> bool {
        self.image.metadata_version().is_some()
    }
}
