//! A quorum of one: it elects itself at once, but only after the epoch is on disk, and commits only what is flushed.

use ottla_raft::*;

use crate::rig::{Book, key, settings};

fn step(raft: &mut Raft, store: &Book, event: Event) -> Vec<Effect> {
    let mut out = Vec::new();
    raft.on(event, 1_000, store, &mut out);
    out
}

#[test]
fn elects_itself_and_commits_what_is_flushed() {
    let mut store = Book::default();
    let mut raft = Raft::new(settings(1, 1, 7), QuorumState::default(), Vec::new());
    assert_eq!(raft.next_deadline(), None);

    // Epoch 1 and the own vote are remembered first; nothing else happens.
    let state = QuorumState { epoch: 1, leader: None, voted: Some(key(1)) };
    assert_eq!(
        step(&mut raft, &store, Event::Start),
        [Effect::PersistQuorumState { sequence: 1, state }, Effect::LeaderChanged { epoch: 1, leader: None },]
    );
    assert_eq!(raft.role(), RoleName::Candidate);

    // Then the epoch begins with its leader-change record.
    let state = QuorumState { leader: Some(1), ..state };
    assert_eq!(
        step(&mut raft, &store, Event::QuorumStatePersisted { sequence: 1 }),
        [
            Effect::AppendLeaderChange {
                epoch: 1,
                voters: vec![1],
                granted_by: vec![1],
                control: Vec::new()
            },
            Effect::FlushLog,
            Effect::PersistQuorumState { sequence: 2, state },
            Effect::LeaderChanged { epoch: 1, leader: Some(1) },
        ]
    );
    store.append(1, 0);
    assert_eq!(raft.high_watermark(), None, "nothing is committed before the first record is flushed");
    assert_eq!(raft.next_deadline(), None, "alone there is nothing to wait for");

    // Proposals may be appended meanwhile; a flush that covers part of them commits that part.
    store.append(1, 10);
    store.append(1, 11);
    assert_eq!(step(&mut raft, &store, Event::Appended { bytes: 1 }), [Effect::FlushLog]);
    assert_eq!(
        step(&mut raft, &store, Event::LogFlushed { end_offset: 1 }),
        [Effect::HighWatermark { offset: 1 }, Effect::BecameLeader { epoch: 1, epoch_start_offset: 0 }],
        "it speaks for the quorum once its first record is committed"
    );
    assert_eq!(step(&mut raft, &store, Event::QuorumStatePersisted { sequence: 2 }), []);
    assert_eq!(
        step(&mut raft, &store, Event::LogFlushed { end_offset: 3 }),
        [Effect::HighWatermark { offset: 3 }]
    );
    assert_eq!(step(&mut raft, &store, Event::LogFlushed { end_offset: 3 }), []);
    assert_eq!(raft.describe(9).expect("a leader").voters[0].log_end_offset, Some(3));
}

#[test]
fn comes_back_in_a_new_epoch_and_commits_what_it_had_with_its_first_record() {
    let mut store = Book::default();
    for value in 0..3 {
        store.append(1, value);
    }
    let before = QuorumState { epoch: 1, leader: Some(1), voted: Some(key(1)) };
    let mut raft = Raft::new(settings(1, 1, 7), before, Vec::new());
    step(&mut raft, &store, Event::Start);
    assert_eq!(raft.epoch(), 2);
    step(&mut raft, &store, Event::QuorumStatePersisted { sequence: 1 });
    assert_eq!(raft.leading_epoch(), Some(2));
    store.append(2, 0);
    assert_eq!(
        step(&mut raft, &store, Event::LogFlushed { end_offset: 3 }),
        [],
        "records of an older epoch are not committed by counting"
    );
    assert_eq!(
        step(&mut raft, &store, Event::LogFlushed { end_offset: 4 }),
        [Effect::HighWatermark { offset: 4 }, Effect::BecameLeader { epoch: 2, epoch_start_offset: 3 }]
    );
}

#[test]
fn a_log_that_is_ahead_of_the_state_file_decides_the_epoch() {
    let mut store = Book::default();
    store.append(8, 0);
    let mut raft =
        Raft::new(settings(1, 1, 7), QuorumState { epoch: 3, leader: None, voted: None }, Vec::new());
    step(&mut raft, &store, Event::Start);
    assert_eq!(raft.epoch(), 9);
}

#[test]
fn resigns_when_told_to() {
    let mut store = Book::default();
    let mut raft = Raft::new(settings(1, 1, 7), QuorumState::default(), Vec::new());
    step(&mut raft, &store, Event::Start);
    step(&mut raft, &store, Event::QuorumStatePersisted { sequence: 1 });
    store.append(1, 0);
    assert_eq!(step(&mut raft, &store, Event::Resign), [Effect::StoppedLeading { epoch: 1 }]);
    assert_eq!(raft.role(), RoleName::Resigned);
    assert!(raft.next_deadline().is_some(), "and will lead again, in another epoch");
    let fetch = FetchRequest {
        request: 1,
        replica: key(9),
        epoch: 1,
        log_end: OffsetAndEpoch { offset: 0, epoch: 0 },
        high_watermark: None,
    };
    step(&mut raft, &store, Event::QuorumStatePersisted { sequence: 2 });
    let out = step(&mut raft, &store, Event::FetchRequest { token: 5, request: fetch });
    let [Effect::RespondFetch { token: 5, response }] = out.as_slice() else { panic!("{out:?}") };
    assert_eq!(response.refusal, Some(Refusal::NotLeader));
}

/// A broker that is no voter fetches the metadata log: it gets records, and its position commits nothing.
#[test]
fn observers_are_served_but_do_not_count() {
    let mut store = Book::default();
    let mut raft = Raft::new(settings(1, 1, 7), QuorumState::default(), Vec::new());
    step(&mut raft, &store, Event::Start);
    step(&mut raft, &store, Event::QuorumStatePersisted { sequence: 1 });
    step(&mut raft, &store, Event::QuorumStatePersisted { sequence: 2 });
    store.append(1, 0);
    store.append(1, 1);
    let fetch = FetchRequest {
        request: 1,
        replica: key(9),
        epoch: 1,
        log_end: OffsetAndEpoch { offset: 2, epoch: 1 },
        high_watermark: None,
    };
    assert_eq!(
        step(&mut raft, &store, Event::FetchRequest { token: 5, request: fetch }),
        [Effect::ServeFetch { token: 5, offset: 2, high_watermark: None }]
    );
    assert_eq!(raft.high_watermark(), None);
}
