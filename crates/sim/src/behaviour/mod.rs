//! Behaviours that clients rely on, each as a few requests to the real broker: what waits, what wakes it, what is refused.

mod cluster;
mod configs;
mod fetch;
mod full_disk;
mod groups;
mod log_dirs;
mod loggers;
mod metadata;
mod moves;
mod mutations;
mod offsets;
mod open_files;
mod partitions;
mod produce;
mod quotas;
mod restart;
mod security;
mod snapshots;
mod telemetry;
mod timestamps;
mod topics;
mod upkeep;
mod validation;
mod wire;
use ottla_protocol::Uuid;
use ottla_protocol::messages::metadata_request::{MetadataRequest, MetadataRequestTopic};
use ottla_protocol::messages::metadata_response::MetadataResponse;

use crate::client::{body, frame, read};
use crate::world::World;
use bytes::Bytes;
use ottla_broker::Token;
use ottla_protocol::messages::create_topics_request::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use ottla_protocol::messages::fetch_request::{FetchPartition, FetchRequest, FetchTopic};
use ottla_protocol::messages::fetch_response::{FetchResponse, PartitionData};
use ottla_protocol::messages::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use ottla_protocol::messages::produce_response::ProduceResponse;
use ottla_protocol::records::{BatchBuilder, BatchOptions};
use ottla_protocol::{Records, Request};

const SETTINGS: &[(&str, &str)] =
    &[("log.dirs", "/data"), ("num.partitions", "2"), ("offsets.topic.num.partitions", "1")];

struct Rig {
    world: World,
}

impl Rig {
    fn new() -> Rig {
        Rig::with(&[])
    }

    /// Creates a topic of one partition. Whether that worked is seen by who uses it: the disk may be full.
    fn create_with(&mut self, name: &'static str, configs: &[(&'static str, &'static str)]) {
        let configs = configs
            .iter()
            .map(|(name, value)| CreatableTopicConfig { name: (*name).into(), value: Some((*value).into()) });
        let topic = CreatableTopic {
            name: name.into(),
            num_partitions: 1,
            replication_factor: 1,
            configs: configs.collect(),
            ..Default::default()
        };
        let token = self.send(&CreateTopicsRequest { topics: vec![topic], ..Default::default() }, 5);
        self.answer::<CreateTopicsRequest<'_>>(token, 5, 30_000);
    }

    /// A node with more settings than the usual ones.
    fn with(more: &[(&str, &str)]) -> Rig {
        let settings = [SETTINGS, more].concat();
        let mut rig = Rig { world: World::new(1, &settings).expect("an empty disk starts") };
        let topic = CreatableTopic {
            name: "t".into(),
            num_partitions: 2,
            replication_factor: 1,
            ..Default::default()
        };
        rig.ask(&CreateTopicsRequest { topics: vec![topic], ..Default::default() }, 5);
        rig
    }

    fn send<'a, R: Request<'a>>(&mut self, request: &R, version: i16) -> Token {
        self.world.send(frame(request, version))
    }

    /// The answer if it comes within `ms` of virtual time.
    fn answer<'a, R: Request<'a>>(&mut self, token: Token, version: i16, ms: i64) -> Option<Bytes> {
        let until = self.world.now + ms;
        loop {
            if let Some(response) = self.world.take_answer(token) {
                return Some(body::<R>(response, version).expect("an answer with a body"));
            }
            if !self.world.step(until) {
                return None;
            }
        }
    }

    fn ask<'a, R: Request<'a>>(&mut self, request: &R, version: i16) -> Bytes {
        let token = self.send(request, version);
        self.answer::<R>(token, version, 60_000).expect("every request is answered")
    }

    fn topic_id(&mut self, name: &'static str) -> Uuid {
        let topic = MetadataRequestTopic { name: Some(name.into()), ..Default::default() };
        let answer = self.ask(&MetadataRequest { topics: Some(vec![topic]), ..Default::default() }, 12);
        let response: MetadataResponse<'_> = read(&answer, 12).expect("a metadata response");
        response.topics[0].topic_id
    }

    fn produce(&mut self, partition: i32, acks: i16, batch: &[u8]) -> Token {
        let data = PartitionProduceData { index: partition, records: Some(Records::Slice(batch)) };
        let topic = TopicProduceData { name: "t".into(), partition_data: vec![data], ..Default::default() };
        let request =
            ProduceRequest { acks, timeout_ms: 30_000, topic_data: vec![topic], ..Default::default() };
        self.world.send(frame(&request, 9))
    }

    fn produced(&mut self, partition: i32, acks: i16, batch: &[u8]) -> (i16, i64) {
        let token = self.produce(partition, acks, batch);
        let answer = self.answer::<ProduceRequest<'_>>(token, 9, 60_000).expect("a produce is answered");
        let response: ProduceResponse<'_> = read(&answer, 9).expect("a produce response");
        let told = &response.responses[0].partition_responses[0];
        (told.error_code, told.base_offset)
    }
}

fn batch(values: &[&str], now: i64) -> Vec<u8> {
    let mut builder = BatchBuilder::new(0, BatchOptions::default());
    for value in values {
        builder.push(now, None, Some(value.as_bytes()), &[]);
    }
    builder.finish()
}

fn fetch(offset: i64, max_wait_ms: i32, min_bytes: i32) -> FetchRequest<'static> {
    let partition = FetchPartition {
        partition: 0,
        fetch_offset: offset,
        partition_max_bytes: 1 << 20,
        ..Default::default()
    };
    let topic = FetchTopic { topic: "t".into(), partitions: vec![partition], ..Default::default() };
    FetchRequest { max_wait_ms, min_bytes, topics: vec![topic], ..Default::default() }
}

fn partition_of<'a>(response: &'a FetchResponse<'a>) -> &'a PartitionData<'a> {
    &response.responses[0].partitions[0]
}

fn records_len(data: &PartitionData<'_>) -> usize {
    match &data.records {
        Some(Records::Slice(bytes)) => bytes.len(),
        _ => 0,
    }
}
