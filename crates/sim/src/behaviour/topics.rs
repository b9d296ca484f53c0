//! Topics: by whom they are created, and what is refused.

use crate::client::read;
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::create_topics_request::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use ottla_protocol::messages::create_topics_response::CreateTopicsResponse;
use ottla_protocol::messages::metadata_request::{MetadataRequest, MetadataRequestTopic};
use ottla_protocol::messages::metadata_response::MetadataResponse;

use super::Rig;

#[test]
fn topics_are_created_by_metadata_only_if_it_may() {
    let mut rig = Rig::new();
    let ask = |rig: &mut Rig, name: &'static str, allow: bool| {
        let topic = MetadataRequestTopic { name: Some(name.into()), ..Default::default() };
        let request = MetadataRequest {
            topics: Some(vec![topic]),
            allow_auto_topic_creation: allow,
            ..Default::default()
        };
        let answer = rig.ask(&request, 9);
        let response: MetadataResponse<'_> = read(&answer, 9).expect("a metadata response");
        let told = &response.topics[0];
        (told.error_code, told.partitions.len(), response.brokers.len())
    };
    assert_eq!(ask(&mut rig, "new", false), (ErrorCode::UnknownTopicOrPartition.code(), 0, 1));
    assert_eq!(ask(&mut rig, "new", true), (0, 2, 1));
    assert_eq!(ask(&mut rig, "new", false), (0, 2, 1));
    assert_eq!(ask(&mut rig, "no/slash", true).0, ErrorCode::InvalidTopicException.code());
}

#[test]
fn bad_topics_are_refused_one_by_one() {
    let mut rig = Rig::new();
    let topic = |name: &'static str,
                 partitions: i32,
                 replicas: i16,
                 config: Option<(&'static str, &'static str)>| CreatableTopic {
        name: name.into(),
        num_partitions: partitions,
        replication_factor: replicas,
        configs: config
            .map(|(key, value)| CreatableTopicConfig { name: key.into(), value: Some(value.into()) })
            .into_iter()
            .collect(),
        ..Default::default()
    };
    let topics = vec![
        topic("fine", -1, -1, Some(("retention.ms", "1000"))),
        topic("t", 1, 1, None),
        topic("none", 0, 1, None),
        topic("three", 1, 3, None),
        topic("odd", 1, 1, Some(("retention.msx", "1"))),
        topic("a b", 1, 1, None),
    ];
    let answer = rig.ask(&CreateTopicsRequest { topics, ..Default::default() }, 5);
    let response: CreateTopicsResponse<'_> = read(&answer, 5).expect("a create topics response");
    let codes: Vec<i16> = response.topics.iter().map(|topic| topic.error_code).collect();
    let expected = [
        ErrorCode::None,
        ErrorCode::TopicAlreadyExists,
        ErrorCode::InvalidPartitions,
        ErrorCode::InvalidReplicationFactor,
        ErrorCode::InvalidConfig,
        ErrorCode::InvalidTopicException,
    ];
    assert_eq!(codes, expected.map(ErrorCode::code));
}
