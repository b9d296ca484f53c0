//! Timestamps: whose they are, and how far apart they may be.

use super::{Rig, batch, fetch, partition_of};
use crate::client::read;
use ottla_protocol::Records;
use ottla_protocol::messages::create_topics_request::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use ottla_protocol::messages::fetch_response::FetchResponse;
use ottla_protocol::messages::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use ottla_protocol::messages::produce_response::ProduceResponse;
use ottla_protocol::records::{Batch, BatchBuilder, BatchOptions, TimestampType};

const MONTHS: i64 = 1 << 33;

#[test]
fn records_of_one_batch_may_be_months_apart() {
    let mut rig = Rig::new();
    let now = rig.world.now;
    let mut builder = BatchBuilder::new(0, BatchOptions::default());
    for timestamp in [now - MONTHS, now, now - 2 * MONTHS] {
        builder.push(timestamp, None, Some(b"v"), &[]);
    }
    assert_eq!(rig.produced(0, -1, &builder.finish()), (0, 0));
    let answer = rig.ask(&fetch(0, 0, 1), 11);
    let response: FetchResponse<'_> = read(&answer, 11).expect("a fetch response");
    let Some(Records::Slice(found)) = &partition_of(&response).records else { panic!("no records") };
    let batch = Batch::parse(found).expect("a batch");
    batch.verify_crc().expect("whole");
    assert_eq!(batch.header().max_timestamp, now);
    let mut read = Vec::new();
    for record in &batch.records(1 << 20).expect("records") {
        read.push(record.expect("a record").timestamp);
    }
    assert_eq!(read, [now - MONTHS, now, now - 2 * MONTHS]);
}

#[test]
fn a_topic_may_stamp_records_when_they_arrive() {
    let mut rig = Rig::new();
    let config =
        CreatableTopicConfig { name: "message.timestamp.type".into(), value: Some("LogAppendTime".into()) };
    let topic = CreatableTopic {
        name: "stamped".into(),
        num_partitions: 1,
        replication_factor: 1,
        configs: vec![config],
        ..Default::default()
    };
    rig.ask(&CreateTopicsRequest { topics: vec![topic], ..Default::default() }, 5);
    let records = batch(&["a"], 1);
    let now = rig.world.now;
    let data = PartitionProduceData { index: 0, records: Some(Records::Slice(&records)) };
    let topic = TopicProduceData { name: "stamped".into(), partition_data: vec![data], ..Default::default() };
    let request =
        ProduceRequest { acks: -1, timeout_ms: 30_000, topic_data: vec![topic], ..Default::default() };
    let answer = rig.ask(&request, 9);
    let response: ProduceResponse<'_> = read(&answer, 9).expect("a produce response");
    let told = &response.responses[0].partition_responses[0];
    assert_eq!((told.error_code, told.log_append_time_ms), (0, now));
    let mut request = fetch(0, 0, 1);
    request.topics[0].topic = "stamped".into();
    let answer = rig.ask(&request, 11);
    let response: FetchResponse<'_> = read(&answer, 11).expect("a fetch response");
    let Some(Records::Slice(found)) = &partition_of(&response).records else { panic!("no records") };
    let batch = Batch::parse(found).expect("a batch");
    batch.verify_crc().expect("whole");
    assert_eq!(batch.header().timestamp_type(), TimestampType::LogAppendTime);
    assert_eq!(batch.header().max_timestamp, now);
}
