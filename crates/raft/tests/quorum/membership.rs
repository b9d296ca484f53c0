//! Voters that change, and snapshots: one replica at a time.

use ottla_raft::*;

use crate::rig::{Book, endpoints, key, settings, voter, voters};

/// Node 1 of a quorum whose log names its voters.
struct Replica {
    raft: Raft,
    book: Book,
    now: i64,
}

impl Replica {
    fn new(ids: &[i32], alter: impl FnOnce(&mut Settings)) -> (Replica, Vec<Effect>) {
        let mut own = Settings { static_voters: Voters::none(), ..settings(1, 1, 7) };
        alter(&mut own);
        let control = vec![(-1, Control::KRaftVersion(1)), (-1, Control::Voters(voters(ids)))];
        let control = if ids.is_empty() { Vec::new() } else { control };
        let raft = Raft::new(own, QuorumState::default(), control);
        let mut replica = Replica { raft, book: Book::default(), now: 1_000 };
        let out = replica.on(Event::Start);
        (replica, out)
    }

    /// Node 1 as the leader of epoch 1, alone at first.
    fn leading() -> Replica {
        let (replica, _) = Replica::new(&[1], |_| {});
        assert_eq!(replica.raft.high_watermark(), Some(3), "the epoch's first batch has the voters");
        replica
    }

    /// Takes an event, and what a disk does that is as fast as thought.
    fn on(&mut self, event: Event) -> Vec<Effect> {
        let (mut rest, mut events) = (Vec::new(), vec![event]);
        while let Some(event) = events.pop() {
            let mut out = Vec::new();
            self.raft.on(event, self.now, &self.book, &mut out);
            for effect in out {
                match effect {
                    Effect::PersistQuorumState { sequence, .. } => {
                        events.push(Event::QuorumStatePersisted { sequence });
                    }
                    Effect::AppendLeaderChange { epoch, ref control, .. } => {
                        (0..=control.len() as u64).for_each(|value| self.book.append(epoch, value));
                        rest.push(effect);
                    }
                    Effect::AppendControl { epoch, ref control } => {
                        (0..control.len() as u64).for_each(|value| self.book.append(epoch, value));
                        rest.push(effect);
                    }
                    Effect::FlushLog => {
                        events.insert(0, Event::LogFlushed { end_offset: self.book.log_end_offset() });
                    }
                    other => rest.push(other),
                }
            }
        }
        rest
    }

    /// Node 1 becomes the leader of epoch 1 by the vote of another.
    fn win(&mut self, other: i32) {
        self.now = self.raft.next_deadline().expect("it waits for an election");
        let mut out = self.on(Event::Timeout);
        for epoch in [0, 1] {
            let asked = |effect: &Effect| matches!(effect, Effect::SendVote { request, .. } if request.epoch == epoch);
            assert!(out.iter().any(asked), "{out:?}");
            let response = VoteResponse { refusal: None, epoch, leader: None, granted: true };
            out = self.on(Event::VoteResponse { from: other, response });
        }
        assert_eq!(self.raft.role(), RoleName::Leader);
    }

    fn fetched(&mut self, from: i32, offset: i64) -> Vec<Effect> {
        let log_end = OffsetAndEpoch { offset, epoch: 1 };
        let request =
            FetchRequest { request: 1, replica: key(from), epoch: 1, log_end, high_watermark: None };
        self.on(Event::FetchRequest { token: 5, request })
    }

    fn add(&mut self, id: i32, ack_when_committed: bool) -> Vec<Effect> {
        let request = AddVoterRequest { voter: key(id), endpoints: endpoints(id), ack_when_committed };
        let out = self.on(Event::AddVoterRequest { token: 8, request });
        let asked = out.iter().find_map(|effect| match effect {
            Effect::SendApiVersions { request, .. } => Some(*request),
            _ => None,
        });
        let Some(request) = asked else { return out };
        let kraft_versions = Some(VersionRange { min: 0, max: 1 });
        self.on(Event::ApiVersionsResponse { request, kraft_versions })
    }
}

fn refusal(effects: &[Effect]) -> Option<Option<Refusal>> {
    effects.iter().find_map(|effect| match effect {
        Effect::RespondVoters { response, .. } => Some(response.refusal),
        _ => None,
    })
}

#[test]
fn a_voter_is_added_when_it_has_caught_up_and_counts_at_once() {
    let mut leader = Replica::leading();
    assert_eq!(refusal(&leader.add(2, true)), Some(Some(Refusal::TimedOut)), "nobody knows it");
    leader.fetched(2, 3);
    assert_eq!(refusal(&leader.add(2, true)), None, "it is answered when it is committed");
    assert_eq!(leader.raft.voters().len(), 2);
    assert_eq!(leader.raft.high_watermark(), Some(3), "the new voter must have it too");
    assert_eq!(refusal(&leader.add(3, true)), Some(Some(Refusal::TimedOut)), "one change at a time");
    assert_eq!(refusal(&leader.fetched(2, 4)), Some(None));
    assert_eq!(leader.raft.high_watermark(), Some(4));
    assert_eq!(refusal(&leader.add(2, true)), Some(Some(Refusal::DuplicateVoter)));
}

/// KAFKA-16530: it does not count itself, and leaves when its removal is committed.
#[test]
fn a_leader_may_remove_itself() {
    let mut leader = Replica::leading();
    leader.fetched(2, 3);
    leader.add(2, false);
    leader.fetched(2, 4);
    let request = RemoveVoterRequest { voter: key(1) };
    leader.on(Event::RemoveVoterRequest { token: 9, request });
    assert_eq!((leader.raft.is_voter(), leader.raft.role()), (false, RoleName::Leader));
    assert_eq!(leader.raft.high_watermark(), Some(4), "its own log does not count");
    let out = leader.fetched(2, 5);
    assert_eq!(refusal(&out), Some(None));
    assert_eq!((leader.raft.high_watermark(), leader.raft.role()), (Some(5), RoleName::Resigned));
    let told = |effect: &Effect| matches!(effect, Effect::SendEndQuorumEpoch { to, .. } if *to == key(2));
    assert!(out.iter().any(told), "{out:?}");
}

#[test]
fn what_can_not_be_changed_is_refused() {
    let mut leader = Replica::leading();
    let mut remove = |id: i32| {
        let request = RemoveVoterRequest { voter: key(id) };
        refusal(&leader.on(Event::RemoveVoterRequest { token: 9, request }))
    };
    assert_eq!(remove(1), Some(Some(Refusal::VoterNotFound)), "the last voter stays");
    assert_eq!(remove(7), Some(Some(Refusal::VoterNotFound)));
    let stranger = UpdateVoterRequest { epoch: 1, voter: voter(7) };
    let out = leader.on(Event::UpdateVoterRequest { token: 9, request: stranger });
    assert_eq!(refusal(&out), Some(Some(Refusal::VoterNotFound)));
}

#[test]
fn static_voters_get_into_the_log_when_all_have_told_their_disks() {
    let named = Voter {
        key: ReplicaKey { id: 1, directory_id: [0; 16] },
        kraft_versions: VersionRange { min: 0, max: 0 },
        ..voter(1)
    };
    let fixed = Voters::new(vec![named]).expect("one voter");
    let (mut leader, _) = Replica::new(&[], |own| own.static_voters = fixed);
    assert_eq!((leader.raft.kraft_version(), leader.raft.role()), (0, RoleName::Leader));
    assert_eq!(refusal(&leader.add(2, true)), Some(Some(Refusal::UnsupportedVersion)));
    assert_eq!(leader.raft.may_upgrade(1), Ok(()));
    leader.on(Event::UpgradeKRaftVersion { level: 1 });
    assert_eq!(leader.raft.kraft_version(), 1);
    assert_eq!(leader.raft.voters().get(1).map(|voter| voter.key), Some(key(1)));
    let end = leader.book.log_end_offset();
    assert_eq!(leader.raft.may_upgrade(0), Err(Refusal::InvalidUpdateVersion), "there is no way back");
    leader.on(Event::UpgradeKRaftVersion { level: 0 });
    assert_eq!((leader.raft.kraft_version(), leader.book.log_end_offset()), (1, end), "nothing happens");
}

/// Until then the leader knows a voter by its id; afterwards nobody of that id without a disk is described.
#[test]
fn voters_are_known_by_their_disks_after_an_upgrade() {
    let of_file = |id: i32| Voter {
        key: ReplicaKey { id, directory_id: [0; 16] },
        kraft_versions: VersionRange { min: 0, max: 0 },
        ..voter(id)
    };
    let fixed = Voters::new(vec![of_file(1), of_file(2)]).expect("two voters");
    let (mut leader, _) = Replica::new(&[], |own| own.static_voters = fixed);
    leader.win(2);
    leader.fetched(2, 1);
    assert_eq!(leader.raft.high_watermark(), Some(1));
    assert_eq!(leader.raft.may_upgrade(1), Err(Refusal::InvalidUpdateVersion), "nobody knows the disk of 2");
    let request = UpdateVoterRequest { epoch: 1, voter: voter(2) };
    assert_eq!(refusal(&leader.on(Event::UpdateVoterRequest { token: 9, request })), Some(None));
    leader.on(Event::UpgradeKRaftVersion { level: 1 });
    leader.fetched(2, 3);
    assert_eq!(leader.raft.high_watermark(), Some(3));
    let described = leader.raft.describe(leader.now).expect("it leads");
    let keys: Vec<ReplicaKey> = described.voters.iter().map(|replica| replica.key).collect();
    assert_eq!(keys, [key(1), key(2)]);
    assert_eq!(described.observers, []);
}

#[test]
fn an_observer_finds_the_leader_and_asks_to_join() {
    let (mut observer, out) = Replica::new(&[], |own| {
        own.bootstrap_servers = 1;
        own.auto_join = true;
    });
    let [Effect::SendFetch { to: Destination::Bootstrap(0), request }] = out.as_slice() else {
        panic!("{out:?}")
    };
    let response = FetchResponse {
        refusal: Some(Refusal::FencedEpoch),
        epoch: 3,
        leader: Some(Leader { id: 2, endpoints: endpoints(2) }),
        high_watermark: None,
        diverging: None,
        snapshot: None,
        records: None,
    };
    let out = observer.on(Event::FetchResponse { request: request.request, response: response.clone() });
    let sent = out.iter().find_map(|effect| match effect {
        Effect::SendFetch { to: Destination::Leader(leader), request } if leader.id == 2 => Some(*request),
        _ => None,
    });
    let control = vec![(0, Control::KRaftVersion(1)), (1, Control::Voters(voters(&[2])))];
    let end = OffsetAndEpoch { offset: 2, epoch: 3 };
    let records = Some(FetchedRecords { base_offset: 0, first_epoch: 3, end, control });
    let response = FetchResponse { refusal: None, records, ..response };
    let out = observer.on(Event::FetchResponse { request: sent.expect("a fetch").request, response });
    assert!(out.iter().any(|effect| matches!(effect, Effect::AppendFetched { .. })), "{out:?}");
    observer.now += 200;
    let out = observer.on(Event::Timeout);
    let joins =
        |effect: &Effect| matches!(effect, Effect::SendAddVoter { request, .. } if request.voter == key(1));
    assert!(out.iter().any(joins), "{out:?}");
    assert_eq!(observer.raft.role(), RoleName::Follower, "an observer does not stand for election");
}

/// KAFKA-14618, KAFKA-14619.
#[test]
fn a_snapshot_ends_where_a_batch_ends_and_has_committed_records_only() {
    let mut leader = Replica::leading();
    let at = |offset| OffsetAndEpoch { offset, epoch: 1 };
    assert!(leader.raft.may_take_snapshot(at(3), true, &leader.book));
    assert!(!leader.raft.may_take_snapshot(at(2), false, &leader.book), "inside a batch");
    assert!(!leader.raft.may_take_snapshot(OffsetAndEpoch { offset: 3, epoch: 2 }, true, &leader.book));
    leader.book.append(1, 9);
    assert!(!leader.raft.may_take_snapshot(at(4), true, &leader.book), "not committed yet");
}
