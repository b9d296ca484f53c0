//! Idempotent producers and transactions through the log: duplicates, the last stable offset, aborted ranges; also after reopening.

use bytes::Bytes;
use ottla_protocol::records::{BatchOptions, EndTxnMarker, end_txn_batch};

use super::rig::*;
use crate::{AppendError, AppendOrigin, Log, OpenHints};

fn transactional(producer_id: i64, base_sequence: i32) -> Bytes {
    let options = BatchOptions {
        producer_id,
        producer_epoch: 0,
        base_sequence,
        transactional: true,
        ..BatchOptions::default()
    };
    batch_at(NOW, &[b"t"], options)
}

fn end(log: &mut Log, producer_id: i64, commit: bool) -> i64 {
    let marker = EndTxnMarker { coordinator_epoch: 1 };
    let bytes = end_txn_batch(0, NOW, commit, marker, producer_id, 0, 0);
    log.append(&bytes.into(), AppendOrigin::Marker { bumps_epoch: false }, 0, NOW).unwrap().last_offset
}

#[test]
fn a_resent_batch_gets_its_first_answer() {
    let (disk, mut log) = fresh(small());
    let first = from_producer(1, 0, 3);
    assert_eq!(append(&mut log, &first).first_offset, 0);
    fill(&mut log, 10);
    append(&mut log, &from_producer(1, 3, 2));
    let again = append(&mut log, &first);
    assert_eq!((again.duplicate, again.first_offset, again.last_offset, again.bytes), (true, 0, 2, 0));
    let gap = try_append(&mut log, &from_producer(1, 9, 1)).unwrap_err();
    assert_eq!(gap, AppendError::OutOfOrderSequence { producer_id: 1, found: 9, last: 4 });
    // A killed process replays the batches: both are known. A clean end keeps the last one only.
    let (mut killed, _) = open_with(&disk.kill(), small(), OpenHints::default());
    assert!(append(&mut killed, &first).duplicate);
    log.close().unwrap();
    let (mut closed, _) = open_with(&disk, small(), clean());
    assert!(append(&mut closed, &from_producer(1, 3, 2)).duplicate);
    assert!(matches!(try_append(&mut closed, &first), Err(AppendError::OutOfOrderSequence { .. })));
    assert!(!append(&mut closed, &from_producer(1, 5, 1)).duplicate);
}

#[test]
fn truncation_takes_sequences_back() {
    let (_disk, mut log) = fresh(small());
    for n in 0..20 {
        append(&mut log, &from_producer(1, n, 1));
    }
    log.truncate_to(12, NOW).unwrap();
    assert_eq!(log.producers().next().unwrap().last_sequence, 11);
    assert!(append(&mut log, &from_producer(1, 11, 1)).duplicate);
    assert_eq!(append(&mut log, &from_producer(1, 12, 1)).first_offset, 12);
    log.truncate_to(0, NOW).unwrap();
    assert_eq!(log.producers().count(), 0);
}

#[test]
fn stable_offsets_and_aborted_ranges() {
    let (disk, mut log) = fresh(small());
    append(&mut log, &transactional(1, 0)); // 0
    append(&mut log, &transactional(2, 0)); // 1
    assert_eq!(log.last_stable_offset(2), 0);
    let open = log.producers().filter(|producer| producer.current_txn_start_offset.is_some());
    let open: Vec<_> = open.map(|producer| (producer.producer_id, producer.producer_epoch)).collect();
    assert!(open.contains(&(1, 0)) && !open.iter().any(|(id, _)| *id == 3), "{open:?}");
    assert_eq!(end(&mut log, 1, false), 2);
    assert_eq!(log.last_stable_offset(2), 0, "the marker is above the high watermark");
    assert_eq!(log.last_stable_offset(3), 1);
    fill(&mut log, 30);
    append(&mut log, &transactional(1, 1)); // 33
    assert_eq!(end(&mut log, 2, true), 34);
    assert_eq!(end(&mut log, 1, false), 35);
    assert_eq!(log.last_stable_offset(36), 36);
    let check = |log: &Log| {
        assert_eq!(log.aborted_transactions(0, 36), [(1, 0), (1, 33)]);
        assert_eq!(log.aborted_transactions(0, 10), [(1, 0)]);
        assert_eq!(log.aborted_transactions(3, 36), [(1, 33)]);
        assert_eq!(log.aborted_transactions(3, 30), []);
    };
    check(&log);
    let (killed, _) = open_with(&disk.kill(), small(), OpenHints::default());
    check(&killed);
    let mut shorter = killed;
    shorter.truncate_to(34, NOW).unwrap();
    assert_eq!(shorter.last_stable_offset(34), 1, "both transactions are open again");
    assert_eq!(shorter.aborted_transactions(0, 34), [(1, 0)]);
    log.close().unwrap();
    let (mut closed, _) = open_with(&disk.crash(), small(), clean());
    check(&closed);
    assert_eq!(closed.last_stable_offset(36), 36);
}

#[test]
fn an_open_transaction_stays_open_across_a_clean_restart() {
    let (disk, mut log) = fresh(small());
    fill(&mut log, 3);
    append(&mut log, &transactional(1, 0));
    log.close().unwrap();
    let (mut log, _) = open_with(&disk, small(), clean());
    assert_eq!(log.last_stable_offset(4), 3);
    assert_eq!(end(&mut log, 1, true), 4);
    assert_eq!(log.last_stable_offset(5), 5);
    let outside = try_append(&mut log, &from_producer(1, 1, 1));
    assert!(outside.is_ok(), "after the marker the producer may write plainly: {outside:?}");
}

#[test]
fn old_coordinators_and_producers_are_fenced() {
    let (_disk, mut log) = fresh(small());
    append(&mut log, &transactional(1, 0));
    end(&mut log, 1, true);
    let old = end_txn_batch(0, NOW, true, EndTxnMarker { coordinator_epoch: 0 }, 1, 0, 0);
    let error = log.append(&old.into(), AppendOrigin::Marker { bumps_epoch: false }, 0, NOW).unwrap_err();
    assert_eq!(error, AppendError::CoordinatorFenced { producer_id: 1, found: 0, current: 1 });
    let bumped = end_txn_batch(0, NOW, true, EndTxnMarker { coordinator_epoch: 1 }, 1, 1, 0);
    log.append(&bumped.into(), AppendOrigin::Marker { bumps_epoch: false }, 0, NOW).unwrap();
    let error = try_append(&mut log, &from_producer(1, 1, 1)).unwrap_err();
    assert_eq!(error, AppendError::InvalidProducerEpoch { producer_id: 1, found: 0, current: 1 });
}
