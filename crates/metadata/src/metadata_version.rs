//! metadata.version: the one number that says which record formats and facilities a cluster may use.
//!
//! The tricky idea: most levels change nothing on disk. A downgrade is safe exactly when no level that is given up
//! changed the metadata; `metadata_changed_between` answers that from a table.

/// A level of metadata.version. Ordered like its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MetadataVersion(pub i16);

/// Release, internal version and whether the level changed what is in the metadata log; index 0 is level 7.
const LEVELS: [(&str, bool); 27] = [
    ("3.3-IV3", true),
    ("3.4-IV0", true),
    ("3.5-IV0", false),
    ("3.5-IV1", false),
    ("3.5-IV2", true),
    ("3.6-IV0", false),
    ("3.6-IV1", true),
    ("3.6-IV2", true),
    ("3.7-IV0", true),
    ("3.7-IV1", false),
    ("3.7-IV2", true),
    ("3.7-IV3", false),
    ("3.7-IV4", false),
    ("3.8-IV0", false),
    ("3.9-IV0", false),
    ("4.0-IV0", false),
    ("4.0-IV1", true),
    ("4.0-IV2", false),
    ("4.0-IV3", false),
    ("4.1-IV0", false),
    ("4.1-IV1", false),
    ("4.2-IV0", false),
    ("4.2-IV1", false),
    ("4.3-IV0", true),
    ("4.4-IV0", false),
    ("4.4-IV1", true),
    ("4.4-IV2", true),
];

impl MetadataVersion {
    /// The oldest level whose logs can be read (3.3-IV3).
    pub const MINIMUM: MetadataVersion = MetadataVersion(7);
    /// The level of a fresh cluster (4.4-IV2).
    pub const LATEST: MetadataVersion = MetadataVersion(33);
    /// 3.9-IV0.
    pub const V3_9_IV0: MetadataVersion = MetadataVersion(21);
    /// 4.0-IV0.
    pub const V4_0_IV0: MetadataVersion = MetadataVersion(22);
    /// 4.0-IV1: PartitionRecord carries eligible leader replicas.
    pub const V4_0_IV1: MetadataVersion = MetadataVersion(23);
    /// 4.0-IV2.
    pub const V4_0_IV2: MetadataVersion = MetadataVersion(24);
    /// 4.1-IV0.
    pub const V4_1_IV0: MetadataVersion = MetadataVersion(26);
    /// 4.2-IV0.
    pub const V4_2_IV0: MetadataVersion = MetadataVersion(28);
    /// 4.2-IV1.
    pub const V4_2_IV1: MetadataVersion = MetadataVersion(29);
    /// 4.4-IV0.
    pub const V4_4_IV0: MetadataVersion = MetadataVersion(31);

    /// Whether the level exists for this software.
    pub fn is_known(self) -> bool {
        (Self::MINIMUM..=Self::LATEST).contains(&self)
    }

    /// `4.4-IV2` and the like; `unknown` outside the known levels.
    pub fn name(self) -> &'static str {
        let index = i32::from(self.0) - i32::from(Self::MINIMUM.0);
        usize::try_from(index).ok().and_then(|i| LEVELS.get(i)).map_or("unknown", |(name, _)| *name)
    }

    /// The level called `name`: `4.4-IV2`, or `4.4` for the last level of a release.
    pub fn parse(name: &str) -> Option<MetadataVersion> {
        let matches = |known: &str| {
            known == name || known.strip_prefix(name).is_some_and(|rest| rest.starts_with("-IV"))
        };
        let index = LEVELS.iter().rposition(|(known, _)| matches(known))?;
        Some(MetadataVersion(Self::MINIMUM.0 + index as i16))
    }

    /// SCRAM credentials are kept (KIP-900).
    pub fn supports_scram(self) -> bool {
        self.0 >= 11
    }

    /// An ISR that shrinks had to bump the leader epoch before 3.6-IV0 (KAFKA-15021).
    pub fn bumps_leader_epoch_on_isr_shrink(self) -> bool {
        self.0 < 12
    }

    /// Begin/End/AbortTransactionRecord may be written (KIP-868).
    pub fn supports_metadata_transactions(self) -> bool {
        self.0 >= 13
    }

    /// Delegation tokens are kept (KIP-48 with KRaft).
    pub fn supports_delegation_tokens(self) -> bool {
        self.0 >= 14
    }

    /// Controllers register (KIP-919).
    pub fn supports_controller_registration(self) -> bool {
        self.0 >= 15
    }

    /// Replicas are assigned to log directories (KIP-858).
    pub fn supports_directory_assignment(self) -> bool {
        self.0 >= 17
    }

    /// Partitions carry eligible leader replicas (KIP-966).
    pub fn supports_elr(self) -> bool {
        self >= Self::V4_0_IV1
    }

    /// Log directories can be cordoned (KIP-1066).
    pub fn supports_cordoned_log_dirs(self) -> bool {
        self.0 >= 30
    }

    /// The host of an access control entry may be a range of addresses (KIP-1276).
    pub fn supports_address_ranges(self) -> bool {
        self.0 >= 32
    }

    /// UnregisterControllerRecord may be written.
    pub fn supports_controller_unregistration(self) -> bool {
        self.0 >= 33
    }

    /// Whether going from `a` to `b`, in either direction, crosses a level that changed the metadata log.
    pub fn metadata_changed_between(a: MetadataVersion, b: MetadataVersion) -> bool {
        let (low, high) = if a <= b { (a, b) } else { (b, a) };
        (low.0.saturating_add(1)..=high.0).any(|level| {
            let index = i32::from(level) - i32::from(Self::MINIMUM.0);
            usize::try_from(index).ok().and_then(|i| LEVELS.get(i)).is_none_or(|(_, changed)| *changed)
        })
    }
}

impl std::fmt::Display for MetadataVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.0, self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_levels() {
        let check = |level: i16, name: &str| {
            assert_eq!(MetadataVersion(level).name(), name);
            assert_eq!(MetadataVersion::parse(name), Some(MetadataVersion(level)));
        };
        check(7, "3.3-IV3");
        check(17, "3.7-IV2");
        check(21, "3.9-IV0");
        check(23, "4.0-IV1");
        check(30, "4.3-IV0");
        check(33, "4.4-IV2");
        assert_eq!(MetadataVersion::parse("4.4"), Some(MetadataVersion(33)));
        assert_eq!(MetadataVersion::parse("4.0"), Some(MetadataVersion(25)));
        assert_eq!(MetadataVersion::parse("4"), None);
        assert_eq!(MetadataVersion::parse("4.5"), None);
        assert_eq!(MetadataVersion(34).name(), "unknown");
        assert_eq!(MetadataVersion(0).name(), "unknown");
    }

    #[test]
    fn downgrades_that_lose_metadata() {
        let changed =
            |a, b| MetadataVersion::metadata_changed_between(MetadataVersion(a), MetadataVersion(b));
        assert!(!changed(33, 33));
        assert!(changed(33, 32));
        assert!(changed(32, 31));
        assert!(!changed(31, 30));
        assert!(changed(31, 29));
        assert!(!changed(29, 23));
        assert!(changed(23, 22));
        assert!(!changed(23, 29));
    }
}
