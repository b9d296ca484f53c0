//! Quotas of what the controller does (KIP-599): who creates or deletes too many partitions is refused by newer versions, paused by all.

use super::Rig;
use super::quotas::{alter, waits};
use crate::client::read;
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::create_partitions_request::{CreatePartitionsRequest, CreatePartitionsTopic};
use ottla_protocol::messages::create_partitions_response::CreatePartitionsResponse;
use ottla_protocol::messages::create_topics_request::{CreatableTopic, CreateTopicsRequest};
use ottla_protocol::messages::create_topics_response::CreateTopicsResponse;
use ottla_protocol::messages::delete_topics_request::{DeleteTopicState, DeleteTopicsRequest};
use ottla_protocol::messages::delete_topics_response::DeleteTopicsResponse;
use ottla_protocol::messages::metadata_request::{MetadataRequest, MetadataRequestTopic};
use ottla_protocol::messages::metadata_response::MetadataResponse;

const THROTTLED: i16 = ErrorCode::ThrottlingQuotaExceeded as i16;

/// A node on which this client may have one partition a second created or deleted; eleven are granted at first.
fn rig() -> Rig {
    let mut rig = Rig::new();
    assert_eq!(alter(&mut rig, &[("client-id", Some("sim"))], "controller_mutation_rate", Some(1.0), 1), 0);
    rig
}

/// To whole seconds: committing takes a few milliseconds, in which something flows in.
fn seconds(ms: i64) -> i64 {
    (ms + 500) / 1_000
}

/// The error codes of topics with so many partitions each, and the pause in seconds.
fn create(rig: &mut Rig, topics: &[(&str, i32)], version: i16) -> (Vec<i16>, i64) {
    let topic = |(name, num_partitions): &(&str, i32)| CreatableTopic {
        name: name.to_string().into(),
        num_partitions: *num_partitions,
        replication_factor: 1,
        ..Default::default()
    };
    let topics = topics.iter().map(topic).collect();
    let answer = rig.ask(&CreateTopicsRequest { topics, ..Default::default() }, version);
    let response: CreateTopicsResponse<'_> = read(&answer, version).expect("a response");
    (
        response.topics.iter().map(|topic| topic.error_code).collect(),
        seconds(response.throttle_time_ms.into()),
    )
}

fn delete(rig: &mut Rig, names: &[&str], version: i16) -> (Vec<i16>, i64) {
    let mut request = DeleteTopicsRequest::default();
    for name in names {
        let name = name.to_string();
        if version < 6 {
            request.topic_names.push(name.into());
        } else {
            request.topics.push(DeleteTopicState { name: Some(name.into()), ..Default::default() });
        }
    }
    let answer = rig.ask(&request, version);
    let response: DeleteTopicsResponse<'_> = read(&answer, version).expect("a response");
    (
        response.responses.iter().map(|topic| topic.error_code).collect(),
        seconds(response.throttle_time_ms.into()),
    )
}

fn grow(rig: &mut Rig, name: &str, count: i32, version: i16) -> (i16, i64) {
    let topic = CreatePartitionsTopic { name: name.to_owned().into(), count, assignments: None };
    let answer = rig.ask(&CreatePartitionsRequest { topics: vec![topic], ..Default::default() }, version);
    let response: CreatePartitionsResponse<'_> = read(&answer, version).expect("a response");
    (response.results[0].error_code, seconds(response.throttle_time_ms.into()))
}

#[test]
fn newer_versions_are_refused_while_in_debt_topic_by_topic() {
    let mut rig = rig();
    assert_eq!(create(&mut rig, &[("a", 9), ("b", 5), ("c", 1)], 7), (vec![0, 0, THROTTLED], 3));
    assert_eq!(seconds(waits(&mut rig)), 3, "answered first, muted then");
    assert_eq!(
        create(&mut rig, &[("c", 1)], 6),
        (vec![0], 0),
        "the debt is paid, and something may be spent"
    );
    assert_eq!(create(&mut rig, &[("c", 1)], 6).0, [ErrorCode::TopicAlreadyExists.code()], "costs nothing");
    assert_eq!(grow(&mut rig, "c", 4, 3), (THROTTLED, 1));
    assert_eq!(seconds(waits(&mut rig)), 1);
    assert_eq!(grow(&mut rig, "c", 4, 3), (0, 0));
    assert_eq!(delete(&mut rig, &["a"], 6), (vec![THROTTLED], 3));
    rig.world.now += 3_000;
    assert_eq!(delete(&mut rig, &["a", "b"], 5), (vec![0, THROTTLED], 9));
}

#[test]
fn older_versions_are_served_and_paused() {
    let mut rig = rig();
    assert_eq!(create(&mut rig, &[("a", 9), ("b", 5)], 5), (vec![0, 0], 3));
    assert_eq!(seconds(waits(&mut rig)), 3);
    assert_eq!(grow(&mut rig, "a", 10, 2), (0, 1));
    assert_eq!(seconds(waits(&mut rig)), 1);
    assert_eq!(delete(&mut rig, &["b"], 4), (vec![0], 5));
    assert_eq!(seconds(waits(&mut rig)), 5);
}

#[test]
fn what_is_only_asked_for_is_paid_for_too() {
    let mut rig = rig();
    assert_eq!(create(&mut rig, &[("a", 13)], 7), (vec![0], 0));
    let ask = |rig: &mut Rig| {
        let topic = MetadataRequestTopic { name: Some("touched".into()), ..Default::default() };
        let request = MetadataRequest {
            topics: Some(vec![topic]),
            allow_auto_topic_creation: true,
            ..Default::default()
        };
        let answer = rig.ask(&request, 12);
        let response: MetadataResponse<'_> = read(&answer, 12).expect("a response");
        response.topics[0].error_code
    };
    assert_eq!(ask(&mut rig), ErrorCode::UnknownTopicOrPartition.code(), "two seconds of debt");
    rig.world.now += 2_000;
    assert_eq!(ask(&mut rig), 0);
}

#[test]
fn the_windows_of_the_controller_are_its_own() {
    let mut rig = Rig::with(&[("controller.quota.window.num", "2"), ("quota.window.num", "100")]);
    assert_eq!(alter(&mut rig, &[("user", None)], "controller_mutation_rate", Some(1.0), 1), 0);
    assert_eq!(create(&mut rig, &[("a", 1), ("b", 2), ("c", 1)], 7), (vec![0, 0, THROTTLED], 1));
}
