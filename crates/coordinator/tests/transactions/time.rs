//! What time does to transactions, what happens when numbers run out, and how one set of rules follows another.

use std::sync::atomic::Ordering;

use ottla_coordinator::transaction::MarkerResult;
use ottla_coordinator::{TransactionConfig, TransactionVersion};
use ottla_protocol::ErrorCode;

use crate::rig::{Producer, Rig, TIMEOUT_MS};

const ID: &str = "id";
const V1: TransactionVersion = TransactionVersion::V1;
const V2: TransactionVersion = TransactionVersion::V2;
const DAY_MS: i64 = 86_400_000;

#[test]
fn a_transaction_that_takes_too_long_is_aborted_and_its_producer_fenced() {
    for version in [TransactionVersion::V0, V1, V2] {
        let mut rig = Rig::new(version);
        let producer = rig.init(ID, None).unwrap();
        assert_eq!(rig.add(ID, producer, 0), ErrorCode::None);
        rig.advance(i64::from(TIMEOUT_MS));
        assert_eq!(rig.state(ID), "Ongoing");
        rig.advance(10_000);
        assert_eq!(rig.state(ID), "PrepareAbort");
        let markers = &rig.markers[0];
        assert_eq!((markers.commit, markers.producer_id, markers.producer_epoch), (false, 1_000, 1));
        rig.write_markers(MarkerResult::Done);
        assert_eq!(rig.state(ID), "CompleteAbort");
        assert_eq!(rig.add(ID, producer, 0), ErrorCode::ProducerFenced);
    }
}

#[test]
fn a_marker_that_can_not_be_written_is_tried_again_until_it_is() {
    let mut rig = Rig::new(V2);
    let producer = rig.init(ID, None).unwrap();
    rig.add(ID, producer, 0);
    rig.add(ID, producer, 1);
    rig.end(5, ID, producer, true).unwrap();
    for _ in 0..3 {
        rig.write_markers(MarkerResult::NotNow);
        assert!(rig.markers.is_empty(), "there is a pause");
        rig.advance(100);
        assert_eq!(rig.markers[0].partitions.len(), 2);
        assert_eq!(rig.state(ID), "PrepareCommit");
    }
    rig.write_markers(MarkerResult::Done);
    assert_eq!(rig.state(ID), "CompleteCommit");
}

#[test]
fn a_complete_that_can_not_be_appended_is_tried_again() {
    let mut rig = Rig::new(V2);
    let producer = rig.init(ID, None).unwrap();
    rig.add(ID, producer, 0);
    rig.end(5, ID, producer, true).unwrap();
    rig.fail_next = Some(ErrorCode::NotEnoughReplicas);
    rig.write_markers(MarkerResult::Done);
    assert_eq!(rig.state(ID), "PrepareCommit");
    rig.advance(100);
    assert_eq!(rig.state(ID), "CompleteCommit");
}

#[test]
fn a_coordinator_that_is_loaded_writes_the_markers_that_are_missing() {
    let mut rig = Rig::new(V2);
    let producer = rig.init(ID, None).unwrap();
    rig.add(ID, producer, 0);
    rig.end(5, ID, producer, true).unwrap();
    rig.fail_over();
    let markers = &rig.markers[0];
    assert_eq!((markers.commit, markers.producer_epoch, markers.coordinator_epoch), (true, 1, 2));
    rig.write_markers(MarkerResult::Done);
    assert_eq!(rig.state(ID), "CompleteCommit");
}

#[test]
fn an_idle_transactional_id_is_forgotten() {
    let mut rig = Rig::new(V2);
    rig.init("idle", None).unwrap();
    let mut busy = rig.init("busy", None).unwrap();
    let open = rig.init("open", None).unwrap();
    // Seven days, less one.
    for _ in 0..6 {
        rig.advance(DAY_MS);
        busy = rig.end(5, "busy", busy, false).unwrap();
        rig.write_markers(MarkerResult::Done);
    }
    assert_eq!(rig.state("idle"), "Empty");
    rig.advance(DAY_MS - 3_600_000);
    assert_eq!(rig.state("idle"), "Empty");
    assert_eq!(rig.add("open", open, 0), ErrorCode::None);
    rig.advance(2 * 3_600_000);
    let error_of = |rig: &Rig, id: &str| ErrorCode::from_code(rig.coordinator.describe(id).error_code);
    assert_eq!(error_of(&rig, "idle"), ErrorCode::TransactionalIdNotFound);
    assert_eq!(error_of(&rig, "busy"), ErrorCode::None);
    assert_eq!(error_of(&rig, "open"), ErrorCode::None);
    // A tombstone says it, so the next coordinator does not know it either. Whoever comes is a new producer.
    rig.fail_over();
    assert_eq!(error_of(&rig, "idle"), ErrorCode::TransactionalIdNotFound);
    let (producer_id, epoch) = rig.init("idle", None).unwrap();
    assert_eq!((producer_id > 1_002, epoch), (true, 0));
}

#[test]
fn a_pass_forgets_a_bounded_number_and_the_next_one_follows() {
    let config = TransactionConfig { pass_records_max: 2, ..TransactionConfig::default() };
    let mut rig = Rig::with(V2, config, Vec::new());
    for n in 0..5 {
        rig.init(&format!("id-{n}"), None).unwrap();
    }
    let before = rig.log.len();
    rig.advance(8 * DAY_MS);
    assert_eq!(rig.log.len() - before, 5);
    assert!(rig.coordinator.counts().is_empty());
}

/// A coordinator whose id has used all epochs but the last one that a client may have.
fn used_up(version: TransactionVersion) -> (Rig, Producer) {
    let mut rig = Rig::new(version);
    let mut producer = rig.init(ID, None).unwrap();
    while producer.1 < i16::MAX - 1 {
        producer = rig.init(ID, Some(producer)).unwrap();
        rig.log.drain(..rig.log.len() - 1);
    }
    (rig, producer)
}

#[test]
fn after_the_last_epoch_init_gives_another_producer_id() {
    for version in [V1, V2] {
        let (mut rig, last) = used_up(version);
        assert_eq!(last, (1_000, i16::MAX - 1));
        let next = rig.init(ID, Some(last)).unwrap();
        assert_eq!(next, (1_001, 0));
        // A retry of the producer that went on.
        assert_eq!(rig.init(ID, Some(last)), Ok(next));
        assert_eq!(rig.add(ID, last, 0), ErrorCode::InvalidProducerIdMapping);
        assert_eq!(rig.add(ID, next, 0), ErrorCode::None);
    }
}

#[test]
fn after_the_last_epoch_an_end_gives_another_producer_id_once_the_markers_are_there() {
    let (mut rig, last) = used_up(V2);
    rig.add(ID, last, 0);
    let next = rig.end(5, ID, last, true).unwrap();
    assert_eq!(next, (1_001, 0));
    // The marker goes with the one epoch that no client ever has.
    assert_eq!((rig.markers[0].producer_id, rig.markers[0].producer_epoch), (1_000, i16::MAX));
    assert_eq!(rig.end(5, ID, last, true), Err(ErrorCode::ConcurrentTransactions));
    // The client has its next producer id already, and is not told that nobody knows it.
    assert_eq!(rig.add(ID, next, 0), ErrorCode::ConcurrentTransactions);
    assert_eq!(rig.end(5, ID, next, false), Err(ErrorCode::ConcurrentTransactions));
    assert_eq!(rig.init(ID, Some(next)), Err(ErrorCode::ConcurrentTransactions));
    // The next producer id is in the log, so another coordinator ends it in the same way.
    rig.fail_over();
    rig.write_markers(MarkerResult::Done);
    assert_eq!(rig.end(5, ID, last, true), Ok(next));
    assert_eq!(rig.end(5, ID, last, false), Err(ErrorCode::InvalidTxnState));
    assert_eq!(rig.add(ID, next, 0), ErrorCode::None);
}

#[test]
fn without_a_producer_id_at_hand_the_last_epoch_waits() {
    let (mut rig, last) = used_up(V2);
    rig.add(ID, last, 0);
    let given = rig.ids.0.swap(-1, Ordering::Relaxed);
    assert_eq!(rig.end(5, ID, last, true), Err(ErrorCode::CoordinatorLoadInProgress));
    rig.advance(i64::from(TIMEOUT_MS) + 20_000);
    assert_eq!(rig.state(ID), "Ongoing");
    rig.ids.0.store(given, Ordering::Relaxed);
    rig.advance(20_000);
    assert_eq!(rig.state(ID), "PrepareAbort");
}

#[test]
fn a_transaction_that_began_by_older_rules_ends_by_those_of_its_client() {
    let mut rig = Rig::new(V1);
    let producer = rig.init(ID, None).unwrap();
    rig.add(ID, producer, 0);
    // `transaction.version` is raised while it is open: a client that is not restarted ends it as it began.
    rig.coordinator.set_version(V2);
    rig.version = V2;
    assert_eq!(rig.end(4, ID, producer, true), Ok((-1, -1)));
    assert_eq!((rig.markers[0].producer_epoch, rig.markers[0].version.bumps_epoch()), (producer.1, false));
    rig.write_markers(MarkerResult::Done);
    // One that has learned of the new rules takes an epoch with each end.
    rig.add(ID, producer, 0);
    assert_eq!(rig.end(5, ID, producer, true), Ok((producer.0, producer.1 + 1)));
    assert!(rig.markers[0].version.bumps_epoch());
    rig.fail_over();
    rig.write_markers(MarkerResult::Done);
    assert_eq!(rig.state(ID), "CompleteCommit");
}

#[test]
fn records_are_those_of_the_version_and_those_of_another_are_read() {
    let version_of = |rig: &Rig| rig.log.last().unwrap().value.as_ref().unwrap()[..2].to_vec();
    let mut rig = Rig::new(TransactionVersion::V0);
    let producer = rig.init(ID, None).unwrap();
    assert_eq!(version_of(&rig), [0, 0]);
    // Raised on a directory that exists: what it holds is known, what comes is written anew.
    rig.version = V2;
    rig.fail_over();
    assert_eq!(rig.add(ID, producer, 0), ErrorCode::None);
    assert_eq!(version_of(&rig), [0, 1]);
    rig.version = TransactionVersion::V0;
    rig.fail_over();
    assert_eq!(rig.state(ID), "Ongoing");
    assert_eq!(rig.end(4, ID, producer, true), Ok((-1, -1)));
    assert_eq!(version_of(&rig), [0, 0]);
}
