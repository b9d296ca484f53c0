//! Producer state by small cases: what is accepted, what is a duplicate, what holds back the last stable offset.

use ottla_protocol::records::{Attributes, BatchHeader};

use super::*;

const CLIENT: AppendOrigin = AppendOrigin::Client { zstd_allowed: true, admission: None };

pub(super) fn batch(base_offset: i64, epoch: i16, base_sequence: i32, count: i32) -> BatchHeader {
    BatchHeader {
        base_offset,
        batch_length: 100,
        leader_epoch: 0,
        crc: 0,
        attributes: Attributes::default(),
        last_offset_delta: count - 1,
        base_timestamp: 0,
        max_timestamp: base_offset,
        producer_id: 1,
        producer_epoch: epoch,
        base_sequence,
        record_count: count,
    }
}

pub(super) fn transactional(mut header: BatchHeader, producer_id: i64) -> BatchHeader {
    header.producer_id = producer_id;
    header.attributes = header.attributes.with_transactional(true);
    header
}

pub(super) fn marker(offset: i64, producer_id: i64, epoch: i16) -> BatchHeader {
    let mut header = transactional(batch(offset, epoch, -1, 1), producer_id);
    header.attributes = header.attributes.with_control(true);
    header
}

pub(super) fn end(committed: bool, coordinator_epoch: i32) -> TxnEnd {
    TxnEnd { committed, coordinator_epoch, timestamp: 5 }
}

pub(super) fn with(batches: &[BatchHeader]) -> Producers {
    let mut producers = Producers::default();
    for header in batches {
        producers.apply(header, None);
    }
    producers
}

#[test]
fn sequences_must_follow_one_another() {
    let producers = with(&[batch(0, 0, 0, 10)]);
    assert_eq!(producers.check(&batch(10, 0, 10, 1), None, CLIENT, true), Ok(Verdict::Append));
    for gap in [11, 9, i32::MAX] {
        let error = producers.check(&batch(10, 0, gap, 1), None, CLIENT, true).unwrap_err();
        assert_eq!(error, AppendError::OutOfOrderSequence { producer_id: 1, found: gap, last: 9 });
    }
    assert_eq!(
        producers.check(&batch(10, 0, 77, 1), None, AppendOrigin::COORDINATOR, true),
        Ok(Verdict::Append)
    );
}

#[test]
fn sequences_wrap() {
    let producers = with(&[batch(0, 0, i32::MAX - 1, 2)]);
    assert_eq!(producers.check(&batch(2, 0, 0, 1), None, CLIENT, true), Ok(Verdict::Append));
    let producers = with(&[batch(0, 0, i32::MAX - 1, 4)]);
    assert_eq!(producers.check(&batch(4, 0, 2, 1), None, CLIENT, true), Ok(Verdict::Append));
    let duplicate = producers.check(&batch(4, 0, i32::MAX - 1, 4), None, CLIENT, true);
    assert!(matches!(duplicate, Ok(Verdict::Duplicate(span)) if span.first_offset() == 0));
}

#[test]
fn the_last_five_batches_are_recognised() {
    let batches: Vec<_> = (0..7).map(|n| batch(n * 10, 0, n as i32 * 10, 10)).collect();
    let producers = with(&batches);
    for (n, header) in batches.iter().enumerate().skip(2) {
        let Ok(Verdict::Duplicate(span)) = producers.check(header, None, CLIENT, true) else {
            panic!("batch {n}")
        };
        assert_eq!((span.first_offset(), span.last_offset), (n as i64 * 10, n as i64 * 10 + 9));
    }
    assert!(matches!(
        producers.check(&batches[1], None, CLIENT, true),
        Err(AppendError::OutOfOrderSequence { .. })
    ));
    let partly = batch(70, 0, 60, 5);
    assert!(matches!(
        producers.check(&partly, None, CLIENT, true),
        Err(AppendError::OutOfOrderSequence { .. })
    ));
}

#[test]
fn epochs_fence_and_reset() {
    let producers = with(&[batch(0, 3, 0, 10)]);
    let old = producers.check(&batch(10, 2, 10, 1), None, CLIENT, true).unwrap_err();
    assert_eq!(old, AppendError::InvalidProducerEpoch { producer_id: 1, found: 2, current: 3 });
    assert_eq!(producers.check(&batch(10, 4, 0, 1), None, CLIENT, true), Ok(Verdict::Append));
    assert!(matches!(
        producers.check(&batch(10, 4, 10, 1), None, CLIENT, true),
        Err(AppendError::OutOfOrderSequence { .. })
    ));
    let producers = with(&[batch(0, 3, 0, 10), batch(10, 4, 0, 1)]);
    assert!(matches!(
        producers.check(&batch(11, 3, 0, 10), None, CLIENT, true),
        Err(AppendError::InvalidProducerEpoch { .. })
    ));
}

#[test]
fn an_unknown_producer_starts_anywhere() {
    assert_eq!(Producers::default().check(&batch(0, 5, 1234, 1), None, CLIENT, true), Ok(Verdict::Append));
}

#[test]
fn open_transactions_hold_the_stable_offset_until_their_marker_is_committed() {
    let mut producers = with(&[transactional(batch(0, 0, 0, 5), 1), transactional(batch(5, 0, 0, 5), 2)]);
    assert_eq!(producers.first_unstable_offset(10), Some(0));
    let plain = producers.check(&batch(10, 0, 5, 1), None, CLIENT, true);
    assert_eq!(plain, Err(AppendError::InvalidTxnState { producer_id: 1 }));
    let completed = producers.apply(&marker(10, 1, 0), Some(end(false, 7))).unwrap();
    let expected = CompletedTxn {
        producer_id: 1,
        first_offset: 0,
        last_offset: 10,
        last_stable_offset: 5,
        aborted: true,
    };
    assert_eq!(completed, expected);
    assert_eq!(producers.first_unstable_offset(10), Some(0), "the marker is not committed");
    assert_eq!(producers.first_unstable_offset(11), Some(5));
    producers.on_high_watermark(11);
    let completed = producers.apply(&marker(11, 2, 0), Some(end(true, 7))).unwrap();
    assert_eq!((completed.last_stable_offset, completed.aborted), (12, false));
    assert_eq!(producers.first_unstable_offset(12), None);
    let zombie = producers.check(&marker(12, 1, 0), Some(end(true, 6)), AppendOrigin::COORDINATOR, true);
    assert_eq!(zombie, Err(AppendError::CoordinatorFenced { producer_id: 1, found: 6, current: 7 }));
    assert_eq!(producers.apply(&marker(12, 1, 0), Some(end(true, 7))), None, "nothing was open");
}

#[test]
fn idle_producers_expire_unless_their_transaction_is_open() {
    let mut producers = with(&[batch(0, 0, 0, 1), transactional(batch(1, 0, 0, 1), 2)]);
    producers.expire(1000, 1000);
    assert_eq!(producers.summaries().map(|summary| summary.producer_id).collect::<Vec<_>>(), [2]);
}

#[test]
fn a_snapshot_keeps_transactions_open() {
    let producers = with(&[transactional(batch(3, 0, 0, 5), 1)]);
    let restored = Producers::from_snapshot(decode_snapshot(&producers.snapshot()).unwrap(), 8);
    assert_eq!((restored.end_offset(), restored.first_unstable_offset(8)), (8, Some(3)));
    assert!(restored.has_open_txn(1, 0));
}
