//! The first records of a log, and what a new leader writes into one that has some.

use super::{Cluster, Record, topic};
use crate::{Settings, activation, bootstrap_records};
use ottla_metadata::{Image, MetadataVersion, Replayer, ResourceType};
use ottla_protocol::messages::begin_transaction_record::BeginTransactionRecord;
use ottla_protocol::messages::metadata_record::MetadataRecord;

fn levels<'a>(records: &'a [Record]) -> Vec<(&'a str, i16)> {
    let level = |record: &'a Record| match record {
        MetadataRecord::FeatureLevelRecord(record) => Some((&*record.name, record.feature_level)),
        _ => None,
    };
    records.iter().filter_map(level).collect()
}

fn kinds(records: &[Record]) -> Vec<&'static str> {
    let kind = |record: &Record| match record {
        MetadataRecord::BeginTransactionRecord(_) => "begin",
        MetadataRecord::EndTransactionRecord(_) => "end",
        MetadataRecord::AbortTransactionRecord(_) => "abort",
        MetadataRecord::FeatureLevelRecord(_) => "level",
        MetadataRecord::ConfigRecord(_) => "config",
        _ => "other",
    };
    records.iter().map(kind).collect()
}

#[test]
fn the_first_checkpoint() {
    let records = bootstrap_records(MetadataVersion::LATEST, &[]);
    assert_eq!(levels(&records)[0], ("metadata.version", 33));
    assert!(levels(&records).contains(&("eligible.leader.replicas.version", 1)));
    let chosen = bootstrap_records(
        MetadataVersion::LATEST,
        &[("eligible.leader.replicas.version", 0), ("kraft.version", 1)],
    );
    assert!(
        levels(&chosen).iter().all(|(name, _)| !name.starts_with("eligible") && !name.starts_with("kraft"))
    );
    assert_eq!(levels(&bootstrap_records(MetadataVersion(20), &[])), [("metadata.version", 20)]);
}

#[test]
fn an_empty_log_is_begun() {
    let empty = Replayer::new(Image::empty("cluster"));
    let settings = Settings { min_insync_replicas: 2, ..Settings::default() };
    let with_elr = activation(&empty, &settings, &bootstrap_records(MetadataVersion::LATEST, &[]));
    let kinds_with = kinds(&with_elr.records);
    assert_eq!(
        (kinds_with[0], kinds_with[kinds_with.len() - 2], kinds_with[kinds_with.len() - 1]),
        ("begin", "config", "end")
    );
    let mut replayed = empty.clone();
    for (offset, record) in (0..).zip(&with_elr.records) {
        replayed.replay(record, offset).expect("fits");
    }
    let image = replayed.image();
    assert_eq!(image.metadata_version(), Some(MetadataVersion::LATEST));
    assert_eq!(image.config_value(ResourceType::BROKER, "", "min.insync.replicas"), Some("2"));
    // A second leader has nothing to write.
    assert_eq!(
        activation(&replayed, &settings, &bootstrap_records(MetadataVersion::LATEST, &[])).records,
        []
    );
    // Before 3.6-IV1 there were no transactions: one batch, without ELR no configuration.
    let old = activation(&empty, &settings, &bootstrap_records(MetadataVersion(12), &[]));
    assert_eq!((kinds(&old.records), old.atomic), (vec!["level"], true));
}

#[test]
fn a_begun_transaction_is_aborted() {
    let begin = MetadataRecord::BeginTransactionRecord(BeginTransactionRecord { name: None });
    let bootstrap = bootstrap_records(MetadataVersion::LATEST, &[]);
    // The bootstrap itself was cut short: again from the start.
    let mut cut = Replayer::new(Image::empty("cluster"));
    cut.replay(&begin, 0).expect("fits");
    cut.replay(&bootstrap[0], 1).expect("fits");
    let again = activation(&cut, &Settings::default(), &bootstrap);
    assert_eq!(kinds(&again.records)[..3], ["abort", "begin", "level"]);
    // Anything else: just aborted.
    let mut later = Cluster::with(1);
    later.create(vec![topic("t", 1, 1)]);
    let offset = later.log.len() as i64;
    let mut replayer = Replayer::new(later.controller.image().clone());
    replayer.replay(&begin, offset).expect("fits");
    assert_eq!(kinds(&activation(&replayer, &Settings::default(), &bootstrap).records), ["abort"]);
}
