//! Feature levels: what a cluster has finalised, what this software supports, what a fresh cluster starts with.
//!
//! The tricky idea: two ranges meet in one table. `levels` is what Kafka 4.4 knows; `supported_max` is how far Ottla
//! has come. Raising a maximum here is all it takes to announce a feature: registration, ApiVersions, the defaults of
//! a fresh cluster and the checks of UpdateFeatures all read this table.

use crate::metadata_version::MetadataVersion;

/// The level that gates record formats.
pub const METADATA_VERSION: &str = "metadata.version";
/// The version of the quorum protocol. Lives in control records of the metadata log, never in a FeatureLevelRecord.
pub const KRAFT_VERSION: &str = "kraft.version";
/// Transactions: 1 = flexible state records, 2 = epoch bump per transaction (KIP-890).
pub const TRANSACTION_VERSION: &str = "transaction.version";
/// Groups: 1 = the consumer protocol of KIP-848.
pub const GROUP_VERSION: &str = "group.version";
/// Eligible leader replicas (KIP-966).
pub const ELIGIBLE_LEADER_REPLICAS_VERSION: &str = "eligible.leader.replicas.version";
/// Share groups (KIP-932; 2 = dead letter queues, KIP-1191).
pub const SHARE_VERSION: &str = "share.version";
/// Streams groups (KIP-1071).
pub const STREAMS_VERSION: &str = "streams.version";

/// One level of a feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level {
    /// The level's number.
    pub level: i16,
    /// The metadata.version from which on a fresh cluster starts with this level.
    pub bootstrap: MetadataVersion,
    /// The metadata.version without which the level can not be set at all.
    pub needs: MetadataVersion,
}

/// A feature and how far this software supports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Feature {
    /// The feature's name.
    pub name: &'static str,
    /// The lowest level that this software runs with.
    pub supported_min: i16,
    /// The highest level that this software runs with; 0 means "not at all", and then it is not announced.
    pub supported_max: i16,
    /// The levels of Kafka 4.4, ascending. Empty for metadata.version, whose levels are [`MetadataVersion`]s.
    pub levels: &'static [Level],
}

const fn level(level: i16, bootstrap: MetadataVersion, needs: MetadataVersion) -> Level {
    Level { level, bootstrap, needs }
}

const MIN: MetadataVersion = MetadataVersion::MINIMUM;

/// Every feature of Kafka 4.4. **The second number of a row is Ottla's maximum**: raise it when the feature works.
pub const FEATURES: [Feature; 7] = [
    feature(
        ELIGIBLE_LEADER_REPLICAS_VERSION,
        1,
        &[level(0, MIN, MIN), level(1, MetadataVersion::V4_1_IV0, MetadataVersion::V4_0_IV1)],
    ),
    feature(GROUP_VERSION, 1, &[level(0, MIN, MIN), level(1, MetadataVersion::V4_0_IV0, MIN)]),
    feature(KRAFT_VERSION, 1, &[level(0, MIN, MIN), level(1, MetadataVersion::V3_9_IV0, MIN)]),
    Feature {
        name: METADATA_VERSION,
        supported_min: MetadataVersion::MINIMUM.0,
        supported_max: MetadataVersion::LATEST.0,
        levels: &[],
    },
    feature(
        SHARE_VERSION,
        0,
        &[
            level(0, MIN, MIN),
            level(1, MetadataVersion::V4_2_IV0, MIN),
            level(2, MetadataVersion::V4_4_IV0, MIN),
        ],
    ),
    feature(STREAMS_VERSION, 0, &[level(0, MIN, MIN), level(1, MetadataVersion::V4_2_IV1, MIN)]),
    feature(
        TRANSACTION_VERSION,
        2,
        &[
            level(0, MIN, MIN),
            level(1, MetadataVersion::V4_0_IV2, MIN),
            level(2, MetadataVersion::V4_0_IV2, MIN),
        ],
    ),
];

const fn feature(name: &'static str, supported_max: i16, levels: &'static [Level]) -> Feature {
    Feature { name, supported_min: 0, supported_max, levels }
}

impl Feature {
    /// The level of a fresh cluster at `metadata_version`, as far as this software supports it.
    pub fn default_level(&self, metadata_version: MetadataVersion) -> i16 {
        if self.name == METADATA_VERSION {
            return metadata_version.0;
        }
        let default =
            self.levels.iter().rev().find(|l| l.bootstrap <= metadata_version).map_or(0, |l| l.level);
        default.min(self.supported_max)
    }

    /// Whether this software runs with the feature at `level`.
    pub fn supports(&self, level: i16) -> bool {
        (self.supported_min..=self.supported_max).contains(&level)
    }

    /// Whether the level exists in the release that this software is compatible with, supported or not.
    pub fn is_known(&self, level: i16) -> bool {
        self.supports(level) || self.levels.iter().any(|known| known.level == level)
    }

    /// The metadata.version that `level` can not do without, if the level exists.
    pub fn needs(&self, level: i16) -> Option<MetadataVersion> {
        self.levels.iter().find(|l| l.level == level).map(|l| l.needs)
    }
}

/// The feature called `name`.
pub fn find(name: &str) -> Option<&'static Feature> {
    FEATURES.iter().find(|feature| feature.name == name)
}

/// What a node announces in its registration and in ApiVersions: name, lowest and highest level. Features whose
/// highest level is 0 are left out, as Kafka does.
pub fn supported() -> impl Iterator<Item = (&'static str, i16, i16)> {
    FEATURES.iter().filter(|f| f.supported_max > 0).map(|f| (f.name, f.supported_min, f.supported_max))
}

/// What a node announces in its registration when a cluster (a data directory of Apache Kafka, say) has finalised more than this software
/// serves: the level that is finalised is tolerated. Its records are kept and left alone, and its APIs are not announced, so that clients
/// do not use it.
pub fn tolerated(finalised: impl Fn(&str) -> i16) -> impl Iterator<Item = (&'static str, i16, i16)> {
    let widened =
        FEATURES.iter().map(move |f| (f.name, f.supported_min, f.supported_max.max(finalised(f.name))));
    widened.filter(|(_, _, max)| *max > 0)
}

/// The levels that a fresh cluster finalises in its metadata log: metadata.version first, then the other features
/// whose level is above 0 in the order of their names. kraft.version is not among them: it has its own control record.
pub fn bootstrap_levels(metadata_version: MetadataVersion) -> Vec<(&'static str, i16)> {
    let mut levels = vec![(METADATA_VERSION, metadata_version.0)];
    let others = FEATURES.iter().filter(|f| f.name != METADATA_VERSION && f.name != KRAFT_VERSION);
    levels
        .extend(others.map(|f| (f.name, f.default_level(metadata_version))).filter(|(_, level)| *level > 0));
    levels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_consistent() {
        assert!(FEATURES.is_sorted_by(|a, b| a.name < b.name));
        for feature in &FEATURES {
            assert!(feature.levels.is_sorted_by(|a, b| a.level < b.level), "{}", feature.name);
            for level in feature.levels {
                assert!(level.needs <= level.bootstrap, "{} {}", feature.name, level.level);
            }
            assert!(feature.supports(feature.default_level(MetadataVersion::LATEST)), "{}", feature.name);
            if let Some(highest) = feature.levels.last() {
                assert!(feature.supported_max <= highest.level, "{}", feature.name);
            }
        }
    }

    #[test]
    fn a_fresh_cluster_finalises_what_is_supported() {
        let levels = bootstrap_levels(MetadataVersion::LATEST);
        assert_eq!(levels[0], (METADATA_VERSION, 33));
        assert!(levels.contains(&(ELIGIBLE_LEADER_REPLICAS_VERSION, 1)));
        assert!(!levels.iter().any(|(name, _)| *name == KRAFT_VERSION));
        for (name, level) in &levels {
            let feature = find(name).expect("known");
            assert!(feature.supports(*level) && *level > 0);
        }
        // Before 4.1-IV0 a fresh cluster had no eligible leader replicas.
        let eligible = |(name, _): &(&str, i16)| *name == ELIGIBLE_LEADER_REPLICAS_VERSION;
        assert!(!bootstrap_levels(MetadataVersion(25)).iter().any(eligible));
    }

    #[test]
    fn features_without_levels_are_not_announced() {
        let announced: Vec<_> = supported().collect();
        assert!(announced.contains(&(METADATA_VERSION, 7, 33)));
        assert!(announced.contains(&(KRAFT_VERSION, 0, 1)));
        assert!(announced.iter().all(|(_, _, max)| *max > 0));
    }
}
