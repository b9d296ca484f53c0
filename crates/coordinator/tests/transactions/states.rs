//! Every request in every state: the table of `TransactionCoordinator` of Kafka 4.4.

use ottla_coordinator::TransactionVersion;
use ottla_coordinator::transaction::MarkerResult;
use ottla_protocol::ErrorCode::{self, *};

use crate::rig::{Producer, Rig};

const ID: &str = "id";

/// A state that a transactional id can be found in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Unknown,
    Empty,
    Ongoing,
    PrepareCommit,
    PrepareAbort,
    CompleteCommit,
    CompleteAbort,
}

const STATES: [State; 7] = [
    State::Unknown,
    State::Empty,
    State::Ongoing,
    State::PrepareCommit,
    State::PrepareAbort,
    State::CompleteCommit,
    State::CompleteAbort,
];

/// A coordinator whose id is in the state, and the producer that is current there. It is not at its first epoch, so that there is one
/// before it, and partition 0 belongs to its transaction.
fn reach(state: State, version: TransactionVersion) -> (Rig, Producer) {
    let mut rig = Rig::new(version);
    if state == State::Unknown {
        return (rig, (1_000, 1));
    }
    rig.init(ID, Option::None).expect("the first producer");
    let mut producer = rig.init(ID, Option::None).expect("the second one");
    if state != State::Empty {
        assert_eq!(rig.add(ID, producer, 0), None);
    }
    if !matches!(state, State::Empty | State::Ongoing) {
        let commits = matches!(state, State::PrepareCommit | State::CompleteCommit);
        let end_version = if version.bumps_epoch() { 5 } else { 4 };
        let next = rig.end(end_version, ID, producer, commits).expect("it is open");
        if version.bumps_epoch() {
            producer = next;
        }
    }
    if matches!(state, State::CompleteCommit | State::CompleteAbort) {
        rig.write_markers(MarkerResult::Done);
    }
    assert_eq!(rig.state(ID), format!("{state:?}"));
    (rig, producer)
}

/// What a request gets in each of [`STATES`]. Every cell has a coordinator of its own.
fn check(
    what: &str,
    version: TransactionVersion,
    expected: [ErrorCode; 7],
    ask: impl Fn(&mut Rig, Producer) -> ErrorCode,
) {
    for (state, expected) in STATES.into_iter().zip(expected) {
        let (mut rig, producer) = reach(state, version);
        assert_eq!(ask(&mut rig, producer), expected, "{what} in {state:?}, {version:?}");
    }
}

/// The same error in every state, but while markers are written everybody waits. (Kafka: `pendingTransitionInProgress`, which is looked at
/// before id and epoch.)
fn waiting(error: ErrorCode) -> [ErrorCode; 7] {
    let mut cells = [error; 7];
    (cells[0], cells[3], cells[4]) =
        (InvalidProducerIdMapping, ConcurrentTransactions, ConcurrentTransactions);
    cells
}

fn error<T>(result: Result<T, ErrorCode>) -> ErrorCode {
    result.err().unwrap_or(None)
}

const V1: TransactionVersion = TransactionVersion::V1;
const V2: TransactionVersion = TransactionVersion::V2;

#[test]
fn init_producer_id() {
    for version in [TransactionVersion::V0, V1, V2] {
        let cells = [
            None,
            None,
            // The former transaction is aborted first.
            ConcurrentTransactions,
            ConcurrentTransactions,
            ConcurrentTransactions,
            None,
            None,
        ];
        check("a new producer", version, cells, |rig, _| error(rig.init(ID, Option::None)));
        check("the current one goes on", version, cells, |rig, current| error(rig.init(ID, Some(current))));
        let stale = [
            // Nobody is known, so whoever comes is let in.
            None,
            ProducerFenced,
            ConcurrentTransactions,
            ConcurrentTransactions,
            ConcurrentTransactions,
            ProducerFenced,
            ProducerFenced,
        ];
        check("one that is long gone", version, stale, |rig, (id, epoch)| {
            error(rig.init(ID, Some((id, epoch + 7))))
        });
        let mut stranger = waiting(ProducerFenced);
        stranger[0] = None;
        check("another producer id", version, stranger, |rig, (id, epoch)| {
            error(rig.init(ID, Some((id + 7, epoch))))
        });
    }
}

#[test]
fn a_retry_of_init_producer_id_is_told_the_same_again() {
    let (mut rig, current) = reach(State::Empty, V2);
    let next = rig.init(ID, Some(current)).expect("it goes on");
    assert_eq!(rig.init(ID, Some(current)), Ok(next));
    // A new producer in between fences it.
    rig.init(ID, Option::None).expect("another one");
    assert_eq!(rig.init(ID, Some(current)), Err(ProducerFenced));
}

#[test]
fn add_partitions_and_offsets() {
    let current =
        [InvalidProducerIdMapping, None, None, ConcurrentTransactions, ConcurrentTransactions, None, None];
    let stale = waiting(ProducerFenced);
    let stranger = waiting(InvalidProducerIdMapping);
    for version in [TransactionVersion::V0, V1, V2] {
        check("a partition", version, current, |rig, producer| rig.add(ID, producer, 1));
        check("the same again", version, current, |rig, producer| {
            rig.add(ID, producer, 1);
            rig.add(ID, producer, 1)
        });
        check("offsets", version, current, |rig, producer| rig.add_offsets(ID, producer));
        for step in [-1, 1] {
            let other = |(id, epoch): Producer| (id, epoch + step);
            check("of another epoch", version, stale, |rig, producer| rig.add(ID, other(producer), 1));
            check("offsets of another epoch", version, stale, |rig, producer| {
                rig.add_offsets(ID, other(producer))
            });
        }
        check("of another id", version, stranger, |rig, (id, epoch)| rig.add(ID, (id + 7, epoch), 1));
        check("offsets of another id", version, stranger, |rig, (id, epoch)| {
            rig.add_offsets(ID, (id + 7, epoch))
        });
        check("without an id", version, [InvalidRequest; 7], |rig, producer| rig.add("", producer, 1));
    }
}

#[test]
fn verification() {
    for version in [TransactionVersion::V0, V1, V2] {
        let part = [
            InvalidProducerIdMapping,
            TransactionAbortable,
            None,
            ConcurrentTransactions,
            ConcurrentTransactions,
            TransactionAbortable,
            TransactionAbortable,
        ];
        check("a partition of the transaction", version, part, |rig, producer| rig.verify(ID, producer, 0));
        let no_part = [part[0], part[1], TransactionAbortable, part[3], part[4], part[5], part[6]];
        check("another partition", version, no_part, |rig, producer| rig.verify(ID, producer, 1));
        let mut stale = [ProducerFenced; 7];
        stale[0] = InvalidProducerIdMapping;
        check("of another epoch", version, stale, |rig, (id, epoch)| rig.verify(ID, (id, epoch - 1), 0));
        check("of another id", version, [InvalidProducerIdMapping; 7], |rig, (id, epoch)| {
            rig.verify(ID, (id + 7, epoch), 0)
        });
        check("without an id", version, [InvalidRequest; 7], |rig, producer| rig.verify("", producer, 0));
    }
}

#[test]
fn an_end_by_older_rules() {
    for version in [TransactionVersion::V0, V1] {
        let commit = [
            InvalidProducerIdMapping,
            InvalidTxnState,
            None,
            ConcurrentTransactions,
            ConcurrentTransactions,
            None,
            InvalidTxnState,
        ];
        check("commit", version, commit, |rig, producer| error(rig.end(4, ID, producer, true)));
        let abort = [
            InvalidProducerIdMapping,
            InvalidTxnState,
            None,
            ConcurrentTransactions,
            ConcurrentTransactions,
            InvalidTxnState,
            None,
        ];
        check("abort", version, abort, |rig, producer| error(rig.end(4, ID, producer, false)));
        for commits in [true, false] {
            let stale = waiting(ProducerFenced);
            for step in [-1, 1] {
                check("an end of another epoch", version, stale, |rig, (id, epoch)| {
                    error(rig.end(4, ID, (id, epoch + step), commits))
                });
            }
            check("an end of another id", version, waiting(InvalidProducerIdMapping), |rig, (id, epoch)| {
                error(rig.end(4, ID, (id + 7, epoch), commits))
            });
        }
    }
}

#[test]
fn an_end_by_rules_of_version_2() {
    let current_commit = [
        InvalidProducerIdMapping,
        InvalidTxnState,
        None,
        ConcurrentTransactions,
        ConcurrentTransactions,
        InvalidTxnState,
        InvalidTxnState,
    ];
    check("commit", V2, current_commit, |rig, producer| error(rig.end(5, ID, producer, true)));
    let current_abort =
        [InvalidProducerIdMapping, None, None, ConcurrentTransactions, ConcurrentTransactions, None, None];
    check("abort", V2, current_abort, |rig, producer| error(rig.end(5, ID, producer, false)));
    let retried_commit = [
        InvalidProducerIdMapping,
        ProducerFenced,
        ProducerFenced,
        ConcurrentTransactions,
        ConcurrentTransactions,
        None,
        InvalidTxnState,
    ];
    check("commit, again", V2, retried_commit, |rig, (id, epoch)| {
        error(rig.end(5, ID, (id, epoch - 1), true))
    });
    let retried_abort = [
        InvalidProducerIdMapping,
        ProducerFenced,
        ProducerFenced,
        ConcurrentTransactions,
        ConcurrentTransactions,
        InvalidTxnState,
        None,
    ];
    check("abort, again", V2, retried_abort, |rig, (id, epoch)| {
        error(rig.end(5, ID, (id, epoch - 1), false))
    });
    for commits in [true, false] {
        for step in [-2, 1] {
            check("an end of another epoch", V2, waiting(ProducerFenced), |rig, (id, epoch)| {
                error(rig.end(5, ID, (id, epoch + step), commits))
            });
        }
        check("an end of another id", V2, waiting(InvalidProducerIdMapping), |rig, (id, epoch)| {
            error(rig.end(5, ID, (id + 7, epoch), commits))
        });
        check("an end without an id", V2, [InvalidRequest; 7], |rig, producer| {
            error(rig.end(5, "", producer, commits))
        });
    }
}

#[test]
fn an_end_of_version_2_gives_the_next_epoch_and_its_retry_the_same() {
    let (mut rig, producer) = reach(State::Ongoing, V2);
    let next = rig.end(5, ID, producer, true).expect("it is open");
    assert_eq!(next, (producer.0, producer.1 + 1));
    rig.write_markers(MarkerResult::Done);
    assert_eq!(rig.end(5, ID, producer, true), Ok(next));
    // An abort of nothing takes an epoch too.
    assert_eq!(rig.end(5, ID, next, false), Ok((next.0, next.1 + 1)));
    assert_eq!(rig.state(ID), "CompleteAbort");
}

#[test]
fn an_end_of_older_versions_says_no_producer() {
    let (mut rig, producer) = reach(State::Ongoing, V1);
    assert_eq!(rig.end(4, ID, producer, true), Ok((-1, -1)));
}

#[test]
fn older_clients_are_told_of_fencing_by_an_error_that_they_know() {
    let (mut rig, (id, epoch)) = reach(State::Ongoing, V1);
    assert_eq!(rig.end(1, ID, (id, epoch - 1), true), Err(InvalidProducerEpoch));
    assert_eq!(rig.end(2, ID, (id, epoch - 1), true), Err(ProducerFenced));
}

#[test]
fn init_producer_id_refuses_what_it_can_not_do() {
    use ottla_protocol::messages::init_producer_id_request::InitProducerIdRequest;
    let good = || InitProducerIdRequest {
        transactional_id: Some(ID.into()),
        transaction_timeout_ms: 1_000,
        producer_id: -1,
        producer_epoch: -1,
        ..Default::default()
    };
    let cases = [
        (InitProducerIdRequest { transactional_id: Some("".into()), ..good() }, InvalidRequest),
        (InitProducerIdRequest { producer_id: 5, ..good() }, InvalidRequest),
        (InitProducerIdRequest { producer_epoch: 5, ..good() }, InvalidRequest),
        (InitProducerIdRequest { transaction_timeout_ms: 0, ..good() }, InvalidTransactionTimeout),
        (InitProducerIdRequest { transaction_timeout_ms: 900_001, ..good() }, InvalidTransactionTimeout),
        (InitProducerIdRequest { enable2_pc: true, ..good() }, TransactionalIdAuthorizationFailed),
        (InitProducerIdRequest { keep_prepared_txn: true, ..good() }, UnsupportedVersion),
    ];
    for (request, expected) in cases {
        assert_eq!(Rig::new(V2).init_with(6, &request), Err(expected), "{request:?}");
    }
}

#[test]
fn an_append_that_fails_changes_nothing() {
    let (mut rig, producer) = reach(State::Ongoing, V2);
    rig.fail_next = Some(NotEnoughReplicas);
    assert_eq!(rig.end(5, ID, producer, true), Err(CoordinatorNotAvailable));
    assert_eq!(rig.state(ID), "Ongoing");
    assert!(rig.markers.is_empty());
    assert_eq!(rig.end(5, ID, producer, true), Ok((producer.0, producer.1 + 1)));
}
