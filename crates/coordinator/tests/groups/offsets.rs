//! Committing, fetching, expiring and deleting offsets.

use crate::rig::{Client, Logged, REBALANCE, Rig, START, error, subscription, topic_id};
use ottla_coordinator::{Config, offset_fetch_error, offset_fetch_groups, offset_fetch_response};
use ottla_protocol::messages::offset_commit_request::OffsetCommitRequest;
use ottla_protocol::messages::offset_fetch_request::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use ottla_protocol::{ErrorCode, Uuid};

const DAY: i64 = 24 * 60 * 60 * 1_000;
const OK: ErrorCode = ErrorCode::None;

fn row(topic: &str, partition: i32, offset: i64) -> (String, i32, i64, ErrorCode) {
    (topic.to_string(), partition, offset, OK)
}

#[test]
fn a_consumer_without_a_group_keeps_offsets() {
    let mut rig = Rig::new();
    let simple = Client::new("simple");
    assert_eq!(rig.commit(&simple, &[("t", 1, 10), ("u", 0, 5), ("t", 0, 7)]), [OK; 3]);
    assert_eq!(rig.fetch_all("g"), [row("t", 0, 7), row("t", 1, 10), row("u", 0, 5)]);
    assert_eq!(rig.state("g"), "Empty");
    assert_eq!(rig.commit(&simple, &[("t", 1, 3)]), [OK], "back is a direction too");
    assert_eq!(rig.fetch_all("g")[1], row("t", 1, 3));
    let unnamed = simple.in_group("");
    assert_eq!(rig.commit(&unnamed, &[("t", 0, 1)]), [OK]);
    assert_eq!(rig.fetch_all(""), [row("t", 0, 1)]);
    rig.check_replay();
}

#[test]
fn members_commit_in_their_generation_and_others_do_not() {
    let mut rig = Rig::new();
    let mut clients = [Client::new("a"), Client::new("b")];
    rig.stabilize(&mut clients);
    let [a, b] = clients.clone();
    let offsets = [("t", 0, 1)];
    assert_eq!(rig.commit(&a, &offsets), [OK]);
    assert_eq!(rig.commit(&Client { generation: 9, ..a.clone() }, &offsets), [ErrorCode::IllegalGeneration]);
    let stranger = Client { member_id: "x".into(), ..a.clone() };
    assert_eq!(rig.commit(&stranger, &offsets), [ErrorCode::UnknownMemberId]);
    assert_eq!(rig.commit(&Client::new("nobody"), &offsets), [ErrorCode::UnknownMemberId]);
    rig.leave(&b);
    assert_eq!(rig.commit(&a, &offsets), [OK], "during the join phase members finish their work");
    let waiter = rig.join(&a);
    let joined = rig.joined(waiter);
    let a = Client { generation: joined.generation_id, ..a };
    assert_eq!(
        rig.commit(&a, &offsets),
        [ErrorCode::RebalanceInProgress],
        "in the sync phase they own nothing"
    );
    rig.leave(&a);
    assert_eq!(rig.commit(&Client::new("operator"), &offsets), [OK], "an empty group may be reset");
    rig.check_replay();
}

#[test]
fn a_generation_of_a_group_that_is_not_there() {
    let mut rig = Rig::new();
    let lost = Client { member_id: "x".into(), generation: 3, ..Client::new("lost") };
    let request = rig.commit_request(&lost, &[("t", 0, 1)]);
    assert_eq!(rig.commit_with(&request, 8), [ErrorCode::IllegalGeneration]);
    assert_eq!(rig.commit_with(&request, 9), [ErrorCode::GroupIdNotFound]);
    assert_eq!(rig.state("g"), "Dead");
}

#[test]
fn what_does_not_exist_is_refused_alone() {
    let mut rig = Rig::new();
    rig.cluster.forbidden.push("v".into());
    let simple = Client::new("simple");
    let offsets = [("t", 0, 1), ("gone", 0, 1), ("t", 8, 1), ("v", 0, 1), ("u", 3, 2)];
    let unknown = ErrorCode::UnknownTopicOrPartition;
    let expected = [OK, unknown, unknown, ErrorCode::TopicAuthorizationFailed, OK];
    assert_eq!(rig.commit(&simple, &offsets), expected);
    assert_eq!(rig.fetch_all("g").len(), 2);
    // With nothing else to do the group is not looked at: no UNKNOWN_MEMBER_ID here.
    let stranger = Client { member_id: "x".into(), generation: 1, ..simple };
    assert_eq!(rig.commit(&stranger, &[("gone", 0, 1)]), [unknown]);
    let request = rig.commit_request(&stranger, &[("gone", 0, 1), ("t", 0, 5)]);
    assert_eq!(rig.commit_with(&request, 10), [ErrorCode::UnknownTopicId, ErrorCode::UnknownMemberId]);
}

#[test]
fn a_note_may_be_so_long() {
    let mut rig = Rig::new();
    let mut request = rig.commit_request(&Client::new("simple"), &[("t", 0, 1), ("t", 1, 1), ("t", 2, 1)]);
    request.topics[0].partitions[0].committed_metadata = Some("x".repeat(4_096).into());
    request.topics[1].partitions[0].committed_metadata = Some("x".repeat(4_097).into());
    request.topics[2].partitions[0].committed_metadata = Some("é".repeat(4_096).into());
    assert_eq!(rig.commit_with(&request, 9), [OK, ErrorCode::OffsetMetadataTooLarge, OK]);
    rig.check_replay();
}

#[test]
fn fetch_answers_every_version_in_its_shape() {
    let mut rig = Rig::new();
    rig.commit(&Client::new("simple"), &[("t", 1, 10)]);
    // 1-7: one group at the top.
    let topic = OffsetFetchRequestTopic { name: "t".into(), partition_indexes: vec![1, 2] };
    let request =
        OffsetFetchRequest { group_id: "g".into(), topics: Some(vec![topic]), ..Default::default() };
    let groups = offset_fetch_groups(&request, 5);
    let fetched = rig.coordinator.fetch_offsets(&groups[0], false, 5, &rig.cluster);
    let response = offset_fetch_response(vec![fetched], 5);
    let found = &response.topics[0].partitions;
    assert_eq!((found[0].committed_offset, found[0].committed_leader_epoch), (10, 7));
    assert_eq!(found[0].metadata.as_deref(), Some("note"));
    let missing = (found[1].partition_index, found[1].committed_offset, found[1].error_code);
    assert_eq!(missing, (2, -1, 0), "an offset that is not there is not an error");
    assert_eq!(found[1].metadata.as_deref(), Some(""));
    // A refused group: in every partition, at the top, or in the group.
    for (version, expected) in [(1, [0, 16]), (2, [16, 0]), (8, [0, 0])] {
        let refused = offset_fetch_error(&groups[0], ErrorCode::NotCoordinator, version);
        let response = offset_fetch_response(vec![refused], version);
        let in_partition = response.topics.first().map_or(0, |topic| topic.partitions[0].error_code);
        assert_eq!([response.error_code, in_partition], expected, "version {version}");
        assert_eq!(response.groups.first().map(|group| group.error_code), (version == 8).then_some(16));
    }
    // 8+: groups; one that does not exist has no offsets.
    let group = |id: &'static str, topics| OffsetFetchRequestGroup {
        group_id: id.into(),
        topics,
        ..Default::default()
    };
    let asked =
        vec![OffsetFetchRequestTopics { name: "t".into(), partition_indexes: vec![1], ..Default::default() }];
    let nowhere = rig.coordinator.fetch_offsets(&group("nowhere", Some(asked)), false, 8, &rig.cluster);
    assert_eq!((nowhere.error_code, nowhere.topics[0].partitions[0].committed_offset), (0, -1));
    let nowhere = rig.coordinator.fetch_offsets(&group("nowhere", None), false, 8, &rig.cluster);
    assert!(nowhere.topics.is_empty());
}

#[test]
fn topic_ids_are_names_that_are_not_used_again() {
    let mut rig = Rig::new();
    let request = rig.commit_request(&Client::new("simple"), &[("t", 0, 1), ("u", 0, 2)]);
    assert_eq!(rig.commit_with(&request, 10), [OK, OK]);
    let by_id = |id: Uuid| OffsetFetchRequestGroup {
        group_id: "g".into(),
        topics: Some(vec![OffsetFetchRequestTopics {
            topic_id: id,
            partition_indexes: vec![0],
            ..Default::default()
        }]),
        ..Default::default()
    };
    let fetch = |rig: &Rig, id| {
        let fetched = rig.coordinator.fetch_offsets(&by_id(id), false, 10, &rig.cluster);
        assert_eq!(fetched.topics[0].topic_id, id);
        let partition = &fetched.topics[0].partitions[0];
        (partition.committed_offset, error(partition.error_code))
    };
    assert_eq!(fetch(&rig, topic_id(1)), (1, OK));
    assert_eq!(fetch(&rig, topic_id(9)), (-1, ErrorCode::UnknownTopicId));
    // The topic is deleted and made anew before its offsets are cleaned up: they are not those of the new one.
    rig.cluster.topics.insert("t".into(), (topic_id(9), 8));
    assert_eq!(fetch(&rig, topic_id(9)), (-1, OK));
    let all = OffsetFetchRequestGroup { group_id: "g".into(), topics: None, ..Default::default() };
    rig.cluster.topics.remove("u");
    let fetched = rig.coordinator.fetch_offsets(&all, false, 10, &rig.cluster);
    assert_eq!(fetched.topics.len(), 1, "who only knows ids can not be told of a topic without one");
}

#[test]
fn offsets_of_an_empty_group_expire_together() {
    let mut rig = Rig::new();
    let mut clients = [Client::new("a")];
    rig.stabilize(&mut clients);
    rig.commit(&clients[0], &[("t", 0, 1), ("u", 0, 1)]);
    for _ in 0..20 {
        for _ in 0..(DAY / 5_000 / 200) {
            rig.advance(5_000);
            rig.heartbeat(&clients[0]);
        }
    }
    rig.leave(&clients[0]);
    let left = rig.now;
    rig.advance(7 * DAY - 1);
    assert_eq!(rig.fetch_all("g").len(), 2, "the retention starts when the group becomes empty");
    rig.advance(rig.config.offsets_retention_check_interval_ms + 1);
    assert_eq!(rig.fetch_all("g"), []);
    assert!(rig.now - left < 7 * DAY + 1_200_000);
    rig.advance(rig.config.offsets_retention_check_interval_ms);
    assert_eq!(rig.state("g"), "Dead", "nothing is left of it");
    rig.check_replay();
}

#[test]
fn an_active_group_keeps_what_it_subscribes_to() {
    let mut rig = Rig::with_config(Config { offsets_retention_ms: 100_000, ..Config::default() });
    let mut clients = [Client { session: 1_800_000, ..Client::new("a").with_topics(&["t"]) }];
    rig.stabilize(&mut clients);
    rig.commit(&clients[0], &[("t", 0, 1), ("u", 0, 1)]);
    rig.advance(700_000);
    assert_eq!(rig.fetch_all("g"), [row("t", 0, 1)]);
    // A subscription that can not be read protects everything.
    let mut clients = [Client { session: 1_800_000, ..Client::new("b").in_group("h") }];
    clients[0].protocols = vec![("range".into(), b"?".to_vec())];
    rig.stabilize(&mut clients);
    rig.commit(&clients[0], &[("u", 0, 1)]);
    rig.advance(700_000);
    assert_eq!(rig.fetch_all("h"), [row("u", 0, 1)]);
    rig.check_replay();
}

#[test]
fn simple_offsets_expire_one_by_one_and_a_wish_is_a_wish() {
    let mut rig = Rig::with_config(Config { offsets_retention_ms: 1_000_000, ..Config::default() });
    let simple = Client::new("simple");
    rig.commit(&simple, &[("t", 0, 1)]);
    let request = rig.commit_request(&simple, &[("t", 1, 1)]);
    let wish = OffsetCommitRequest { retention_time_ms: 5_000_000, ..request };
    assert_eq!(rig.commit_with(&wish, 4), [OK]);
    rig.advance(900_000);
    rig.commit(&simple, &[("t", 2, 1)]);
    rig.advance(400_000);
    let left: Vec<_> = rig.fetch_all("g").into_iter().map(|(_, partition, ..)| partition).collect();
    assert_eq!(left, [1, 2]);
    rig.check_replay();
    rig.advance(4_500_000);
    assert_eq!(rig.fetch_all("g"), []);
    assert_eq!(rig.state("g"), "Dead");
    rig.check_replay();
}

#[test]
fn much_expires_in_bounded_bites() {
    let mut rig = Rig::with_config(Config { cleanup_records_max: 3, ..Config::default() });
    rig.cluster.topics.insert("wide".into(), (topic_id(7), 100));
    let simple = Client::new("simple");
    for partition in 0..20 {
        rig.commit(&simple, &[("wide", partition, 1)]);
    }
    let written = rig.log.len();
    rig.now += 8 * DAY;
    let outcome = rig.coordinator.on_timeout(rig.now, &rig.cluster);
    assert_eq!(outcome.records.len(), 3);
    rig.settle(outcome);
    assert_eq!(rig.coordinator.next_deadline(), Some(rig.now), "the rest follows at once");
    rig.advance(0);
    assert_eq!((rig.log.len() - written, rig.state("g")), (20 + 1, "Dead".into()));
    rig.check_replay();
}

#[test]
fn a_deleted_topic_takes_its_offsets_with_it() {
    let mut rig = Rig::with_config(Config { cleanup_records_max: 2, ..Config::default() });
    for group in ["g", "h"] {
        let simple = Client::new("simple").in_group(group);
        rig.commit(&simple, &[("t", 0, 1), ("t", 1, 1), ("u", 0, 1)]);
    }
    let outcome = rig.coordinator.on_topics_deleted(&[(topic_id(9), "t"), (topic_id(1), "t")], rig.now);
    rig.fail_next = Some(ErrorCode::NotEnoughReplicas);
    rig.settle(outcome);
    assert_eq!(rig.fetch_all("g").len(), 3);
    rig.advance(rig.config.offsets_retention_check_interval_ms);
    for group in ["g", "h"] {
        assert_eq!(rig.fetch_all(group), [row("u", 0, 1)]);
    }
    let outcome = rig.coordinator.on_topics_deleted(&[(topic_id(9), "u")], rig.now);
    assert!(outcome.records.is_empty(), "another topic of that name");
    rig.check_replay();
}

#[test]
fn offsets_are_deleted_one_by_one_unless_in_use() {
    let mut rig = Rig::new();
    let mut clients = [Client::new("a").with_topics(&["t"])];
    rig.stabilize(&mut clients);
    rig.commit(&clients[0], &[("t", 0, 1), ("u", 0, 1), ("u", 1, 1)]);
    let unknown = ErrorCode::UnknownTopicOrPartition;
    let asked = [("t", 0), ("u", 0), ("u", 3), ("gone", 0), ("t", 99)];
    let expected = vec![ErrorCode::GroupSubscribedToTopic, OK, OK, unknown, unknown];
    assert_eq!(rig.delete_offsets("g", &asked), (OK, expected));
    assert_eq!(rig.fetch_all("g"), [row("t", 0, 1), row("u", 1, 1)]);
    assert_eq!(rig.delete_offsets("nowhere", &asked), (ErrorCode::GroupIdNotFound, vec![]));
    assert_eq!(rig.delete_offsets("", &asked), (ErrorCode::InvalidGroupId, vec![]));
    let mut connect = [Client { protocol_type: "connect".into(), ..Client::new("w").in_group("c") }];
    rig.stabilize(&mut connect);
    assert_eq!(rig.delete_offsets("c", &asked), (ErrorCode::NonEmptyGroup, vec![]));
    rig.check_replay();
}

#[test]
fn offsets_of_a_transaction_are_seen_when_it_commits() {
    let mut rig = Rig::new();
    let simple = Client::new("simple");
    assert_eq!(
        rig.txn_commit(77, &simple, &[("t", 0, 5), ("gone", 0, 1)]),
        [OK, ErrorCode::UnknownTopicOrPartition]
    );
    assert!(matches!(rig.log.last(), Some(Logged::Record { producer_id: 77, .. })));
    assert_eq!(rig.fetch_all("g"), []);
    let asked = OffsetFetchRequestGroup {
        group_id: "g".into(),
        topics: Some(vec![OffsetFetchRequestTopics {
            name: "t".into(),
            partition_indexes: vec![0, 1],
            ..Default::default()
        }]),
        ..Default::default()
    };
    let errors = |rig: &Rig, stable| {
        let fetched = rig.coordinator.fetch_offsets(&asked, stable, 9, &rig.cluster);
        fetched.topics[0]
            .partitions
            .iter()
            .map(|p| (p.committed_offset, error(p.error_code)))
            .collect::<Vec<_>>()
    };
    assert_eq!(errors(&rig, true), [(-1, ErrorCode::UnstableOffsetCommit), (-1, OK)]);
    assert_eq!(errors(&rig, false), [(-1, OK), (-1, OK)]);
    rig.check_replay();
    rig.end_transaction(77, true);
    assert_eq!(errors(&rig, true), [(5, OK), (-1, OK)]);
    rig.txn_commit(77, &simple, &[("t", 0, 6)]);
    rig.end_transaction(77, false);
    assert_eq!(errors(&rig, true), [(5, OK), (-1, OK)]);
    rig.check_replay();
}

#[test]
fn a_transaction_names_its_member_or_nobody() {
    let mut rig = Rig::new();
    let mut clients = [Client::new("a")];
    rig.stabilize(&mut clients);
    let offsets = [("t", 0, 1)];
    assert_eq!(rig.txn_commit(1, &clients[0], &offsets), [OK]);
    assert_eq!(
        rig.txn_commit(1, &Client::new("old"), &offsets),
        [OK],
        "old producers can not say who they are"
    );
    let stale = Client { generation: 9, ..clients[0].clone() };
    assert_eq!(rig.txn_commit(1, &stale, &offsets), [ErrorCode::IllegalGeneration]);
    let stranger = Client { member_id: "x".into(), ..clients[0].clone() };
    assert_eq!(rig.txn_commit(1, &stranger, &offsets), [ErrorCode::UnknownMemberId]);
    let nameless = Client::new("x").in_group("");
    assert_eq!(rig.txn_commit(1, &nameless, &offsets), [ErrorCode::InvalidGroupId]);
}

#[test]
fn pending_offsets_do_not_expire_and_are_deleted_with_their_group() {
    let mut rig = Rig::with_config(Config { offsets_retention_ms: 1_000, ..Config::default() });
    let simple = Client::new("simple");
    rig.commit(&simple, &[("t", 0, 1)]);
    rig.txn_commit(5, &simple, &[("t", 0, 2), ("t", 1, 2)]);
    rig.advance(REBALANCE * 20);
    assert_eq!(rig.state("g"), "Empty");
    assert_eq!(rig.delete_group("g"), OK);
    rig.end_transaction(5, true);
    assert_eq!((rig.fetch_all("g"), rig.state("g")), (vec![], "Dead".into()));
    rig.check_replay();
}

#[test]
fn records_are_kafkas_byte_for_byte() {
    let mut rig = Rig::new();
    assert_eq!(rig.now, START);
    rig.commit(&Client::new("simple"), &[("t", 3, 258)]);
    let Logged::Record { key, value, .. } = &rig.log[0] else { panic!() };
    assert_eq!(key, b"\0\x01\0\x01g\0\x01t\0\0\0\x03", "type 1, group, topic, partition");
    let mut expected = vec![0, 4];
    expected.extend(258_i64.to_be_bytes());
    expected.extend(7_i32.to_be_bytes());
    expected.extend(b"\x05note");
    expected.extend(START.to_be_bytes());
    expected.extend([1, 0, 16]); // one tagged field: the topic id
    expected.extend(topic_id(1).0);
    assert_eq!(value.as_deref().unwrap(), expected);

    let mut clients = [Client::new("a").in_group("h").with_instance("i")];
    rig.stabilize(&mut clients);
    let Some(Logged::Record { key, value, .. }) = rig.log.last() else { panic!() };
    assert_eq!(key, b"\0\x02\0\x01h");
    let string = |text: &str| [&(text.len() as i16).to_be_bytes()[..], text.as_bytes()].concat();
    let bytes = |bytes: &[u8]| [&(bytes.len() as i32).to_be_bytes()[..], bytes].concat();
    let mut expected = vec![0, 3];
    expected.extend(string("consumer"));
    expected.extend(1_i32.to_be_bytes());
    expected.extend(string("range"));
    expected.extend(string(&clients[0].member_id));
    expected.extend(rig.now.to_be_bytes());
    expected.extend(1_i32.to_be_bytes());
    expected.extend(string(&clients[0].member_id));
    expected.extend(string("i"));
    expected.extend(string("a"));
    expected.extend(string("/a.test"));
    expected.extend((REBALANCE as i32).to_be_bytes());
    expected.extend(10_000_i32.to_be_bytes());
    expected.extend(bytes(&subscription(&["t"])));
    expected.extend(bytes(&[0]));
    assert_eq!(value.as_deref().unwrap(), expected);
}
