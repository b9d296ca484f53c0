//! Groups: their timers, their offsets, and the topic that keeps those.

use crate::client::read;
use ottla_protocol::messages::consumer_group_heartbeat_request::ConsumerGroupHeartbeatRequest;
use ottla_protocol::messages::consumer_group_heartbeat_response::{
    ConsumerGroupHeartbeatResponse, TopicPartitions,
};
use ottla_protocol::messages::fetch_response::FetchResponse;
use ottla_protocol::messages::find_coordinator_request::FindCoordinatorRequest;
use ottla_protocol::messages::join_group_request::{JoinGroupRequest, JoinGroupRequestProtocol};
use ottla_protocol::messages::join_group_response::JoinGroupResponse;

use ottla_protocol::messages::offset_commit_key::OffsetCommitKey;
use ottla_protocol::messages::offset_commit_request::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use ottla_protocol::messages::offset_commit_response::OffsetCommitResponse;
use ottla_protocol::messages::offset_commit_value::OffsetCommitValue;
use ottla_protocol::messages::offset_fetch_request::{OffsetFetchRequest, OffsetFetchRequestTopic};
use ottla_protocol::messages::offset_fetch_response::OffsetFetchResponse;
use ottla_protocol::records::Batch;
use ottla_protocol::{ErrorCode, Records};

use std::path::Path;

use ottla_storage::{Disk, OpenMode};

use super::configs::{BROKER, alter};
use super::{Rig, batch, fetch, partition_of};
use crate::world::Death;

#[test]
fn a_group_timer_is_not_forgotten_when_another_tick_comes_first() {
    let mut rig = Rig::new();
    rig.ask(&FindCoordinatorRequest { coordinator_keys: vec!["g".into()], ..Default::default() }, 4);
    let join = |rig: &mut Rig, member_id: String| {
        let protocol = JoinGroupRequestProtocol { name: "range".into(), metadata: vec![0].into() };
        let request = JoinGroupRequest {
            group_id: "g".into(),
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 60_000,
            member_id: member_id.into(),
            protocol_type: "consumer".into(),
            protocols: vec![protocol],
            ..Default::default()
        };
        rig.send(&request, 5)
    };
    let token = join(&mut rig, String::new());
    let answer = rig.answer::<JoinGroupRequest<'_>>(token, 5, 100).expect("a member id");
    let named: JoinGroupResponse<'_> = read(&answer, 5).expect("a join group response");
    assert_eq!(named.error_code, ErrorCode::MemberIdRequired.code());
    // The group waits three seconds for more members; an acks=1 record asks for a tick after one.
    let waiting = join(&mut rig, named.member_id.into_owned());
    let records = batch(&["a"], rig.world.now);
    rig.produce(0, 1, &records);
    let answer =
        rig.answer::<JoinGroupRequest<'_>>(waiting, 5, 3_100).expect("the rebalance is over in time");
    let joined: JoinGroupResponse<'_> = read(&answer, 5).expect("a join group response");
    assert_eq!((joined.error_code, joined.generation_id), (0, 1));
}

fn commit(rig: &mut Rig, group: &'static str, offset: i64) -> i16 {
    let partition = OffsetCommitRequestPartition {
        partition_index: 0,
        committed_offset: offset,
        committed_metadata: Some("m".into()),
        ..Default::default()
    };
    let topic =
        OffsetCommitRequestTopic { name: "t".into(), partitions: vec![partition], ..Default::default() };
    let request = OffsetCommitRequest { group_id: group.into(), topics: vec![topic], ..Default::default() };
    let answer = rig.ask(&request, 8);
    let response: OffsetCommitResponse<'_> = read(&answer, 8).expect("an offset commit response");
    response.topics[0].partitions[0].error_code
}

/// Monitors and replication tools read the topic of offsets like any other.
#[test]
fn committed_offsets_are_records_of_a_topic() {
    let mut rig = Rig::new();
    let request = FindCoordinatorRequest { coordinator_keys: vec!["g".into()], ..Default::default() };
    rig.ask(&request, 4);
    assert_eq!(commit(&mut rig, "g", 42), 0);
    let mut request = fetch(0, 100, 1);
    request.topics[0].topic = "__consumer_offsets".into();
    let answer = rig.ask(&request, 11);
    let response: FetchResponse<'_> = read(&answer, 11).expect("a fetch response");
    let data = partition_of(&response);
    assert_eq!(data.error_code, 0);
    let Some(Records::Slice(found)) = &data.records else { panic!("no records") };
    let records = Batch::parse(found).expect("a batch").records(1 << 20).expect("records");
    let record = records.iter().next().expect("one").expect("a record");
    // Each begins with the version of its schema: of the key 1, of the value the newest that the features allow.
    let (key, value) = (record.key.expect("a key"), record.value.expect("a value"));
    assert_eq!(key[..2], [0, 1]);
    let key: OffsetCommitKey<'_> = read(&key[2..], 0).expect("a key");
    assert_eq!((&*key.group, &*key.topic, key.partition), ("g", "t", 0));
    let version = i16::from_be_bytes([value[0], value[1]]);
    let value: OffsetCommitValue<'_> = read(&value[2..], version).expect("a value");
    assert_eq!((value.offset, value.leader_epoch, &*value.metadata), (42, -1, "m"));
}

/// A consumer without a group of its own keeps offsets under the empty name (as the oldest clients do); nobody can join that.
#[test]
fn the_group_without_a_name_keeps_offsets() {
    let mut rig = Rig::new();
    let request = FindCoordinatorRequest { coordinator_keys: vec!["g".into()], ..Default::default() };
    rig.ask(&request, 4);
    assert_eq!(commit(&mut rig, "", 3), 0);
    let fetch = |rig: &mut Rig, topics: Option<Vec<OffsetFetchRequestTopic<'static>>>| {
        let request = OffsetFetchRequest { group_id: "".into(), topics, ..Default::default() };
        let answer = rig.ask(&request, 7);
        let response: OffsetFetchResponse<'_> = read(&answer, 7).expect("an offset fetch response");
        assert_eq!(response.error_code, 0);
        let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
        partitions.map(|it| (it.partition_index, it.committed_offset, it.error_code)).collect::<Vec<_>>()
    };
    assert_eq!(fetch(&mut rig, None), [(0, 3, 0)], "null means whatever there is");
    assert_eq!(fetch(&mut rig, Some(Vec::new())), []);
    let named = OffsetFetchRequestTopic { name: "t".into(), partition_indexes: vec![1, 0] };
    assert_eq!(fetch(&mut rig, Some(vec![named])), [(1, -1, 0), (0, 3, 0)], "-1 is not an error");
}

/// As Kafka's compaction may leave it: nothing behind the last batch, and yet the log ends later.
#[test]
fn a_coordinator_is_loaded_from_a_log_that_ends_in_a_gap() {
    let mut rig = Rig::new();
    let request = FindCoordinatorRequest { coordinator_keys: vec!["g".into()], ..Default::default() };
    rig.ask(&request, 4);
    assert_eq!(commit(&mut rig, "g", 42), 0);
    let empty = Path::new("/data/__consumer_offsets-0/00000000000000000005.log");
    rig.world.disk().open(empty, OpenMode::Create).expect("created");
    rig.world.restart(Death::Shutdown).expect("a clean restart");
    assert_eq!(rig.world.reports, [""; 0]);
    let topics = vec![OffsetFetchRequestTopic { name: "t".into(), partition_indexes: vec![0] }];
    let answer =
        rig.ask(&OffsetFetchRequest { group_id: "g".into(), topics: Some(topics), ..Default::default() }, 7);
    let response: OffsetFetchResponse<'_> = read(&answer, 7).expect("an offset fetch response");
    assert_eq!((response.error_code, response.topics[0].partitions[0].committed_offset), (0, 42));
}

/// A restart is nothing that clients have to know of: what cannot be answered yet may be asked again.
#[test]
fn after_a_restart_coordinators_answer_or_ask_for_patience() {
    for death in [Death::Kill, Death::Shutdown, Death::PowerLoss] {
        let mut rig = Rig::new();
        let request = FindCoordinatorRequest { coordinator_keys: vec!["g".into()], ..Default::default() };
        rig.ask(&request, 4);
        assert_eq!(commit(&mut rig, "g", 1), 0);
        rig.world.restart(death).expect("the node starts");
        let patience = [
            ErrorCode::None,
            ErrorCode::CoordinatorLoadInProgress,
            ErrorCode::CoordinatorNotAvailable,
            ErrorCode::NotCoordinator,
        ];
        let mut last = ErrorCode::NotCoordinator;
        for _ in 0..20 {
            last = ErrorCode::from_code(commit(&mut rig, "g", 2));
            assert!(patience.contains(&last), "{last:?} after {death:?}");
        }
        assert_eq!(last, ErrorCode::None, "after {death:?}");
    }
}

#[test]
fn the_pause_between_assignments_is_changed_while_the_node_runs() {
    let mut rig = Rig::new();
    rig.ask(&FindCoordinatorRequest { coordinator_keys: vec!["g".into()], ..Default::default() }, 4);
    let (epoch, assigned) = heartbeat(&mut rig, "first", 0);
    assert_eq!(assigned, Some(2), "both partitions");
    let key = "group.consumer.assignment.interval.ms";
    assert_eq!(alter(&mut rig, BROKER, "", key, Some("15000")), ErrorCode::None);
    heartbeat(&mut rig, "second", 0);
    let pass = |rig: &mut Rig, ms| {
        let until = rig.world.now + ms;
        while rig.world.step(until) {}
    };
    pass(&mut rig, 10_000);
    assert_eq!(heartbeat(&mut rig, "first", epoch), (epoch, None), "it is too early to assign again");
    pass(&mut rig, 5_000);
    assert_eq!(heartbeat(&mut rig, "first", epoch), (epoch, Some(1)), "one is to be given away");
}

#[test]
fn a_node_may_serve_classic_groups_alone() {
    let mut rig = Rig::with(&[("group.coordinator.rebalance.protocols", "classic")]);
    rig.ask(&FindCoordinatorRequest { coordinator_keys: vec!["g".into()], ..Default::default() }, 4);
    let request = ConsumerGroupHeartbeatRequest { group_id: "g".into(), ..Default::default() };
    let answer = rig.ask(&request, 1);
    let response: ConsumerGroupHeartbeatResponse<'_> = read(&answer, 1).expect("an answer");
    assert_eq!(response.error_code, ErrorCode::UnsupportedVersion.code());
}

/// Epoch and number of partitions that a member of the consumer protocol is told, if it is told of any.
fn heartbeat(rig: &mut Rig, member: &'static str, member_epoch: i32) -> (i32, Option<usize>) {
    let joins = member_epoch == 0;
    let request = ConsumerGroupHeartbeatRequest {
        group_id: "g".into(),
        member_id: member.into(),
        member_epoch,
        rebalance_timeout_ms: if joins { 60_000 } else { -1 },
        subscribed_topic_names: joins.then(|| vec!["t".into()]),
        topic_partitions: joins.then(Vec::new),
        ..Default::default()
    };
    let answer = rig.ask(&request, 1);
    let response: ConsumerGroupHeartbeatResponse<'_> = read(&answer, 1).expect("an answer");
    assert_eq!(response.error_code, 0);
    let count = |topic: &TopicPartitions| topic.partitions.len();
    let assigned = response.assignment.map(|assignment| assignment.topic_partitions.iter().map(count).sum());
    (response.member_epoch, assigned)
}
