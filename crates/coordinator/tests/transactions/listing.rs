//! ListTransactions: which transactional ids each filter lets through.

use ottla_coordinator::TransactionVersion;
use ottla_coordinator::transaction::{MarkerResult, TransactionFilter, TransactionState};
use ottla_protocol::ErrorCode;

use crate::rig::Rig;

fn everything() -> TransactionFilter<'static> {
    TransactionFilter { producer_ids: &[], states: None, duration_ms: -1, id_matches: &|_| true }
}

/// `empty` (1000), `old` (1001, open for 5 s), `young` (1002, open for 1 s), `done` (1003).
fn rig() -> Rig {
    let mut rig = Rig::new(TransactionVersion::V2);
    rig.init("empty", None).unwrap();
    let old = rig.init("old", None).unwrap();
    let young = rig.init("young", None).unwrap();
    let done = rig.init("done", None).unwrap();
    rig.add("old", old, 0);
    rig.add("done", done, 0);
    rig.end(5, "done", done, true).unwrap();
    rig.write_markers(MarkerResult::Done);
    rig.advance(4_000);
    rig.add("young", young, 0);
    rig.advance(1_000);
    rig
}

#[test]
fn without_filters_all_are_listed() {
    assert_eq!(rig().list(&everything()), ["done", "empty", "old", "young"]);
}

#[test]
fn by_state() {
    let rig = rig();
    let in_states = |states: &[TransactionState]| {
        rig.list(&TransactionFilter { states: Some(states.to_vec()), ..everything() })
    };
    assert_eq!(in_states(&[TransactionState::Ongoing]), ["old", "young"]);
    assert_eq!(in_states(&[TransactionState::Empty, TransactionState::CompleteCommit]), ["done", "empty"]);
    assert!(in_states(&[TransactionState::PrepareAbort]).is_empty());
    // Only states that nobody knows were asked for.
    assert!(in_states(&[]).is_empty());
}

#[test]
fn by_producer_id() {
    let rig = rig();
    let of = |producer_ids: &[i64]| rig.list(&TransactionFilter { producer_ids, ..everything() });
    assert_eq!(of(&[1_001]), ["old"]);
    assert_eq!(of(&[1_003, 1_000, 77]), ["done", "empty"]);
    assert!(of(&[77]).is_empty());
}

#[test]
fn by_duration() {
    let rig = rig();
    // As in Kafka an id without a transaction counts as open since the beginning of time, less one.
    let longer_than = |duration_ms| rig.list(&TransactionFilter { duration_ms, ..everything() });
    assert_eq!(longer_than(0), ["done", "empty", "old", "young"]);
    assert_eq!(longer_than(999), ["done", "empty", "old", "young"]);
    assert_eq!(longer_than(1_000), ["done", "empty", "old"]);
    assert_eq!(longer_than(4_999), ["done", "empty", "old"]);
    assert_eq!(longer_than(5_000), ["empty"]);
}

#[test]
fn by_id_and_all_filters_together() {
    let rig = rig();
    let filter = TransactionFilter { id_matches: &|id| id.starts_with('o') || id == "empty", ..everything() };
    assert_eq!(rig.list(&filter), ["empty", "old"]);
    let filter = TransactionFilter { states: Some(vec![TransactionState::Ongoing]), ..filter };
    assert_eq!(rig.list(&filter), ["old"]);
    let filter = TransactionFilter { duration_ms: 5_000, ..filter };
    assert!(rig.list(&filter).is_empty());
}

#[test]
fn a_description_says_what_belongs_to_the_transaction() {
    let rig = rig();
    let described = rig.coordinator.describe("old");
    assert_eq!(described.error_code, 0);
    assert_eq!((described.producer_id, described.producer_epoch), (1_001, 0));
    assert_eq!((&*described.transaction_state, described.transaction_timeout_ms), ("Ongoing", 60_000));
    assert_eq!(described.transaction_start_time_ms, rig.now - 5_000);
    assert_eq!((&*described.topics[0].topic, &described.topics[0].partitions[..]), ("t", &[0][..]));
    let unknown = rig.coordinator.describe("nobody");
    assert_eq!(ErrorCode::from_code(unknown.error_code), ErrorCode::TransactionalIdNotFound);
}
