//! Which version a metadata record is written in.
//!
//! The tricky idea: a version is the lowest that can carry what the record says at the cluster's metadata.version, so
//! that nodes of an older release in the same cluster can read it; the bytes are those that Kafka would write.

use crate::metadata_version::MetadataVersion;
use ottla_protocol::messages::metadata_record::MetadataRecord;

/// The version to encode `record` in, in a cluster at `metadata_version`.
pub fn record_version(record: &MetadataRecord<'_>, metadata_version: MetadataVersion) -> i16 {
    let partition_version = match metadata_version {
        mv if mv.supports_elr() => 2,
        mv if mv.supports_directory_assignment() => 1,
        _ => 0,
    };
    match record {
        MetadataRecord::PartitionRecord(_) | MetadataRecord::PartitionChangeRecord(_) => partition_version,
        MetadataRecord::RegisterBrokerRecord(_) => match metadata_version {
            mv if mv.supports_cordoned_log_dirs() => 4,
            mv if mv.supports_directory_assignment() => 3,
            mv if mv.0 >= 8 => 2,
            _ => 1,
        },
        MetadataRecord::BrokerRegistrationChangeRecord(record) => {
            if record.cordoned_log_dirs.is_some() {
                3
            } else if !record.log_dirs.is_empty() {
                2
            } else {
                i16::from(record.in_controlled_shutdown != 0)
            }
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ottla_protocol::Uuid;
    use ottla_protocol::messages::broker_registration_change_record::BrokerRegistrationChangeRecord;
    use ottla_protocol::messages::{
        partition_record::PartitionRecord, register_broker_record::RegisterBrokerRecord,
    };

    #[test]
    fn versions_follow_the_metadata_version() {
        let check = |record: MetadataRecord<'_>, expected: [(i16, i16); 4]| {
            for (level, version) in expected {
                assert_eq!(record_version(&record, MetadataVersion(level)), version, "at {level}");
            }
        };
        let partition = MetadataRecord::PartitionRecord(PartitionRecord::default());
        check(partition, [(7, 0), (17, 1), (22, 1), (33, 2)]);
        let register = MetadataRecord::RegisterBrokerRecord(RegisterBrokerRecord::default());
        check(register, [(7, 1), (8, 2), (29, 3), (33, 4)]);
    }

    #[test]
    fn registration_changes_use_the_lowest_version() {
        let check = |record: BrokerRegistrationChangeRecord, version: i16| {
            let record = MetadataRecord::BrokerRegistrationChangeRecord(record);
            assert_eq!(record_version(&record, MetadataVersion::LATEST), version);
        };
        let base = BrokerRegistrationChangeRecord { broker_id: 1, fenced: -1, ..Default::default() };
        check(base.clone(), 0);
        check(BrokerRegistrationChangeRecord { in_controlled_shutdown: 1, ..base.clone() }, 1);
        check(BrokerRegistrationChangeRecord { log_dirs: vec![Uuid([1; 16])], ..base.clone() }, 2);
        check(BrokerRegistrationChangeRecord { cordoned_log_dirs: Some(vec![]), ..base }, 3);
    }
}
