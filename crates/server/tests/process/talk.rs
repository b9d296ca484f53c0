//! What the tests of clusters say to brokers: create a topic, produce to wherever its leader is, read everything.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ottla_protocol::messages::create_topics_request::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use ottla_protocol::messages::create_topics_response::CreateTopicsResponse;
use ottla_protocol::messages::fetch_request::{FetchPartition, FetchRequest, FetchTopic};
use ottla_protocol::messages::fetch_response::FetchResponse;
use ottla_protocol::messages::metadata_request::{MetadataRequest, MetadataRequestTopic};
use ottla_protocol::messages::metadata_response::MetadataResponse;
use ottla_protocol::messages::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use ottla_protocol::messages::produce_response::ProduceResponse;
use ottla_protocol::records::{self, BatchBuilder, BatchOptions};
use ottla_protocol::{ErrorCode, Message, Reader, Records, Request};

use crate::node::ask;

/// Longer than any election or fencing takes with Kafka's default timeouts.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Brokers that run, and the port of each for clients.
pub type Brokers = BTreeMap<i32, u16>;

/// Asks whoever listens on a port; `None` if there is no answer.
pub fn ask_at<'a, R: Request<'a>>(port: u16, request: &R, version: i16) -> Option<Bytes> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("set");
    ask(&mut stream, request, version)
}

/// Tries until it works; the pause only keeps the machine free for those who are waited for.
pub fn wait_for<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = attempt() {
            return found;
        }
        assert!(Instant::now() < deadline, "no {what} in time");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Has a topic of one partition created by whichever broker: those that do not lead the quorum forward it.
pub fn create_topic(port: u16, topic: &str, replicas: i16) {
    let config = CreatableTopicConfig { name: "min.insync.replicas".into(), value: Some("2".into()) };
    let topic = CreatableTopic {
        name: topic.to_owned().into(),
        num_partitions: 1,
        replication_factor: replicas,
        configs: vec![config],
        ..Default::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 10_000, ..Default::default() };
    // A broker that could not be heard while the quorum had no leader may be fenced for a moment; a client would try again, too.
    let early = |code: i16| code == ErrorCode::InvalidReplicationFactor.code();
    let told = wait_for("a topic", || {
        let answer = ask_at(port, &request, 5)?;
        let response = CreateTopicsResponse::decode(&mut Reader::new(&answer), 5).expect("readable");
        let told = &response.topics[0];
        let message = told.error_message.as_deref().map(str::to_owned);
        Some((told.error_code, message)).filter(|(code, _)| !early(*code))
    });
    assert_eq!(told, (0, None));
}

/// (leader, ISR) of partition 0 as a broker sees it.
pub fn partition(port: u16, topic: &str) -> Option<(i32, Vec<i32>)> {
    let topic = MetadataRequestTopic { name: Some(topic.into()), ..Default::default() };
    let request = MetadataRequest { topics: Some(vec![topic]), ..Default::default() };
    let answer = ask_at(port, &request, 9)?;
    let response = MetadataResponse::decode(&mut Reader::new(&answer), 9).expect("readable");
    let partition = response.topics.first()?.partitions.first()?.clone();
    (partition.leader_id > 0).then_some((partition.leader_id, partition.isr_nodes))
}

/// Waits until so many replicas are in sync.
pub fn wait_in_sync(brokers: &Brokers, topic: &str, replicas: usize) {
    wait_for("everybody in the ISR", || {
        let isr = brokers.values().find_map(|port| partition(*port, topic)).map(|(_, isr)| isr);
        isr.filter(|isr| isr.len() == replicas)
    });
}

/// Produces one record, wherever the leader is; returns its offset when it is acknowledged.
pub fn produce(brokers: &Brokers, topic: &str, value: u64) -> i64 {
    wait_for("an acknowledgement", || {
        let (leader, _) = brokers.values().find_map(|port| partition(*port, topic))?;
        let mut batch = BatchBuilder::new(0, BatchOptions::default());
        batch.push(1, None, Some(&value.to_be_bytes()), &[]);
        let batch = batch.finish();
        let data = PartitionProduceData { index: 0, records: Some(Records::Slice(&batch)) };
        let request = ProduceRequest {
            acks: -1,
            timeout_ms: 2_000,
            topic_data: vec![TopicProduceData {
                name: topic.into(),
                partition_data: vec![data],
                ..Default::default()
            }],
            ..Default::default()
        };
        let answer = ask_at(*brokers.get(&leader)?, &request, 9)?;
        let response = ProduceResponse::decode(&mut Reader::new(&answer), 9).expect("readable");
        let told = &response.responses.first()?.partition_responses.first()?;
        (told.error_code == 0).then_some(told.base_offset)
    })
}

/// Every committed record by its offset.
pub fn read_all(brokers: &Brokers, topic: &str) -> BTreeMap<i64, u64> {
    let mut found = BTreeMap::new();
    let port = wait_for("a leader", || {
        let (leader, _) = brokers.values().find_map(|port| partition(*port, topic))?;
        brokers.get(&leader).copied()
    });
    loop {
        let offset = found.last_key_value().map_or(0, |(offset, _)| offset + 1);
        let wanted =
            FetchPartition { fetch_offset: offset, partition_max_bytes: 1 << 20, ..Default::default() };
        let topic = FetchTopic { topic: topic.into(), partitions: vec![wanted], ..Default::default() };
        let request = FetchRequest { topics: vec![topic], ..Default::default() };
        let answer = ask_at(port, &request, 11).expect("the leader answers");
        let response = FetchResponse::decode(&mut Reader::new(&answer), 11).expect("readable");
        let data = &response.responses[0].partitions[0];
        assert_eq!(data.error_code, 0);
        let Some(Records::Slice(bytes)) = &data.records else { return found };
        let before = found.len();
        for batch in records::batches(bytes) {
            let set = batch.expect("whole").records(1 << 20).expect("records");
            for record in set.iter() {
                let record = record.expect("sound");
                let value = record.value.and_then(|value| value.try_into().ok()).expect("8 bytes");
                found.insert(record.offset, u64::from_be_bytes(value));
            }
        }
        if found.len() == before {
            return found;
        }
    }
}
