//! Groups that change their kind while they live, and members of both protocols in one group.

use crate::classic_consumer::{ClassicConsumer, assigned};
use crate::consumer_rig::{Consumer, Owned, flat};
use crate::rig::{Client, INITIAL_DELAY, Rig, error, topic_id};
use ottla_coordinator::{Config, ConsumerConfig, MigrationPolicy, Response};
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::consumer_protocol_assignment::{ConsumerProtocolAssignment, TopicPartition};
use ottla_protocol::{Message, Writer};

fn assignment(topic: &str, partitions: &[i32]) -> Vec<u8> {
    let given = TopicPartition { topic: topic.to_string().into(), partitions: partitions.to_vec() };
    let assignment = ConsumerProtocolAssignment { assigned_partitions: vec![given], user_data: None };
    let mut writer = Writer::new();
    writer.i16(0);
    assignment.encode(&mut writer, 0).expect("it fits");
    writer.into_bytes().to_vec()
}

fn policy(policy: MigrationPolicy) -> Rig {
    let consumer = ConsumerConfig { migration_policy: policy, ..Default::default() };
    Rig::with_config(Config { consumer, ..Default::default() })
}

/// A stable classic group of one, which was assigned all of `t`.
fn classic_group(rig: &mut Rig) -> ClassicConsumer {
    let mut consumer = ClassicConsumer::new("old", &["t"]);
    let waiter = rig.join_parked(&mut consumer.client);
    rig.advance(INITIAL_DELAY);
    let joined = rig.joined(waiter);
    consumer.client.generation = joined.generation_id;
    let all: Vec<i32> = (0..8).collect();
    let id = consumer.client.member_id.clone();
    let waiter = rig.sync(&consumer.client, &[(&id, &assignment("t", &all))]);
    let synced = rig.synced(waiter);
    consumer.owned = assigned(rig, &synced.assignment);
    assert_eq!(flat(&consumer.owned).len(), 8);
    consumer
}

#[test]
fn a_group_that_is_not_there_is_told_from_one_of_another_kind() {
    let mut rig = Rig::new();
    let described = |rig: &Rig| rig.coordinator.describe_consumer_group("g", &rig.cluster).error_message;
    let late = Consumer { member_epoch: 1, ..Consumer::new("late", &["t"]) };
    let beaten = |rig: &mut Rig| rig.consumer_request(&late.request(), 1).error_message;
    assert_eq!(described(&rig).as_deref(), Some("Group g not found."));
    assert_eq!(beaten(&mut rig).as_deref(), Some("Consumer group g not found."));
    classic_group(&mut rig);
    assert_eq!(described(&rig).as_deref(), Some("Group g is not a consumer group."));
    assert_eq!(beaten(&mut rig).as_deref(), Some("Group g is not a consumer group."));
}

#[test]
fn a_classic_group_is_upgraded_and_loses_nothing() {
    let mut rig = Rig::new();
    let mut old = classic_group(&mut rig);
    rig.commit(&old.client, &[("t", 1, 11)]);
    let mut new = Consumer::new("new", &["t"]);
    rig.beat(&mut new);
    assert_eq!((rig.consumer_state("g"), new.owns()), ("Reconciling".into(), vec![]));
    assert_eq!(rig.fetch_all("g"), [("t".into(), 1, 11, ErrorCode::None)]);
    rig.check_replay();
    // The old one is told to rebalance, gives up what it has to, and then the new one gets it.
    assert_eq!(rig.heartbeat(&old.client), ErrorCode::RebalanceInProgress);
    assert_eq!(rig.classic_beat(&mut old), ErrorCode::None);
    assert_eq!(flat(&old.owned).len(), 4);
    rig.beat(&mut new);
    assert_eq!(new.owns(), [], "it has not said yet that it gave up");
    assert_eq!(rig.classic_beat(&mut old), ErrorCode::None);
    rig.beat(&mut new);
    assert_eq!(new.owns().len(), 4);
    assert_eq!(rig.classic_beat(&mut old), ErrorCode::None);
    assert_eq!(rig.consumer_state("g"), "Stable");
    rig.check_replay();
    let described = rig.coordinator.describe_consumer_group("g", &rig.cluster);
    let types: Vec<_> = described.members.iter().map(|member| member.member_type).collect();
    assert_eq!(types.iter().sum::<i8>(), 1, "one of each");
    rig.fail_over();
    assert_eq!(rig.classic_beat(&mut old), ErrorCode::None);
    rig.beat(&mut new);
    rig.check_replay();
}

#[test]
fn those_who_wait_for_the_classic_rebalance_hear_of_the_upgrade() {
    let mut rig = Rig::new();
    let old = classic_group(&mut rig);
    let mut late = Client::new("late");
    let parked = rig.join_parked(&mut late);
    assert!(rig.is_waiting(parked));
    let mut new = Consumer::new("new", &["t"]);
    rig.beat(&mut new);
    assert_eq!(error(rig.joined(parked).error_code), ErrorCode::RebalanceInProgress);
    let _ = old;
    rig.check_replay();
}

#[test]
fn a_group_that_can_not_be_upgraded_stays_classic() {
    let check = |rig: &mut Rig| {
        let log = rig.log.len();
        assert_eq!(rig.beat_error(&Consumer::new("new", &["t"])), ErrorCode::GroupIdNotFound);
        assert_eq!((rig.log.len(), rig.state("g")), (log, "Stable".into()));
    };
    let mut rig = policy(MigrationPolicy::Downgrade);
    classic_group(&mut rig);
    check(&mut rig);
    let mut rig = Rig::new();
    let mut connect = [Client { protocol_type: "connect".into(), ..Client::new("c") }];
    rig.stabilize(&mut connect);
    check(&mut rig);
    // An assignment that is none (the rig assigns single bytes).
    let mut rig = Rig::new();
    rig.stabilize(&mut [Client::new("c")]);
    check(&mut rig);
}

#[test]
fn the_last_consumer_that_leaves_downgrades_the_group() {
    let mut rig = Rig::new();
    let mut old = classic_group(&mut rig);
    let mut new = Consumer::new("new", &["t"]);
    for _ in 0..4 {
        rig.beat(&mut new);
        rig.classic_beat(&mut old);
        rig.advance(1_000);
    }
    assert_eq!(flat(&old.owned).len(), 4);
    assert_eq!(rig.leave_consumer(&new, -1), ErrorCode::None);
    assert_eq!(rig.state("g"), "PreparingRebalance");
    assert_eq!(rig.heartbeat(&old.client), ErrorCode::RebalanceInProgress);
    // Joins again, leads, and assigns as classic members do.
    let waiter = rig.join_parked(&mut old.client);
    let joined = rig.joined(waiter);
    assert_eq!((joined.error_code, joined.leader.clone()), (0, joined.member_id.clone()));
    old.client.generation = joined.generation_id;
    let id = old.client.member_id.clone();
    let waiter = rig.sync(&old.client, &[(&id, &assignment("t", &[0, 1]))]);
    assert_eq!(rig.synced(waiter).error_code, 0);
    assert_eq!(rig.state("g"), "Stable");
    rig.check_replay();
}

#[test]
fn silence_of_the_last_consumer_downgrades_too_unless_the_policy_forbids() {
    for (chosen, state) in
        [(MigrationPolicy::Bidirectional, "PreparingRebalance"), (MigrationPolicy::Upgrade, "")]
    {
        let mut rig = policy(chosen);
        let mut old = classic_group(&mut rig);
        let mut new = Consumer::new("new", &["t"]);
        rig.beat(&mut new);
        for _ in 0..10 {
            rig.advance(5_000);
            if rig.coordinator.list_groups(&[], &["consumer".into()]).is_empty() {
                break;
            }
            rig.classic_beat(&mut old);
        }
        match state {
            "" => assert_eq!(rig.consumer_state("g"), "Assigning"),
            state => assert_eq!(rig.state("g"), state),
        }
    }
}

#[test]
fn a_static_member_that_returns_with_the_classic_protocol_downgrades() {
    let mut rig = Rig::new();
    let mut new = Consumer::new("new", &["t"]).with_instance("i");
    rig.beat(&mut new);
    let mut old = ClassicConsumer::new("old", &["t"]).with_instance("i");
    let waiter = rig.join_parked(&mut old.client);
    let joined = rig.joined(waiter);
    assert_eq!(joined.error_code, 0);
    old.client.member_id = joined.member_id.to_string();
    old.client.generation = joined.generation_id;
    assert_eq!(rig.state("g"), "Stable", "the assignment stays: no rebalance");
    let waiter = rig.sync(&old.client, &[]);
    let synced = rig.synced(waiter);
    assert_eq!(flat(&assigned(&rig, &synced.assignment)).len(), 8);
    assert_eq!(rig.heartbeat(&old.client), ErrorCode::None);
    rig.check_replay();
}

#[test]
fn an_empty_group_changes_its_kind_at_once() {
    let mut rig = Rig::new();
    let mut new = Consumer::new("new", &["t"]);
    rig.beat(&mut new);
    rig.commit(&Client { member_id: "new".into(), generation: 2, ..Client::new("x") }, &[("t", 0, 5)]);
    assert_eq!(rig.leave_consumer(&new, -1), ErrorCode::None);
    let mut clients = [Client::new("a")];
    rig.stabilize(&mut clients);
    assert_eq!((rig.state("g"), clients[0].generation), ("Stable".into(), 1));
    assert_eq!(rig.fetch_all("g").len(), 1, "offsets stay");
    rig.check_replay();
    rig.leave(&clients[0]);
    let mut again = Consumer::new("again", &["t"]);
    rig.beat(&mut again);
    assert_eq!((rig.consumer_state("g"), rig.state("g")), ("Stable".into(), "Dead".into()));
    assert_eq!(rig.fetch_all("g").len(), 1, "offsets stay");
    rig.check_replay();
}

#[test]
fn classic_members_are_refused_where_groups_do_not_change_their_kind() {
    let mut rig = policy(MigrationPolicy::Disabled);
    rig.beat(&mut Consumer::new("new", &["t"]));
    assert_eq!(rig.join_error(&Client::new("old")), ErrorCode::InconsistentGroupProtocol);
    let mut rig = Rig::new();
    rig.beat(&mut Consumer::new("new", &["t"]));
    let connect = Client { protocol_type: "connect".into(), ..Client::new("c") };
    assert_eq!(rig.join_error(&connect), ErrorCode::InconsistentGroupProtocol);
    let nonsense =
        Client { protocols: vec![("range".into(), vec![1])], member_id: "m".into(), ..Client::new("c") };
    assert_eq!(rig.join_error(&nonsense), ErrorCode::InconsistentGroupProtocol);
    assert_eq!(rig.join_error(&Client::new("old")), ErrorCode::MemberIdRequired);
    rig.check_replay();
}

#[test]
fn errors_of_classic_members_are_those_of_classic_groups() {
    let mut rig = Rig::new();
    let mut new = Consumer::new("new", &["t"]);
    rig.beat(&mut new);
    let mut old = ClassicConsumer::new("old", &["t"]);
    assert_eq!(rig.classic_beat(&mut old), ErrorCode::None);
    let wrong = Client { generation: 77, ..old.client.clone() };
    assert_eq!(rig.heartbeat(&wrong), ErrorCode::IllegalGeneration);
    assert_eq!(rig.sync_error(&wrong), ErrorCode::IllegalGeneration);
    let unknown = Client { member_id: "who".into(), ..old.client.clone() };
    assert_eq!(rig.heartbeat(&unknown), ErrorCode::UnknownMemberId);
    let not_classic = Client { member_id: "new".into(), generation: new.member_epoch, ..old.client.clone() };
    assert_eq!(rig.heartbeat(&not_classic), ErrorCode::UnknownMemberId);
    assert_eq!(rig.commit(&wrong, &[("t", 0, 1)]), [ErrorCode::IllegalGeneration]);
    assert_eq!(rig.commit(&old.client, &[("t", 0, 1)]), [ErrorCode::None]);
    assert_eq!(rig.leave(&unknown), ErrorCode::UnknownMemberId);
    assert_eq!(rig.leave(&old.client), ErrorCode::None);
    rig.check_replay();
}

#[test]
fn a_classic_member_that_does_not_follow_is_out() {
    let mut rig = Rig::new();
    let mut new = Consumer::new("new", &["t"]);
    rig.beat(&mut new);
    let mut old = ClassicConsumer::new("old", &["t"]);
    old.client.rebalance = 15_000;
    // Joined, and never asks for its assignment.
    let waiter = rig.join_parked(&mut old.client);
    old.client.generation = rig.joined(waiter).generation_id;
    for _ in 0..4 {
        rig.advance(4_000);
        rig.beat(&mut new);
        let _ = rig.heartbeat(&old.client);
    }
    assert_eq!(rig.heartbeat(&old.client), ErrorCode::UnknownMemberId);
    // Asked for it, is told to join again, and only sends heartbeats.
    old.forget();
    assert_eq!(rig.classic_beat(&mut old), ErrorCode::None);
    let heard: Vec<_> = (0..6)
        .map(|_| {
            rig.advance(4_000);
            rig.beat(&mut new);
            rig.heartbeat(&old.client)
        })
        .collect();
    assert!(heard.contains(&ErrorCode::RebalanceInProgress), "{heard:?}");
    assert_eq!(heard.last(), Some(&ErrorCode::UnknownMemberId), "{heard:?}");
    rig.check_replay();
}

#[test]
fn a_classic_member_becomes_a_consumer_under_its_own_id() {
    let mut rig = Rig::new();
    let mut new = Consumer::new("new", &["t"]);
    rig.beat(&mut new);
    let mut old = ClassicConsumer::new("old", &["t"]).with_instance("i");
    for _ in 0..4 {
        rig.classic_beat(&mut old);
        rig.beat(&mut new);
        rig.advance(1_000);
    }
    let mut same = Consumer::new("other", &["t"]).with_instance("i");
    rig.beat(&mut same);
    assert_eq!(same.owns(), flat(&old.owned), "it takes its place");
    let described = rig.coordinator.describe_consumer_group("g", &rig.cluster);
    assert!(described.members.iter().all(|member| member.member_type == 1));
    rig.check_replay();
}

#[test]
fn offsets_are_fenced_by_member_epoch() {
    let mut rig = Rig::new();
    let (mut a, mut b) = (Consumer::new("a", &["t"]), Consumer::new("b", &["t"]));
    rig.beat(&mut a);
    rig.advance(1_000);
    rig.beat(&mut b);
    rig.beat(&mut a);
    rig.beat(&mut a);
    rig.beat(&mut b);
    let as_member = |id: &str, member_epoch: i32| Client {
        member_id: id.into(),
        generation: member_epoch,
        ..Client::new(id)
    };
    let (mine, theirs) = (a.owns()[0].1, b.owns()[0].1);
    let table = [
        (as_member("a", a.member_epoch), vec![mine], ErrorCode::None),
        (as_member("a", a.member_epoch), vec![theirs], ErrorCode::None),
        (as_member("a", a.member_epoch + 1), vec![mine], ErrorCode::StaleMemberEpoch),
        // An epoch behind: good for what it has had since, and for nothing else.
        (as_member("a", a.member_epoch - 1), vec![mine], ErrorCode::None),
        (as_member("a", a.member_epoch - 1), vec![mine, theirs], ErrorCode::StaleMemberEpoch),
        (as_member("b", b.member_epoch - 1), vec![theirs], ErrorCode::StaleMemberEpoch),
        (as_member("z", 1), vec![mine], ErrorCode::UnknownMemberId),
        (as_member("", -1), vec![mine], ErrorCode::UnknownMemberId),
    ];
    for (n, (client, partitions, expected)) in table.iter().enumerate() {
        let offsets: Vec<_> = partitions.iter().map(|partition| ("t", *partition, 7)).collect();
        let errors = rig.commit(client, &offsets);
        assert!(errors.iter().all(|error| error == expected), "case {n}: {errors:?}");
    }
    let request = rig.commit_request(&as_member("a", a.member_epoch), &[("t", mine, 1)]);
    assert_eq!(rig.commit_with(&request, 8), [ErrorCode::UnsupportedVersion]);
    // Fetching as a member, as somebody else, and as nobody in particular.
    let fetch = |rig: &Rig, member: Option<&str>, member_epoch: i32| {
        let asked = ottla_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup {
            group_id: "g".into(),
            member_id: member.map(|id| id.to_string().into()),
            member_epoch,
            topics: None,
        };
        error(rig.coordinator.fetch_offsets(&asked, false, 9, &rig.cluster).error_code)
    };
    assert_eq!(fetch(&rig, Some("a"), a.member_epoch), ErrorCode::None);
    assert_eq!(fetch(&rig, Some("a"), a.member_epoch - 1), ErrorCode::StaleMemberEpoch);
    assert_eq!(fetch(&rig, Some("z"), 1), ErrorCode::UnknownMemberId);
    assert_eq!(fetch(&rig, None, -1), ErrorCode::None);
    // In a transaction: old versions know no stale epochs.
    for (version, expected) in [(5, ErrorCode::IllegalGeneration), (6, ErrorCode::StaleMemberEpoch)] {
        let topic = ottla_protocol::messages::txn_offset_commit_request::TxnOffsetCommitRequestTopic {
            name: "t".into(),
            topic_id: topic_id(1),
            partitions: vec![Default::default()],
        };
        let request = ottla_protocol::messages::txn_offset_commit_request::TxnOffsetCommitRequest {
            group_id: "g".into(),
            member_id: "a".into(),
            generation_id_or_member_epoch: a.member_epoch + 1,
            producer_id: 5,
            topics: vec![topic],
            ..Default::default()
        };
        let waiter = rig.request("p", version, |c, context| c.handle_txn_offset_commit(&request, context));
        let Response::TxnOffsetCommit(response) = rig.answer(waiter) else { panic!("another response") };
        assert_eq!(error(response.topics[0].partitions[0].error_code), expected);
    }
    rig.check_replay();
}

#[test]
fn an_empty_consumer_group_serves_operators() {
    let mut rig = Rig::new();
    let mut a = Consumer::new("a", &["t"]);
    rig.beat(&mut a);
    let member = Client { member_id: "a".into(), generation: 2, ..Client::new("a") };
    rig.commit(&member, &[("t", 0, 5), ("u", 0, 6)]);
    assert_eq!(rig.delete_group("g"), ErrorCode::NonEmptyGroup);
    assert_eq!(rig.leave_consumer(&a, -1), ErrorCode::None);
    let simple = Client { generation: -1, ..Client::new("admin") };
    assert_eq!(rig.commit(&simple, &[("t", 0, 3)]), [ErrorCode::None], "offsets are reset");
    assert_eq!(rig.fetch_all("g").len(), 2);
    assert_eq!(rig.delete_group("g"), ErrorCode::None);
    assert_eq!(rig.coordinator.hard_state(), "");
    rig.check_replay();
}

#[test]
fn offsets_of_topics_that_nobody_reads_expire_and_then_the_group() {
    let mut rig = Rig::new();
    let mut a = Consumer::new("a", &["t"]);
    rig.beat(&mut a);
    let member = Client { member_id: "a".into(), generation: 2, ..Client::new("a") };
    rig.commit(&member, &[("t", 0, 5), ("u", 0, 6)]);
    let retention = rig.config.offsets_retention_ms;
    let mut waited = 0;
    while waited <= retention + 600_000 {
        rig.advance(40_000);
        waited += 40_000;
        rig.beat(&mut a);
    }
    assert_eq!(rig.fetch_all("g"), [("t".into(), 0, 5, ErrorCode::None)]);
    rig.leave_consumer(&a, -1);
    rig.advance(retention * 2);
    assert_eq!(rig.coordinator.hard_state(), "", "nothing is left");
    rig.check_replay();
}

#[test]
fn a_subscription_without_topics_is_a_member_all_the_same() {
    let mut rig = Rig::new();
    let mut consumers = [Consumer::new("a", &[]), Consumer::new("b", &["t"])];
    rig.settle_consumers(&mut consumers);
    assert_eq!((consumers[0].owns().len(), consumers[1].owns().len()), (0, 8));
    assert_eq!(consumers[0].owned, Owned::new());
    rig.check_replay();
}
