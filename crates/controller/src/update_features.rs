//! UpdateFeatures (57), versions 0-2: raises or lowers finalised levels; all of them or none.
//!
//! The tricky idea: a level is only as high as the weakest node. Every registered broker and controller must run with
//! it; and a lower metadata.version is refused when a level in between changed what is in the log.

use crate::context::{Context, Decision};
use crate::error::ApiError;
use ottla_metadata::broker::FeatureRange;
use ottla_metadata::{MetadataVersion, ResourceType, features};
use ottla_protocol::ErrorCode;
use ottla_protocol::ids::NodeId;
use ottla_protocol::messages::config_record::ConfigRecord;
use ottla_protocol::messages::feature_level_record::FeatureLevelRecord;
use ottla_protocol::messages::metadata_record::MetadataRecord;
use ottla_protocol::messages::no_op_record::NoOpRecord;
use ottla_protocol::messages::update_features_request::{FeatureUpdateKey, UpdateFeaturesRequest};
use ottla_protocol::messages::update_features_response::{UpdatableFeatureResult, UpdateFeaturesResponse};
use std::borrow::Cow;
use std::collections::BTreeSet;

const UPGRADE: i8 = 1;
const SAFE_DOWNGRADE: i8 = 2;
const UNSAFE_DOWNGRADE: i8 = 3;

/// What no record tells of the quorum itself, whose level is a feature like others to whoever asks.
#[derive(Clone, Copy)]
pub struct Quorum<'q> {
    /// The level of kraft.version.
    pub kraft_version: i16,
    /// Node ids of the voters.
    pub voters: &'q [i32],
    /// Whether the quorum can be raised to a higher level now: all its voters have said that they support it.
    pub may_upgrade: &'q dyn Fn(i16) -> bool,
}

/// The answer, and what the records do not say.
#[derive(Debug, PartialEq)]
pub struct UpdatedFeatures {
    /// What to answer when the records are committed.
    pub response: UpdateFeaturesResponse<'static>,
    /// The level that the quorum is to be raised to, before the records are appended.
    pub kraft_version: Option<i16>,
}

/// Decides about an UpdateFeatures of `version`.
pub fn update_features(
    context: &Context<'_>,
    request: &UpdateFeaturesRequest<'_>,
    version: i16,
    quorum: Quorum<'_>,
) -> Decision<UpdatedFeatures> {
    let updated = update_all(context, request, version, quorum);
    match updated {
        Err(error) => {
            // The words of Kafka (`QuorumController`, `FeatureControlManager`) here and below: kafka-features prints them.
            let message = "The update failed for all features since the following feature had an error: ";
            let response = UpdateFeaturesResponse {
                error_code: error.code.code(),
                error_message: Some(Cow::Owned(format!("{message}{}", error.message))),
                ..Default::default()
            };
            Decision::atomic(Vec::new(), UpdatedFeatures { response, kraft_version: None })
        }
        Ok(records) => {
            // From v2 on there is only the answer for all.
            let updates = if version <= 1 { request.feature_updates.as_slice() } else { &[] };
            let results = updates.iter().map(|update| UpdatableFeatureResult {
                feature: Cow::Owned(update.feature.to_string()),
                error_code: ErrorCode::None.code(),
                error_message: None,
            });
            let response = UpdateFeaturesResponse {
                error_message: None,
                results: results.collect(),
                ..Default::default()
            };
            if request.validate_only {
                return Decision::atomic(Vec::new(), UpdatedFeatures { response, kraft_version: None });
            }
            let of_quorum = |update: &&FeatureUpdateKey<'_>| update.feature == features::KRAFT_VERSION;
            let kraft_version = request.feature_updates.iter().find(of_quorum);
            let kraft_version = kraft_version.map(|update| update.max_version_level);
            let kraft_version = kraft_version.filter(|level| *level > quorum.kraft_version);
            Decision::atomic(records, UpdatedFeatures { response, kraft_version })
        }
    }
}

fn update_all(
    context: &Context<'_>,
    request: &UpdateFeaturesRequest<'_>,
    version: i16,
    quorum: Quorum<'_>,
) -> Result<Vec<MetadataRecord<'static>>, ApiError> {
    let mut names = BTreeSet::new();
    for update in &request.feature_updates {
        if !names.insert(&*update.feature) {
            return Err(refuse(&update.feature, update.max_version_level, "The feature is named twice."));
        }
    }
    let proposed = request.feature_updates.iter().find(|update| update.feature == features::METADATA_VERSION);
    let metadata_version =
        proposed.map_or(context.metadata_version(), |update| MetadataVersion(update.max_version_level));
    let mut records = Vec::new();
    // All others depend on metadata.version: its mistakes are told first.
    let others = request.feature_updates.iter().filter(|update| update.feature != features::METADATA_VERSION);
    for update in proposed.into_iter().chain(others) {
        if update.feature == features::ELIGIBLE_LEADER_REPLICAS_VERSION && update.max_version_level > 0 {
            records.extend(before_elr(context));
        }
        let upgrade_type = match (version, update.allow_downgrade) {
            (0, true) => SAFE_DOWNGRADE,
            (0, false) => UPGRADE,
            _ => update.upgrade_type,
        };
        records.extend(update_one(context, update, upgrade_type, metadata_version, quorum)?);
    }
    Ok(records)
}

fn refuse(feature: &str, level: i16, reason: &str) -> ApiError {
    let message = format!("Invalid update version {level} for feature {feature}. {reason}");
    ApiError::new(ErrorCode::InvalidUpdateVersion, message)
}

fn update_one(
    context: &Context<'_>,
    update: &FeatureUpdateKey<'_>,
    upgrade_type: i8,
    metadata_version: MetadataVersion,
    quorum: Quorum<'_>,
) -> Result<Option<MetadataRecord<'static>>, ApiError> {
    let (name, level) = (&*update.feature, update.max_version_level);
    let refuse = |reason: &str| Err(refuse(name, level, reason));
    if !matches!(upgrade_type, UPGRADE | SAFE_DOWNGRADE | UNSAFE_DOWNGRADE) {
        return refuse("The controller does not support the given upgrade type.");
    }
    if level < 0 {
        return refuse("A feature version cannot be less than 0.");
    }
    if let Some(reason) = not_supported_by(context, name, level, quorum.voters) {
        return refuse(&reason);
    }
    let of_quorum = name == features::KRAFT_VERSION;
    let current = if of_quorum { quorum.kraft_version } else { context.image.feature_level(name) };
    if level < current && upgrade_type == UPGRADE {
        return refuse(
            "Can't downgrade the version of this feature without setting the upgrade type to either safe or unsafe \
             downgrade.",
        );
    }
    if level > current && upgrade_type != UPGRADE {
        return refuse("Can't downgrade to a newer version.");
    }
    if of_quorum {
        return match (upgrade_type, level == current) {
            // Something to be committed after the quorum's own record: then the answer is due.
            (UPGRADE, true) => Ok(Some(MetadataRecord::NoOpRecord(NoOpRecord {}))),
            (UPGRADE, false) if (quorum.may_upgrade)(level) => {
                Ok(Some(MetadataRecord::NoOpRecord(NoOpRecord {})))
            }
            (UPGRADE, false) => {
                let message = format!(
                    "Invalid upgrade of {name} to KRAFT_VERSION_{level} because not all of the voters support it"
                );
                Err(ApiError::new(ErrorCode::InvalidUpdateVersion, message))
            }
            (_, true) => Ok(None),
            (_, false) => refuse("Can't downgrade the version of this feature."),
        };
    }
    if name == features::METADATA_VERSION {
        let (from, to) = (context.metadata_version(), MetadataVersion(level));
        if to < from && MetadataVersion::metadata_changed_between(from, to) {
            let reason = if upgrade_type == UNSAFE_DOWNGRADE {
                "Unsafe metadata downgrade is not supported in this version."
            } else {
                "Refusing to perform the requested downgrade because it might delete metadata information."
            };
            let message =
                format!("Unsupported metadata.version downgrade from {} to {}. {reason}", from.0, to.0);
            return Err(ApiError::new(ErrorCode::InvalidUpdateVersion, message));
        }
    } else if features::find(name).is_none() {
        return refuse(&format!("Feature {name} not found."));
    } else {
        let needs = features::find(name).and_then(|feature| feature.needs(level));
        let needs = needs.unwrap_or(MetadataVersion::MINIMUM);
        if level > 0 && metadata_version < needs {
            return refuse(&format!(
                "{name} could not be set to {level} because it depends on metadata.version level {}",
                needs.0
            ));
        }
    }
    Ok(Some(MetadataRecord::FeatureLevelRecord(FeatureLevelRecord {
        name: Cow::Owned(name.to_owned()),
        feature_level: level,
    })))
}

/// Why not every node can run with the level, if that is so. A voter of which nothing is known may be of an older release.
fn not_supported_by(context: &Context<'_>, name: &str, level: i16, voters: &[i32]) -> Option<String> {
    let reason = |who: &str, min: i16, max: i16| {
        if (min..=max).contains(&level) {
            return None;
        }
        Some(match (min, max) {
            (_, 0) => format!("{who} does not support this feature."),
            _ => format!("{who} only supports versions {min}-{max}"),
        })
    };
    let (min, max) =
        features::find(name).map_or((0, 0), |feature| (feature.supported_min, feature.supported_max));
    let here = format!("Local controller {}", context.settings.node_id);
    let of_brokers = context.image.brokers().values().map(|b| (format!("Broker {}", b.id), &b.features));
    let of_controllers =
        context.image.controllers().values().map(|c| (format!("Controller {}", c.id), &c.features));
    let unsupported = reason(&here, min, max).or_else(|| {
        of_brokers.chain(of_controllers).find_map(|(who, ranges)| {
            let (min, max) = FeatureRange::of(ranges, name);
            reason(&who, min, max)
        })
    });
    unsupported.or_else(|| {
        let me = context.settings.node_id;
        let known = |id: i32| NodeId(id) == me || context.image.controllers().contains_key(&NodeId(id));
        let registers = context.metadata_version().supports_controller_registration();
        let unknown = voters.iter().find(|id| registers && !known(**id))?;
        Some(format!("controller {unknown} has not registered, and may not support this feature"))
    })
}

/// Eligible leader replicas need one `min.insync.replicas` for the whole cluster: single brokers lose theirs, and the
/// cluster gets that of the file unless it has one.
fn before_elr(context: &Context<'_>) -> Vec<MetadataRecord<'static>> {
    const KEY: &str = "min.insync.replicas";
    let record = |broker: &str, value: Option<String>| {
        MetadataRecord::ConfigRecord(ConfigRecord {
            resource_type: ResourceType::BROKER.0,
            resource_name: Cow::Owned(broker.to_owned()),
            name: Cow::Borrowed(KEY),
            value: value.map(Cow::Owned),
        })
    };
    let mut records = Vec::new();
    if context.image.config_value(ResourceType::BROKER, "", KEY).is_none() {
        records.push(record("", Some(context.settings.min_insync_replicas.to_string())));
    }
    for (broker, values) in context.image.configs(ResourceType::BROKER) {
        if !broker.is_empty() && values.contains_key(KEY) {
            records.push(record(broker, None));
        }
    }
    records
}
