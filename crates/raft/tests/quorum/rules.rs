//! Single rules that are easy to get wrong, one voter of three at a time.

use ottla_raft::*;

use crate::rig::{Book, key, leader, settings};

/// One voter whose disk is as fast as thought: every state is persisted and every flush done at once.
struct Voter {
    raft: Raft,
    store: Book,
    now: i64,
}

impl Voter {
    /// Node 1 of three, with this state and these epochs in its log.
    fn new(state: QuorumState, epochs: &[i32]) -> (Voter, Vec<Effect>) {
        let mut store = Book { state, ..Book::default() };
        for (value, epoch) in epochs.iter().enumerate() {
            store.append(*epoch, value as u64);
        }
        let mut voter = Voter { raft: Raft::new(settings(1, 3, 1), state, Vec::new()), store, now: 0 };
        let effects = voter.on(Event::Start);
        (voter, effects)
    }

    /// Takes an event and everything that the disk then does; returns what is left for others to do.
    fn on(&mut self, event: Event) -> Vec<Effect> {
        let mut rest = Vec::new();
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            let mut out = Vec::new();
            self.raft.on(event, self.now, &self.store, &mut out);
            for effect in out {
                match effect {
                    Effect::PersistQuorumState { sequence, state } => {
                        self.store.state = state;
                        events.push(Event::QuorumStatePersisted { sequence });
                    }
                    Effect::AppendLeaderChange { epoch, .. } => self.store.append(epoch, 0),
                    Effect::TruncateLog { end_offset } => {
                        self.store.truncate(end_offset as usize);
                        rest.push(effect);
                    }
                    Effect::FlushLog => {
                        events.insert(0, Event::LogFlushed { end_offset: self.store.log_end_offset() });
                    }
                    other => rest.push(other),
                }
            }
        }
        rest
    }

    fn timeout(&mut self) -> Vec<Effect> {
        self.now = self.raft.next_deadline().expect("a deadline");
        self.on(Event::Timeout)
    }

    fn vote(&mut self, request: VoteRequest) -> VoteResponse {
        let out = self.on(Event::VoteRequest { token: 1, request });
        let answer = out.iter().find_map(|effect| match effect {
            Effect::RespondVote { response, .. } => Some(response.clone()),
            _ => None,
        });
        answer.expect("an answer")
    }

    fn answered(&mut self, from: i32, granted: bool) -> Vec<Effect> {
        let response = VoteResponse { refusal: None, epoch: self.raft.epoch(), leader: None, granted };
        self.on(Event::VoteResponse { from, response })
    }

    /// Node 1 as the elected leader of epoch `state.epoch + 1`.
    fn leading(state: QuorumState, epochs: &[i32]) -> Voter {
        let (mut voter, _) = Voter::new(state, epochs);
        voter.timeout();
        voter.answered(2, true);
        assert_eq!(voter.raft.role(), RoleName::Candidate);
        voter.answered(2, true);
        assert_eq!(voter.raft.role(), RoleName::Leader);
        voter
    }

    fn fetched(&mut self, from: ReplicaKey, offset: i64, epoch: i32) -> Vec<Effect> {
        let request = FetchRequest {
            request: 1,
            replica: from,
            epoch: self.raft.epoch(),
            log_end: OffsetAndEpoch { offset, epoch },
            high_watermark: None,
        };
        self.on(Event::FetchRequest { token: 9, request })
    }
}

fn epoch(epoch: i32) -> QuorumState {
    QuorumState { epoch, leader: None, voted: None }
}

fn ask(from: i32, epoch: i32, log_end: (i64, i32), pre_vote: bool) -> VoteRequest {
    let log_end = OffsetAndEpoch { offset: log_end.0, epoch: log_end.1 };
    VoteRequest { epoch, candidate: key(from), voter: Some(key(1)), log_end, pre_vote }
}

fn sent_fetch(effects: &[Effect]) -> FetchRequest {
    let fetch = effects.iter().find_map(|effect| match effect {
        Effect::SendFetch { request, .. } => Some(*request),
        _ => None,
    });
    fetch.unwrap_or_else(|| panic!("no fetch in {effects:?}"))
}

fn answer(epoch: i32, leads: i32) -> FetchResponse {
    FetchResponse {
        refusal: None,
        epoch,
        leader: Some(leader(leads)),
        high_watermark: None,
        diverging: None,
        snapshot: None,
        records: None,
    }
}

#[test]
fn one_vote_in_an_epoch_and_only_for_a_log_that_is_not_behind() {
    let (mut voter, _) = Voter::new(epoch(2), &[1, 2]);
    assert!(!voter.vote(ask(2, 3, (5, 1), false)).granted, "a longer log of an older epoch is behind");
    assert!(!voter.vote(ask(2, 3, (1, 2), false)).granted, "a shorter log of the same epoch is behind");
    assert!(voter.vote(ask(2, 3, (2, 2), false)).granted);
    assert_eq!(voter.store.state, QuorumState { epoch: 3, leader: None, voted: Some(key(2)) });
    assert!(!voter.vote(ask(3, 3, (9, 2), false)).granted, "the vote is given");
    assert!(voter.vote(ask(2, 3, (2, 2), false)).granted, "the same candidate may ask again");
    let wiped =
        VoteRequest { candidate: ReplicaKey { id: 2, directory_id: [99; 16] }, ..ask(2, 3, (2, 2), false) };
    assert!(!voter.vote(wiped).granted, "another disk is another candidate");
    assert_eq!(voter.vote(ask(3, 2, (9, 1), false)).refusal, Some(Refusal::FencedEpoch));
    assert_eq!(voter.vote(ask(3, 4, (9, 4), false)).refusal, Some(Refusal::InvalidRequest));
    assert_eq!(voter.vote(ask(3, i32::MAX, (9, 3), false)).refusal, Some(Refusal::InvalidRequest));
    let elsewhere = VoteRequest { voter: Some(key(3)), ..ask(2, 4, (2, 2), false) };
    assert_eq!(voter.vote(elsewhere).refusal, Some(Refusal::InvalidVoter));
    assert_eq!(voter.raft.epoch(), 3, "refused requests teach nothing");
}

#[test]
fn a_pre_vote_promises_nothing() {
    let (mut voter, _) = Voter::new(epoch(2), &[1, 2]);
    assert!(voter.vote(ask(2, 2, (2, 2), true)).granted);
    assert!(voter.vote(ask(3, 2, (2, 2), true)).granted);
    assert!(!voter.vote(ask(3, 2, (1, 2), true)).granted);
    assert_eq!(voter.store.state, epoch(2));
}

#[test]
fn a_follower_that_hears_its_leader_gives_no_pre_vote() {
    let state = QuorumState { epoch: 3, leader: Some(2), voted: None };
    let (mut voter, effects) = Voter::new(state, &[1]);
    let fetch = sent_fetch(&effects);
    assert!(voter.vote(ask(3, 3, (1, 1), true)).granted, "it has not heard from the leader yet");
    let out = voter.on(Event::FetchResponse { request: fetch.request, response: answer(3, 2) });
    sent_fetch(&out);
    assert!(!voter.vote(ask(3, 3, (1, 1), true)).granted);
    assert!(!voter.vote(ask(3, 3, (1, 1), false)).granted, "the epoch has a leader");
}

#[test]
fn a_follower_goes_back_to_its_leader_when_nobody_wants_another() {
    let state = QuorumState { epoch: 3, leader: Some(2), voted: None };
    let (mut voter, _) = Voter::new(state, &[1]);
    while voter.raft.role() == RoleName::Follower {
        voter.timeout();
    }
    assert_eq!(voter.raft.role(), RoleName::Prospective);
    voter.answered(2, false);
    voter.answered(3, false);
    assert_eq!(voter.raft.role(), RoleName::Follower);
    assert_eq!(voter.raft.epoch(), 3, "pre-votes leave the epoch alone");
}

#[test]
fn a_loser_waits_for_its_whole_timeout() {
    let (mut voter, _) = Voter::new(epoch(2), &[1]);
    voter.timeout();
    voter.answered(2, true);
    assert_eq!(voter.raft.role(), RoleName::Candidate);
    let start = voter.now;
    voter.answered(2, false);
    voter.answered(3, false);
    assert_eq!(voter.raft.role(), RoleName::Candidate);
    voter.timeout();
    assert!(voter.now >= start + 100);
    assert_eq!(voter.raft.role(), RoleName::Prospective);
    assert_eq!(voter.raft.epoch(), 3, "the epoch grows with pre-votes won, not with time");
}

#[test]
fn a_leader_commits_by_a_record_of_its_own_epoch() {
    let mut voter = Voter::leading(epoch(2), &[1, 2, 2]);
    assert_eq!(voter.raft.epoch(), 3);
    assert_eq!(voter.raft.epoch_start_offset(), Some(3));
    let out = voter.fetched(key(2), 3, 2);
    assert!(!out.iter().any(|effect| matches!(effect, Effect::HighWatermark { .. })), "not the old epoch's");
    let out = voter.fetched(key(2), 4, 3);
    assert!(out.contains(&Effect::HighWatermark { offset: 4 }));
    let out = voter.fetched(key(2), 2, 2);
    assert!(out.contains(&Effect::ServeFetch { token: 9, offset: 2, high_watermark: None }));
    assert_eq!(voter.raft.high_watermark(), Some(4), "a follower that comes back shorter takes nothing back");
}

#[test]
fn a_diverging_or_foreign_log_is_no_receipt() {
    let mut voter = Voter::leading(epoch(4), &[1, 2, 2]);
    let out = voter.fetched(key(2), 4, 4);
    let [Effect::RespondFetch { response, .. }] = out.as_slice() else { panic!("{out:?}") };
    assert_eq!(response.diverging, Some(OffsetAndEpoch { offset: 3, epoch: 2 }));
    let out = voter.fetched(key(2), 3, 1);
    let [Effect::RespondFetch { response, .. }] = out.as_slice() else { panic!("{out:?}") };
    assert_eq!(response.diverging, Some(OffsetAndEpoch { offset: 1, epoch: 1 }));
    let other_disk = ReplicaKey { id: 2, directory_id: [99; 16] };
    voter.fetched(other_disk, 4, 5);
    assert_eq!(voter.raft.high_watermark(), None);
    assert_eq!(voter.raft.describe(0).expect("a leader").voters[1].log_end_offset, None);
}

#[test]
fn a_leader_that_nobody_follows_resigns() {
    let mut voter = Voter::leading(epoch(1), &[]);
    let start = voter.now;
    let mut out = Vec::new();
    for _ in 0..10 {
        if voter.raft.role() == RoleName::Leader {
            assert!(out.iter().all(|effect| matches!(effect, Effect::SendBeginQuorumEpoch { .. })));
            out = voter.timeout();
        }
    }
    assert_eq!((voter.raft.role(), voter.now), (RoleName::Resigned, start + 300));
    assert!(out.contains(&Effect::StoppedLeading { epoch: 2 }));
    assert_eq!(out.iter().filter(|e| matches!(e, Effect::SendEndQuorumEpoch { .. })).count(), 2);
    for _ in 0..10 {
        if voter.raft.role() == RoleName::Resigned {
            voter.timeout();
        }
    }
    assert_eq!((voter.raft.role(), voter.raft.epoch()), (RoleName::Unattached, 3));
}

#[test]
fn a_leader_that_is_followed_stays() {
    let mut voter = Voter::leading(epoch(1), &[]);
    for _ in 0..20 {
        voter.now += 100;
        voter.fetched(key(3), 1, 2);
        voter.on(Event::Timeout);
    }
    assert_eq!(voter.raft.role(), RoleName::Leader);
}

#[test]
fn a_leader_that_comes_back_does_not_lead_its_old_epoch() {
    let state = QuorumState { epoch: 4, leader: Some(1), voted: Some(key(1)) };
    let (mut voter, effects) = Voter::new(state, &[4]);
    assert_eq!(voter.raft.role(), RoleName::Resigned);
    assert_eq!(effects.iter().filter(|e| matches!(e, Effect::SendEndQuorumEpoch { .. })).count(), 2);
    assert!(!voter.vote(ask(2, 4, (9, 3), false)).granted, "its vote in the epoch is given");
    assert!(voter.vote(ask(2, 5, (9, 4), false)).granted);
}

#[test]
fn a_follower_truncates_to_where_the_logs_part() {
    let state = QuorumState { epoch: 5, leader: Some(2), voted: None };
    let (mut voter, effects) = Voter::new(state, &[1, 1, 3, 3, 3]);
    let fetch = sent_fetch(&effects);
    assert_eq!(fetch.log_end, OffsetAndEpoch { offset: 5, epoch: 3 });
    // The leader has epoch 3 up to offset 4, and has committed more than that.
    let response = FetchResponse {
        diverging: Some(OffsetAndEpoch { offset: 4, epoch: 3 }),
        high_watermark: Some(5),
        ..answer(5, 2)
    };
    let out = voter.on(Event::FetchResponse { request: fetch.request, response });
    assert!(out.contains(&Effect::TruncateLog { end_offset: 4 }));
    let again = sent_fetch(&out);
    assert_eq!(again.log_end, OffsetAndEpoch { offset: 4, epoch: 3 });
    assert_eq!(voter.raft.high_watermark(), None, "a log that differs has nothing committed yet");
    // The leader never had epoch 3 after all: back to the end of epoch 1.
    let response = FetchResponse { diverging: Some(OffsetAndEpoch { offset: 9, epoch: 2 }), ..answer(5, 2) };
    let out = voter.on(Event::FetchResponse { request: again.request, response });
    assert_eq!(sent_fetch(&out).log_end, OffsetAndEpoch { offset: 2, epoch: 1 });
    // An answer to a fetch that is not awaited any more changes nothing.
    let response = FetchResponse { diverging: Some(OffsetAndEpoch { offset: 0, epoch: 0 }), ..answer(5, 2) };
    assert_eq!(voter.on(Event::FetchResponse { request: again.request, response }), []);
}

#[test]
fn what_is_committed_is_not_truncated() {
    let state = QuorumState { epoch: 5, leader: Some(2), voted: None };
    let (mut voter, effects) = Voter::new(state, &[1, 1, 3]);
    let response = FetchResponse { high_watermark: Some(9), ..answer(5, 2) };
    let request = sent_fetch(&effects).request;
    let out = voter.on(Event::FetchResponse { request, response });
    assert!(out.contains(&Effect::HighWatermark { offset: 3 }), "as far as the own log reaches");
    let diverging = OffsetAndEpoch { offset: 1, epoch: 1 };
    let response = FetchResponse { diverging: Some(diverging), ..answer(5, 2) };
    let request = sent_fetch(&out).request;
    let out = voter.on(Event::FetchResponse { request, response });
    assert_eq!(out, [Effect::Halt { high_watermark: 3, diverging }]);
    assert_eq!(voter.store.records.len(), 3);
}

#[test]
fn a_leader_that_ends_its_epoch_names_who_stands_next() {
    let mut voter = Voter::leading(epoch(1), &[]);
    voter.fetched(key(3), 1, 2);
    let out = voter.on(Event::Resign);
    let preferred = out.iter().find_map(|effect| match effect {
        Effect::SendEndQuorumEpoch { request, .. } => Some(request.preferred.clone()),
        _ => None,
    });
    assert_eq!(preferred, Some(vec![key(3), key(2)]));
    // The first of them stands at once.
    let state = QuorumState { epoch: 3, leader: Some(2), voted: None };
    let (mut next, _) = Voter::new(state, &[1]);
    let request = EndQuorumEpochRequest { epoch: 3, leader: leader(2), preferred: vec![key(1), key(3)] };
    next.on(Event::EndQuorumEpochRequest { token: 4, request });
    assert_eq!(next.raft.next_deadline(), Some(next.now));
    next.timeout();
    assert_eq!(next.raft.role(), RoleName::Prospective);
}

#[test]
fn an_epoch_has_one_leader_whatever_peers_say() {
    let state = QuorumState { epoch: 3, leader: Some(2), voted: None };
    let (mut voter, _) = Voter::new(state, &[1]);
    let request = BeginQuorumEpochRequest { epoch: 3, leader: leader(3), voter: Some(key(1)) };
    let out = voter.on(Event::BeginQuorumEpochRequest { token: 4, request });
    let [Effect::RespondBeginQuorumEpoch { response, .. }] = out.as_slice() else { panic!("{out:?}") };
    assert_eq!((response.refusal, response.leader.clone()), (Some(Refusal::InvalidRequest), Some(leader(2))));
    let request = BeginQuorumEpochRequest { epoch: 4, leader: leader(3), voter: Some(key(1)) };
    let out = voter.on(Event::BeginQuorumEpochRequest { token: 5, request });
    assert!(out.contains(&Effect::LeaderChanged { epoch: 4, leader: Some(3) }));
    assert_eq!(sent_fetch(&out).epoch, 4);
}

#[test]
fn nothing_leaves_before_it_is_on_disk() {
    let store = Book::default();
    let mut raft = Raft::new(settings(1, 3, 1), QuorumState::default(), Vec::new());
    let mut out = Vec::new();
    raft.on(Event::Start, 0, &store, &mut out);
    raft.on(Event::VoteRequest { token: 1, request: ask(2, 1, (0, 0), false) }, 1, &store, &mut out);
    let granted = |effect: &Effect| matches!(effect, Effect::RespondVote { .. });
    assert!(!out.iter().any(granted), "{out:?}");
    // A later question waits for the same write, and then both answers leave in order.
    raft.on(Event::VoteRequest { token: 2, request: ask(3, 1, (0, 0), false) }, 2, &store, &mut out);
    assert!(!out.iter().any(granted), "{out:?}");
    out.clear();
    raft.on(Event::QuorumStatePersisted { sequence: 1 }, 3, &store, &mut out);
    let [Effect::RespondVote { token: 1, response: yes }, Effect::RespondVote { token: 2, response: no }] =
        out.as_slice()
    else {
        panic!("{out:?}")
    };
    assert!(yes.granted && !no.granted);
}

/// A flush that was under way when a leader lost its epoch covers only a part of the log: the new follower waits for
/// the rest, because its fetch is a receipt.
#[test]
fn a_follower_fetches_only_when_its_whole_log_is_flushed() {
    let mut voter = Voter::leading(epoch(1), &[]);
    voter.store.append(2, 1);
    voter.store.append(2, 2);
    let mut out = Vec::new();
    let begin = BeginQuorumEpochRequest { epoch: 3, leader: leader(2), voter: Some(key(1)) };
    voter.raft.on(Event::BeginQuorumEpochRequest { token: 4, request: begin }, 500, &voter.store, &mut out);
    assert!(out.contains(&Effect::FlushLog) && out.contains(&Effect::StoppedLeading { epoch: 2 }));
    let sequence = out.iter().find_map(|effect| match effect {
        Effect::PersistQuorumState { sequence, .. } => Some(*sequence),
        _ => None,
    });
    let sequence = sequence.expect("the new epoch is remembered");
    out.clear();
    voter.raft.on(Event::QuorumStatePersisted { sequence }, 501, &voter.store, &mut out);
    voter.raft.on(Event::LogFlushed { end_offset: 2 }, 502, &voter.store, &mut out);
    assert!(!out.iter().any(|effect| matches!(effect, Effect::SendFetch { .. })), "{out:?}");
    voter.raft.on(Event::LogFlushed { end_offset: 3 }, 503, &voter.store, &mut out);
    assert_eq!(sent_fetch(&out).log_end, OffsetAndEpoch { offset: 3, epoch: 2 });
}

/// No honest leader answers for an older epoch than it was asked in; a confused one changes nothing.
#[test]
fn an_answer_from_an_older_epoch_is_dropped() {
    let state = QuorumState { epoch: 5, leader: Some(2), voted: None };
    let (mut voter, effects) = Voter::new(state, &[1, 1]);
    let response = FetchResponse { diverging: Some(OffsetAndEpoch { offset: 0, epoch: 0 }), ..answer(4, 2) };
    assert_eq!(voter.on(Event::FetchResponse { request: sent_fetch(&effects).request, response }), []);
    assert_eq!(voter.store.records.len(), 2);
}
