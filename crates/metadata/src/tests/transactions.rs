//! Metadata transactions: all or nothing, and who sees what in between.

use super::{Record, feature, partition, topic, topic_id};
use crate::{Image, ReplayError, Replayer};
use ottla_protocol::messages::abort_transaction_record::AbortTransactionRecord;
use ottla_protocol::messages::begin_transaction_record::BeginTransactionRecord;
use ottla_protocol::messages::end_transaction_record::EndTransactionRecord;
use ottla_protocol::messages::metadata_record::MetadataRecord;

fn begin() -> Record {
    MetadataRecord::BeginTransactionRecord(BeginTransactionRecord { name: None })
}

fn end() -> Record {
    MetadataRecord::EndTransactionRecord(EndTransactionRecord {})
}

fn abort() -> Record {
    MetadataRecord::AbortTransactionRecord(AbortTransactionRecord { reason: None })
}

fn replayed(records: &[Record]) -> Replayer {
    let mut replayer = Replayer::new(Image::empty("cluster"));
    for (offset, record) in (0..).zip(records) {
        replayer.replay(record, offset).expect("fits");
    }
    replayer
}

#[test]
fn nothing_shows_before_the_end() {
    let mut open =
        replayed(&[feature("metadata.version", 33), begin(), topic(1, "a"), partition(1, 0, &[1])]);
    assert_eq!(open.transaction_begin(), Some(1));
    assert_eq!(open.image().topic_by_name("a"), None);
    assert_eq!(open.image().last_offset(), 0);
    assert!(open.latest().topic_by_name("a").is_some());
    open.replay(&end(), 4).expect("fits");
    assert!(open.image().topic_by_name("a").is_some());
    assert_eq!((open.image().last_offset(), open.transaction_begin()), (4, None));
    let delta = open.take_delta();
    assert!(delta.topics_created.contains(&topic_id(1)) && delta.features.contains_key("metadata.version"));
    assert!(open.take_delta().is_empty());
}

#[test]
fn an_aborted_transaction_never_was() {
    let mut aborted = replayed(&[topic(1, "a"), begin(), topic(2, "b"), abort(), topic(3, "c")]);
    let expected = replayed(&[topic(1, "a"), topic(3, "c")]);
    assert_eq!(aborted.image(), expected.image());
    assert_eq!(aborted.latest(), expected.image());
    assert_eq!(aborted.image().last_offset(), 4);
    assert_eq!(aborted.take_delta().topics_created.len(), 2);
}

#[test]
fn a_delta_taken_amid_a_transaction_is_not_told_twice() {
    let mut open = replayed(&[topic(1, "a"), begin(), topic(2, "b")]);
    assert!(open.take_delta().topics_created.iter().eq([&topic_id(1)]));
    open.replay(&partition(2, 0, &[1]), 3).expect("fits");
    open.replay(&end(), 4).expect("fits");
    let delta = open.take_delta();
    assert!(delta.topics_created.iter().eq([&topic_id(2)]));
    assert_eq!(delta.partitions.len(), 1);
}

#[test]
fn transactions_that_do_not_fit() {
    let refused = |records: &[Record], last: Record, expected: ReplayError| {
        let mut replayer = replayed(records);
        assert_eq!(replayer.replay(&last, 9), Err(expected));
    };
    refused(&[begin()], begin(), ReplayError::NestedTransaction);
    refused(&[], end(), ReplayError::NoTransaction);
    refused(&[], abort(), ReplayError::NoTransaction);
    refused(&[begin(), end()], end(), ReplayError::NoTransaction);
}
