//! Transactions in the producers' state: who may begin one, and which marker ends it.

use ottla_protocol::records::BatchHeader;

use super::tests::{batch, end, marker, transactional, with};
use super::*;

const NOW: i64 = 1_000;

fn client(admission: Option<Admission>) -> AppendOrigin {
    AppendOrigin::Client { zstd_allowed: true, admission }
}

fn apply_for(producers: &mut Producers, header: &BatchHeader) -> Admission {
    producers.apply_for_admission(header, true, NOW).unwrap().expect("no transaction is open")
}

fn check_marker(producers: &Producers, epoch: i16, bumps_epoch: bool) -> Result<Verdict, AppendError> {
    let marker = marker(producers.end_offset(), 1, epoch);
    producers.check(&marker, Some(end(false, 1)), AppendOrigin::Marker { bumps_epoch }, true)
}

fn stale(found: i16, current: i16) -> Result<Verdict, AppendError> {
    Err(AppendError::InvalidProducerEpoch { producer_id: 1, found, current })
}

#[test]
fn the_first_batch_of_a_transaction_needs_an_admission_and_the_next_ones_do_not() {
    let mut producers = Producers::default();
    let first = transactional(batch(0, 3, 0, 1), 1);
    let not_admitted = Err(AppendError::NotAdmitted { producer_id: 1 });
    assert_eq!(producers.check(&first, None, client(None), true), not_admitted);
    let admission = apply_for(&mut producers, &first);
    assert_eq!(producers.check(&first, None, client(None), true), not_admitted);
    assert_eq!(producers.check(&first, None, client(Some(admission)), true), Ok(Verdict::Append));
    assert_eq!(apply_for(&mut producers, &first), admission, "a resent batch waits for the same");
    producers.apply(&first, None);
    let second = transactional(batch(1, 3, 1, 1), 1);
    assert_eq!(producers.apply_for_admission(&second, true, NOW), Ok(None));
    assert_eq!(producers.check(&second, None, client(None), true), Ok(Verdict::Append));
}

#[test]
fn a_marker_takes_admissions_away() {
    let mut producers = Producers::default();
    let late = transactional(batch(0, 3, 0, 1), 1);
    let admission = producers.apply_for_admission(&late, false, NOW).unwrap().unwrap();
    // The coordinator agrees, but its answer is slower than the marker that aborts the transaction.
    producers.apply(&marker(0, 1, 3), Some(end(false, 1)));
    let late = transactional(batch(1, 3, 0, 1), 1);
    let not_admitted = Err(AppendError::NotAdmitted { producer_id: 1 });
    assert_eq!(producers.check(&late, None, client(Some(admission)), true), not_admitted);
    let again = producers.apply_for_admission(&late, false, NOW).unwrap().unwrap();
    assert_ne!(again, admission, "the old answer does not count for the new question");
    assert_eq!(producers.check(&late, None, client(Some(admission)), true), not_admitted);
}

#[test]
fn a_marker_of_version_2_leaves_the_next_transaction_alone() {
    let mut producers = with(&[transactional(batch(0, 3, 0, 1), 1)]);
    // The client knows its new epoch as soon as the end is decided, before the marker is here.
    let next = transactional(batch(1, 4, 0, 1), 1);
    let admission = apply_for(&mut producers, &next);
    producers.apply(&marker(1, 1, 4), Some(end(true, 1)));
    assert_eq!(producers.check(&next, None, client(Some(admission)), true), Ok(Verdict::Append));
}

#[test]
fn a_late_batch_does_not_use_up_the_admission_of_the_next_transaction() {
    let mut producers = Producers::default();
    let late = transactional(batch(0, 3, 0, 1), 1);
    let admission = apply_for(&mut producers, &late);
    // Its client gave up and aborted; the marker is on its way, and the next transaction knocks.
    let next = transactional(batch(1, 4, 0, 1), 1);
    let next_admission = apply_for(&mut producers, &next);
    assert_eq!(producers.check(&late, None, client(Some(admission)), true), Ok(Verdict::Append));
    producers.apply(&late, None);
    producers.apply(&marker(1, 1, 4), Some(end(false, 1)));
    assert_eq!(producers.check(&next, None, client(Some(next_admission)), true), Ok(Verdict::Append));
}

#[test]
fn an_old_epoch_is_told_so_before_its_coordinator_is_asked() {
    let mut producers = with(&[transactional(batch(0, 3, 0, 1), 1)]);
    let old = transactional(batch(1, 2, 1, 1), 1);
    let error = AppendError::InvalidProducerEpoch { producer_id: 1, found: 2, current: 3 };
    assert_eq!(producers.apply_for_admission(&old, true, NOW), Err(error.clone()));
    assert_eq!(producers.check(&old, None, client(None), true), Err(error));
}

#[test]
fn while_a_transaction_begins_no_batch_overtakes_another() {
    let mut producers = Producers::default();
    let first = transactional(batch(0, 0, 0, 1), 1);
    let second = transactional(batch(0, 0, 1, 1), 1);
    let admission = apply_for(&mut producers, &second);
    assert_eq!(apply_for(&mut producers, &first), admission);
    let overtakes = producers.check(&second, None, client(Some(admission)), true).unwrap_err();
    assert_eq!(overtakes, AppendError::OutOfOrderSequence { producer_id: 1, found: 1, last: -1 });
    assert_eq!(producers.check(&first, None, client(Some(admission)), true), Ok(Verdict::Append));
}

#[test]
fn a_repeated_batch_that_is_refused_does_not_hold_up_the_next_transaction() {
    let mut producers = with(&[transactional(batch(0, 3, 0, 1), 1)]);
    producers.apply(&marker(1, 1, 3), Some(end(true, 1)));
    // The network repeats the batch. Its coordinator says no, for the transaction is over, and nobody tells the log.
    let repeated = transactional(batch(2, 3, 0, 1), 1);
    producers.apply_for_admission(&repeated, false, NOW).unwrap().unwrap();
    let next = transactional(batch(2, 3, 1, 1), 1);
    let admission = producers.apply_for_admission(&next, false, NOW).unwrap();
    assert_eq!(producers.check(&next, None, client(admission), true), Ok(Verdict::Append));
}

#[test]
fn with_version_2_a_producer_that_is_not_known_begins_at_0() {
    for (bumps_epoch, begins) in [(true, false), (false, true)] {
        let mut producers = Producers::default();
        let header = transactional(batch(0, 0, 5, 1), 1);
        let admission = producers.apply_for_admission(&header, bumps_epoch, NOW).unwrap();
        assert_eq!(producers.check(&header, None, client(admission), true).is_ok(), begins);
    }
}

#[test]
fn a_marker_of_version_2_has_a_new_epoch_and_may_be_repeated() {
    let mut producers = with(&[transactional(batch(0, 3, 0, 1), 1)]);
    assert_eq!(check_marker(&producers, 3, false), Ok(Verdict::Append), "before version 2 the epoch stays");
    assert_eq!(check_marker(&producers, 2, false), stale(2, 3));
    assert_eq!(check_marker(&producers, 3, true), stale(3, 3), "of the transaction before");
    assert_eq!(check_marker(&producers, 4, true), Ok(Verdict::Append));
    producers.apply(&marker(1, 1, 4), Some(end(true, 1)));
    assert_eq!(check_marker(&producers, 4, true), Ok(Verdict::Append), "again, as an answer was lost");
    producers.apply(&transactional(batch(2, 4, 0, 1), 1), None);
    assert_eq!(
        check_marker(&producers, 4, true),
        stale(4, 4),
        "the next transaction is open: it is too late"
    );
    assert_eq!(check_marker(&producers, 3, true), stale(3, 4));
}

#[test]
fn the_last_epoch_of_all_may_be_aborted_by_its_own_marker() {
    let producers = with(&[transactional(batch(0, i16::MAX, 0, 1), 1)]);
    assert_eq!(check_marker(&producers, i16::MAX, true), Ok(Verdict::Append));
}

#[test]
fn whoever_waits_for_too_long_is_forgotten() {
    let mut producers = Producers::default();
    let header = transactional(batch(0, 0, 0, 1), 1);
    let admission = apply_for(&mut producers, &header);
    producers.expire(NOW + 9, 10);
    assert_eq!(producers.check(&header, None, client(Some(admission)), true), Ok(Verdict::Append));
    producers.expire(NOW + 10, 10);
    assert!(producers.check(&header, None, client(Some(admission)), true).is_err());
}
