//! Whole transactions, as clients make them: each of the three versions, fencing, time-outs, offsets, and a node that dies in between.

use ottla_protocol::ErrorCode;

use super::rig::{Producer, Rig};
use crate::world::Death;

fn bumped((id, epoch): Producer) -> Producer {
    (id, epoch + 1)
}

#[test]
fn a_commit_shows_everything_and_an_abort_nothing() {
    let mut rig = Rig::new(1);
    let producer = rig.init();
    assert_eq!(producer.1, 0);
    rig.produce(producer, 0, 0, &["a", "b"]).unwrap();
    rig.produce(producer, 1, 0, &["c"]).unwrap();
    let open = rig.read(0, true);
    assert_eq!((open.values.len(), open.last_stable_offset, open.high_watermark), (0, 0, 2));
    assert_eq!(rig.read(0, false).values, ["a", "b"], "readers of everything do not wait");
    let next = rig.end(producer, true).unwrap();
    assert_eq!(next, bumped(producer), "every end takes a new epoch");
    rig.assert_settles();
    assert_eq!((rig.committed(0), rig.committed(1)), (vec!["a".into(), "b".into()], vec!["c".into()]));
    assert_eq!(rig.state(), "CompleteCommit");
    rig.produce(next, 0, 0, &["d"]).unwrap();
    rig.produce(next, 1, 0, &["e"]).unwrap();
    assert_eq!(rig.end(next, false), Ok(bumped(next)));
    rig.assert_settles();
    assert_eq!(rig.state(), "CompleteAbort");
    assert_eq!((rig.committed(0).len(), rig.committed(1).len()), (2, 1));
    assert_eq!(rig.read(0, false).values, ["a", "b", "d"]);
}

#[test]
fn a_retried_end_is_answered_as_before_and_ends_nothing_more() {
    let mut rig = Rig::new(2);
    let producer = rig.init();
    rig.produce(producer, 0, 0, &["a"]).unwrap();
    let next = rig.end(producer, true).unwrap();
    rig.pass(1_000);
    assert_eq!(rig.end(producer, true), Ok(next));
    rig.produce(next, 0, 0, &["b"]).unwrap();
    // A straggler of the first transaction, on another connection.
    assert_eq!(rig.end(producer, true), Err(ErrorCode::ProducerFenced));
    assert_eq!(rig.committed(0), ["a"], "it does not commit the second one");
    assert_eq!(rig.end(next, false), Ok(bumped(next)));
    rig.assert_settles();
    assert_eq!(rig.committed(0), ["a"]);
}

#[test]
fn nothing_is_appended_behind_the_end_of_a_transaction() {
    let mut rig = Rig::new(3);
    let producer = rig.init();
    rig.produce(producer, 0, 0, &["a"]).unwrap();
    rig.end(producer, true).unwrap();
    rig.pass(1_000);
    for (partition, sequence) in [(0, 1), (1, 0)] {
        let late = rig.produce(producer, partition, sequence, &["late"]);
        assert_eq!(late, Err(ErrorCode::InvalidProducerEpoch), "partition {partition}");
    }
    rig.assert_settles();
}

#[test]
fn requests_of_one_producer_keep_their_order_while_the_coordinator_is_asked() {
    let mut rig = Rig::new(4);
    let producer = rig.init();
    // All in flight before the first is admitted.
    let tokens: Vec<_> = (0..5).map(|n| rig.send_produce(12, producer, 0, n, &[&format!("v{n}")])).collect();
    let offsets: Vec<_> = tokens.into_iter().map(|token| rig.produced(token, 12).unwrap()).collect();
    assert_eq!(offsets, [0, 1, 2, 3, 4]);
    rig.end(producer, true).unwrap();
    rig.assert_settles();
    assert_eq!(rig.committed(0), ["v0", "v1", "v2", "v3", "v4"]);
}

#[test]
fn the_next_transaction_begins_while_the_markers_of_the_last_one_are_written() {
    let mut rig = Rig::new(5);
    let mut producer = rig.init();
    for n in 0..20 {
        for partition in 0..2 {
            rig.produce(producer, partition, 0, &[&format!("{n}")]).unwrap();
        }
        producer = rig.end(producer, n % 3 != 0).unwrap();
    }
    rig.assert_settles();
    let expected: Vec<String> = (0..20).filter(|n| n % 3 != 0).map(|n| n.to_string()).collect();
    assert_eq!((rig.committed(0), rig.committed(1)), (expected.clone(), expected));
}

#[test]
fn before_version_2_partitions_are_added_by_the_client() {
    let mut rig = Rig::new(6);
    let producer = rig.init();
    let token = rig.send_produce(11, producer, 0, 0, &["a"]);
    assert_eq!(rig.produced(token, 11), Err(ErrorCode::TransactionAbortable), "not added");
    let token = rig.send_produce(9, producer, 0, 0, &["a"]);
    assert_eq!(rig.produced(token, 9), Err(ErrorCode::InvalidTxnState), "not added, for old clients");
    rig.add(producer, &[0]).unwrap();
    let token = rig.send_produce(11, producer, 0, 0, &["a"]);
    assert_eq!(rig.produced(token, 11), Ok(0));
    let token = rig.send_end(4, producer, true);
    assert_eq!(rig.ended(token, 4), Ok((-1, -1)), "the epoch stays");
    rig.assert_settles();
    assert_eq!(rig.committed(0), ["a"]);
    rig.add(producer, &[0]).unwrap();
    let token = rig.send_produce(11, producer, 0, 1, &["b"]);
    assert_eq!(rig.produced(token, 11), Ok(2));
    let token = rig.send_end(4, producer, false);
    rig.ended(token, 4).unwrap();
    rig.assert_settles();
    assert_eq!(rig.committed(0), ["a"]);
    let token = rig.send_produce(11, producer, 0, 2, &["late"]);
    assert_eq!(rig.produced(token, 11), Err(ErrorCode::TransactionAbortable), "after its marker");
    rig.assert_settles();
}

#[test]
fn a_new_producer_aborts_and_fences_the_old_one() {
    let mut rig = Rig::new(7);
    let old = rig.init();
    rig.produce(old, 0, 0, &["half"]).unwrap();
    assert_eq!(rig.init_once(None), Err(ErrorCode::ConcurrentTransactions), "it is being aborted");
    let new = rig.init();
    assert_eq!(new.0, old.0);
    assert!(new.1 > old.1 + 1, "the epoch that fenced is given to nobody");
    assert_eq!(rig.produce(old, 0, 1, &["zombie"]), Err(ErrorCode::InvalidProducerEpoch));
    assert_eq!(rig.produce(old, 1, 0, &["zombie"]), Err(ErrorCode::InvalidProducerEpoch));
    assert_eq!(rig.end(old, true), Err(ErrorCode::ProducerFenced));
    rig.produce(new, 0, 0, &["whole"]).unwrap();
    rig.end(new, true).unwrap();
    rig.assert_settles();
    assert_eq!(rig.committed(0), ["whole"]);
}

#[test]
fn a_transaction_that_takes_too_long_is_aborted_and_its_producer_may_go_on() {
    let mut rig = Rig::new(8);
    let producer = rig.init();
    rig.produce(producer, 0, 0, &["slow"]).unwrap();
    rig.pass(75_000);
    assert_eq!(rig.state(), "CompleteAbort");
    rig.assert_settles();
    assert_eq!(rig.produce(producer, 0, 1, &["slower"]), Err(ErrorCode::InvalidProducerEpoch));
    // KIP-588: the producer says who it was, and is the same one that the abort has fenced.
    let next = rig.init_once(Some(producer)).unwrap();
    rig.produce(next, 0, 0, &["quick"]).unwrap();
    rig.end(next, true).unwrap();
    rig.assert_settles();
    assert_eq!(rig.committed(0), ["quick"]);
}

#[test]
fn offsets_count_when_the_transaction_commits() {
    for version in [3, 5] {
        let mut rig = Rig::new(9);
        let producer = rig.init();
        if version < 5 {
            assert_eq!(rig.commit_offset(version, producer, 7), Err(ErrorCode::InvalidTxnState), "not added");
            rig.add_offsets(producer).unwrap();
        }
        rig.commit_offset(version, producer, 7).unwrap();
        assert_eq!(rig.committed_offset(), Err(ErrorCode::UnstableOffsetCommit));
        let next = rig.end(producer, true).unwrap();
        rig.pass(1_000);
        assert_eq!(rig.committed_offset(), Ok(7));
        if version < 5 {
            rig.add_offsets(next).unwrap();
        }
        rig.commit_offset(version, next, 9).unwrap();
        rig.end(next, false).unwrap();
        rig.pass(1_000);
        assert_eq!(rig.committed_offset(), Ok(7));
        rig.world.restart(Death::Kill).unwrap();
        assert_eq!(rig.committed_offset(), Ok(7), "markers are replayed");
    }
}

#[test]
fn an_abort_without_a_transaction_takes_a_new_epoch() {
    let mut rig = Rig::new(10);
    let producer = rig.init();
    assert_eq!(rig.end(producer, true), Err(ErrorCode::InvalidTxnState));
    assert_eq!(rig.end(producer, false), Ok(bumped(producer)));
    assert_eq!(rig.state(), "CompleteAbort");
    rig.produce(bumped(producer), 0, 0, &["a"]).unwrap();
    rig.end(bumped(producer), true).unwrap();
    rig.assert_settles();
    assert_eq!(rig.committed(0), ["a"]);
}

/// The node dies after every single step of a transaction, in both ways. What was acknowledged stands, what was decided is completed,
/// and nothing stays undecided.
#[test]
fn a_node_may_die_at_any_moment() {
    for death in [Death::Kill, Death::PowerLoss] {
        for fatal in 0..60 {
            let mut rig = Rig::new(100 + fatal);
            let producer = rig.init();
            rig.produce(producer, 0, 0, &["a"]).unwrap();
            rig.produce(producer, 1, 0, &["b"]).unwrap();
            let end = rig.send_end(5, producer, true);
            let mut told = None;
            for _ in 0..fatal {
                let until = rig.world.now + 1_000;
                rig.world.step(until);
                if told.is_none() {
                    told = rig.world.take_answer(end);
                }
            }
            rig.world.restart(death).unwrap();
            rig.pass(1_000);
            let next = match rig.end(producer, true) {
                Ok(next) => next,
                Err(error) => panic!("step {fatal}, {death:?}: the retry is refused: {error:?}"),
            };
            rig.assert_settles();
            assert_eq!((rig.committed(0), rig.committed(1)), (vec!["a".into()], vec!["b".into()]), "{fatal}");
            rig.produce(next, 0, 0, &["c"]).unwrap();
            rig.end(next, true).unwrap();
            rig.assert_settles();
            assert_eq!(rig.committed(0), ["a", "c"], "step {fatal}, {death:?}");
        }
    }
}

#[test]
fn an_open_transaction_survives_its_node_and_is_aborted_when_its_time_is_up() {
    let mut rig = Rig::new(12);
    let producer = rig.init();
    rig.produce(producer, 0, 0, &["a"]).unwrap();
    rig.world.restart(Death::Kill).unwrap();
    assert_eq!(rig.state(), "Ongoing");
    rig.produce(producer, 0, 1, &["b"]).unwrap();
    rig.world.restart(Death::PowerLoss).unwrap();
    rig.pass(80_000);
    assert_eq!(rig.state(), "CompleteAbort");
    rig.assert_settles();
    assert_eq!(rig.committed(0), Vec::<String>::new());
}
