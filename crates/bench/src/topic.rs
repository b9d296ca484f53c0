//! The topic under load: its id, and the partitions that have a leader.

use crate::client::{Client, invalid};
use crate::options::CreateOptions;
use ottla_protocol::messages::create_topics_request::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use ottla_protocol::messages::create_topics_response::CreateTopicsResponse;
use ottla_protocol::messages::delete_topics_request::DeleteTopicsRequest;
use ottla_protocol::messages::delete_topics_response::DeleteTopicsResponse;
use ottla_protocol::messages::list_offsets_request::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use ottla_protocol::messages::list_offsets_response::ListOffsetsResponse;
use ottla_protocol::messages::metadata_request::{MetadataRequest, MetadataRequestTopic};
use ottla_protocol::messages::metadata_response::MetadataResponse;
use ottla_protocol::{ErrorCode, Message, Reader, Uuid};
use std::io;
use std::time::{Duration, Instant};

const CREATE_TOPICS_VERSION: i16 = 5;
const DELETE_TOPICS_VERSION: i16 = 4;
const METADATA_VERSION: i16 = 12;
const LIST_OFFSETS_VERSION: i16 = 7;
/// How long a topic that was just created may take to have leaders: Apache Kafka makes five thousand logs slowly where the disk is busy.
const PATIENCE: Duration = Duration::from_secs(600);

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Name.
    pub name: String,
    /// Id.
    pub id: Uuid,
    /// Number of partitions.
    pub partitions: usize,
}

/// Creates the topic, and waits until all its partitions are led.
pub fn create(options: &CreateOptions) -> io::Result<Topic> {
    let mut client = Client::connect(&options.bootstrap)?;
    let mut configs = Vec::with_capacity(options.config.len());
    for pair in &options.config {
        let (name, value) = pair.split_once('=').ok_or_else(|| invalid(format!("{pair}: not key=value")))?;
        configs.push(CreatableTopicConfig { name: name.into(), value: Some(value.into()) });
    }
    let request = CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: options.topic.as_str().into(),
            num_partitions: options.partitions,
            replication_factor: 1,
            configs,
            ..Default::default()
        }],
        timeout_ms: PATIENCE.as_millis() as i32,
        ..Default::default()
    };
    let body = client.ask(&request, CREATE_TOPICS_VERSION)?;
    let response =
        CreateTopicsResponse::decode(&mut Reader::new(&body), CREATE_TOPICS_VERSION).map_err(invalid)?;
    if let Some(refused) = response.topics.iter().find(|topic| topic.error_code != 0) {
        let error = ErrorCode::from_code(refused.error_code).name();
        return Err(invalid(format!("{}: {error}", options.topic)));
    }
    let topic = find(&mut client, &options.topic)?;
    // A broker may name a leader that does not know of it yet.
    let deadline = Instant::now() + PATIENCE;
    loop {
        match offsets(&mut client, &topic, -1) {
            Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
            Err(error) => return Err(error),
            Ok(_) => return Ok(topic),
        }
    }
}

/// Deletes the topic.
pub fn delete(bootstrap: &str, name: &str) -> io::Result<()> {
    let mut client = Client::connect(bootstrap)?;
    let request = DeleteTopicsRequest {
        topic_names: vec![name.into()],
        timeout_ms: PATIENCE.as_millis() as i32,
        ..Default::default()
    };
    let body = client.ask(&request, DELETE_TOPICS_VERSION)?;
    let response =
        DeleteTopicsResponse::decode(&mut Reader::new(&body), DELETE_TOPICS_VERSION).map_err(invalid)?;
    match response.responses.iter().find(|topic| topic.error_code != 0) {
        Some(refused) => Err(invalid(format!("{name}: {}", ErrorCode::from_code(refused.error_code).name()))),
        None => Ok(()),
    }
}

/// Looks the topic up, and waits until all its partitions have a leader.
pub fn find(client: &mut Client, name: &str) -> io::Result<Topic> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let topic = MetadataRequestTopic { name: Some(name.into()), ..Default::default() };
        let request = MetadataRequest { topics: Some(vec![topic]), ..Default::default() };
        let body = client.ask(&request, METADATA_VERSION)?;
        let response =
            MetadataResponse::decode(&mut Reader::new(&body), METADATA_VERSION).map_err(invalid)?;
        let topic = response.topics.first().ok_or_else(|| invalid("no word about the topic"))?;
        let leads = topic.partitions.iter().all(|partition| partition.leader_id >= 0);
        if topic.error_code == 0 && leads && !topic.partitions.is_empty() {
            return Ok(Topic {
                name: name.to_owned(),
                id: topic.topic_id,
                partitions: topic.partitions.len(),
            });
        }
        if Instant::now() > deadline {
            let error = ErrorCode::from_code(topic.error_code).name();
            return Err(invalid(format!("{name} has no leaders after {PATIENCE:?}: {error}")));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The end offset (or the start, with `at` -2 instead of -1) of each partition.
pub fn offsets(client: &mut Client, topic: &Topic, at: i64) -> io::Result<Vec<i64>> {
    let partition = |index: usize| ListOffsetsPartition {
        partition_index: index as i32,
        current_leader_epoch: -1,
        timestamp: at,
    };
    let request = ListOffsetsRequest {
        replica_id: -1,
        topics: vec![ListOffsetsTopic {
            name: topic.name.as_str().into(),
            partitions: (0..topic.partitions).map(partition).collect(),
        }],
        ..Default::default()
    };
    let body = client.ask(&request, LIST_OFFSETS_VERSION)?;
    let response =
        ListOffsetsResponse::decode(&mut Reader::new(&body), LIST_OFFSETS_VERSION).map_err(invalid)?;
    let mut offsets = vec![0; topic.partitions];
    for partition in response.topics.iter().flat_map(|topic| &topic.partitions) {
        if partition.error_code != 0 {
            return Err(invalid(ErrorCode::from_code(partition.error_code).name()));
        }
        let place = offsets.get_mut(partition.partition_index as usize);
        *place.ok_or_else(|| invalid("a partition that was not asked for"))? = partition.offset;
    }
    Ok(offsets)
}
